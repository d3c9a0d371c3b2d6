# `make quickstart` and `make test` set up everything they need in .venv and run.
#
#   PYTHON=python3.12 make test     another interpreter
#   OUT=somewhere make quickstart   another output folder
#   FUZZ_SECONDS=300 make fuzz      longer than 30 seconds a target
#
# pip's own variables work as always; for example PIP_EXTRA_INDEX_URL picks a CPU build of torch.

PYTHON ?= python3
OUT ?= quickstart
FUZZ_SECONDS ?= 30
VENV := .venv
BIN := $(VENV)/bin
JOBS := $(shell nproc 2>/dev/null || echo 2)

SOURCES := pyproject.toml CMakeLists.txt constraints.txt README.md LICENSE \
	$(shell find csrc python -type f ! -name '*.pyc' 2>/dev/null)
CXX_FILES := $(shell find csrc -name '*.cpp' -o -name '*.hpp' 2>/dev/null)

# Continuous integration sets CI; there a compiler warning is an error.
BUILD_FLAGS := $(if $(CI),--config-settings=cmake.define.PNAG_WERROR=ON)

# cmake looks for ninja on the PATH.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: quickstart test bench lint format sanitize fuzz mutants aarch64 nightly clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/.run
	$(BIN)/pnag quickstart --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/cmake --preset ci -DPNAG_BUILD_PYTHON=OFF >/dev/null
	$(BIN)/cmake --build --preset ci -j $(JOBS)
	$(BIN)/ctest --preset ci -j $(JOBS) --output-on-failure
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile --benchmark-disable \
		tests --pyargs pnag_fast

bench: $(VENV)/.dev
	$(BIN)/python -m pytest bench --benchmark-only

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

sanitize: $(VENV)/.dev
	$(BIN)/cmake --preset asan >/dev/null
	$(BIN)/cmake --build --preset asan -j $(JOBS)
	PNAG_RANDOM_FRONTS=$${PNAG_RANDOM_FRONTS:-10000} $(BIN)/ctest --preset asan -j $(JOBS) --output-on-failure

fuzz: $(VENV)/.dev
	csrc/fuzz/run.sh $(FUZZ_SECONDS)

# Deliberate faults, of which the tests are to notice most; hours. MUTANTS="--resume" goes on.
mutants: $(VENV)/.dev
	$(BIN)/python tests/mutants.py --jobs $(JOBS) $(MUTANTS)

# Needs Debian's g++-aarch64-linux-gnu and qemu-user. Both machines must give the same bits.
aarch64: $(VENV)/.dev
	for preset in ci aarch64; do \
		$(BIN)/cmake --preset $$preset >/dev/null && \
		$(BIN)/cmake --build --preset $$preset -j $(JOBS) || exit; \
	done
	PNAG_RANDOM_FRONTS=2000 $(BIN)/ctest --preset aarch64 -j $(JOBS) --output-on-failure
	build/ci/digest >build/ci/digest.txt
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/digest | diff build/ci/digest.txt -

# What continuous integration has no time for.
nightly: $(VENV)/.dev
	$(BIN)/cmake --preset ci -DPNAG_BUILD_PYTHON=OFF >/dev/null
	$(BIN)/cmake --build --preset ci -j $(JOBS)
	PNAG_RANDOM_FRONTS=1000000 $(BIN)/ctest --preset ci -j $(JOBS) --output-on-failure
	PNAG_RANDOM_FRONTS=50000 $(BIN)/python -m pytest tests/test_pareto.py -k random_fronts
	csrc/fuzz/run.sh 600

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks

$(VENV)/bin/python:
	@command -v $${CXX:-c++} >/dev/null || { echo "No C++ compiler found: install one \
	(Debian: apt-get install g++) or name it in CXX." >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; \
	sys.exit(None if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")) else \
	"The headers of Python are missing: install them (Debian: apt-get install python3-dev).")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --disable-pip-version-check $(BUILD_FLAGS) \
		-c constraints.txt '.[all]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python $(SOURCES) tests/oracles.txt
	$(BIN)/python -m pip install --disable-pip-version-check $(BUILD_FLAGS) \
		-c constraints.txt '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r tests/oracles.txt
	touch $@ $(VENV)/.run
