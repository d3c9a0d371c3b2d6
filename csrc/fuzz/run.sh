#!/usr/bin/env bash
# Build the fuzz targets and run each for some seconds from nothing, two at a time.
#
#   csrc/fuzz/run.sh [SECONDS]
#
# What stops a target is left in build/fuzz; build/fuzz/fuzz_NAME FILE repeats it.
set -euo pipefail
cd "$(dirname "$0")/../.."

probe='extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
if ! clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null <<<"$probe"; then
    echo "SKIPPED: fuzzing needs clang++ with its libFuzzer (Debian: apt-get install clang)" >&2
    exit 0
fi
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
cd build/fuzz

run_one() {
    if ./fuzz_"$1" -max_total_time="$2" -max_len=512 -len_control=20 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="$1-" >"$1.log" 2>&1; then
        echo "$1: nothing found in $(sed -n 's/.*executed_units: *//p' "$1.log") inputs"
    else
        grep -vE "^#[0-9]|NEW_FUNC" "$1.log" | tail -n 40 >&2
        return 1
    fi
}
export -f run_one
printf '%s\n' space cost window pareto | xargs -P 2 -I{} bash -c "run_one {} ${1:-30}"
