# `make quickstart` and `make test` set up everything they need in .venv and run.
#
#   PYTHON=python3.12 make test     another interpreter, 3.10 or newer; .venv is made anew for it
#   OUT=somewhere make quickstart   another output folder
#   FUZZ_SECONDS=300 make fuzz      longer than 30 seconds a target
#
# `make core` builds the C++ core into the checkout: CONTRIBUTING.md says how to work without installing.
#
# pip's own variables work as always; for example PIP_EXTRA_INDEX_URL picks a CPU build of torch.

OUT ?= quickstart
FUZZ_SECONDS ?= 30
VENV := .venv
BIN := $(VENV)/bin

# Unless another one is asked for, the Python that .venv was made with, if that is new enough.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& echo $(BIN)/python || echo python3)
endif
# Its version names the stamps, so that an environment of another one is made anew; its own path,
# because below .venv comes first on the PATH, and because .venv cannot make itself anew.
TELL := import sys; print("%d.%d.%d" % sys.version_info[:3])
VERSION := $(shell $(PYTHON) -c '$(TELL)' 2>/dev/null)
BASE := $(shell $(PYTHON) -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))' \
	2>/dev/null)
JOBS := $(shell nproc 2>/dev/null || echo 2)

SOURCES := pyproject.toml CMakeLists.txt constraints.txt README.md LICENSE \
	$(shell find csrc python -type f ! -name '*.pyc' ! -name '*.so' 2>/dev/null)
CXX_FILES := $(shell find csrc -name '*.cpp' -o -name '*.hpp' 2>/dev/null)

# Continuous integration sets CI; there a compiler warning is an error.
BUILD_FLAGS := $(if $(CI),--config-settings=cmake.define.PNAG_WERROR=ON)

# cmake looks for ninja on the PATH.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: quickstart test core bench lint format sanitize fuzz mutants aarch64 nightly clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/.run-$(VERSION)
	$(BIN)/pnag quickstart --out $(OUT)

test: $(VENV)/.dev-$(VERSION)
	$(BIN)/cmake --preset ci -DPNAG_BUILD_PYTHON=OFF >/dev/null
	$(BIN)/cmake --build --preset ci -j $(JOBS)
	$(BIN)/ctest --preset ci -j $(JOBS) --output-on-failure
	$(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile --benchmark-disable \
		tests --pyargs pnag_fast

# Installs nothing, so that it takes seconds after an edit; the tools are those of `make test`.
core:
	@test -x $(BIN)/pybind11-config || { echo "There are no tools in $(VENV): run 'make test' once." \
	>&2; exit 1; }
	$(BIN)/cmake --preset dev -DPython_EXECUTABLE=$(abspath $(BIN)/python) \
		-Dpybind11_DIR=$$($(BIN)/pybind11-config --cmakedir) >/dev/null
	$(BIN)/cmake --build --preset dev -j $(JOBS)

bench: $(VENV)/.dev-$(VERSION)
	$(BIN)/python -m pytest bench --benchmark-only

lint: $(VENV)/.dev-$(VERSION)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy

format: $(VENV)/.dev-$(VERSION)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

sanitize: $(VENV)/.dev-$(VERSION)
	$(BIN)/cmake --preset asan >/dev/null
	$(BIN)/cmake --build --preset asan -j $(JOBS)
	PNAG_RANDOM_FRONTS=$${PNAG_RANDOM_FRONTS:-10000} $(BIN)/ctest --preset asan -j $(JOBS) --output-on-failure

fuzz: $(VENV)/.dev-$(VERSION)
	csrc/fuzz/run.sh $(FUZZ_SECONDS)

# Deliberate faults, of which the tests are to notice most; hours. MUTANTS="--resume" goes on.
mutants: $(VENV)/.dev-$(VERSION)
	$(BIN)/python tests/mutants.py --jobs $(JOBS) $(MUTANTS)

# Needs Debian's g++-aarch64-linux-gnu and qemu-user. Both machines must give the same bits.
aarch64: $(VENV)/.dev-$(VERSION)
	for preset in ci aarch64; do \
		$(BIN)/cmake --preset $$preset >/dev/null && \
		$(BIN)/cmake --build --preset $$preset -j $(JOBS) || exit; \
	done
	PNAG_RANDOM_FRONTS=2000 $(BIN)/ctest --preset aarch64 -j $(JOBS) --output-on-failure
	build/ci/digest >build/ci/digest.txt
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/digest | diff build/ci/digest.txt -

# What continuous integration has no time for.
nightly: $(VENV)/.dev-$(VERSION)
	$(BIN)/cmake --preset ci -DPNAG_BUILD_PYTHON=OFF >/dev/null
	$(BIN)/cmake --build --preset ci -j $(JOBS)
	PNAG_RANDOM_FRONTS=1000000 $(BIN)/ctest --preset ci -j $(JOBS) --output-on-failure
	PNAG_RANDOM_FRONTS=50000 $(BIN)/python -m pytest tests/test_pareto.py -k random_fronts
	csrc/fuzz/run.sh 600

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks

$(VENV)/.python-$(VERSION):
	@test -n "$(VERSION)" || { echo "There is no Python called '$(PYTHON)': name one in PYTHON, for \
	example PYTHON=python3.12 make quickstart" >&2; exit 1; }
	@"$(BASE)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "pnag-fast needs Python \
	3.10 or newer, and '$(PYTHON)' is $(VERSION): name another one in PYTHON, for example \
	PYTHON=python3.12 make quickstart" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || { echo "No C++ compiler found: install one \
	(Debian: apt-get install g++) or name it in CXX." >&2; exit 1; }
	@"$(BASE)" -c 'import os, sys, sysconfig; \
	sys.exit(None if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")) else \
	"The headers of Python are missing: install them (Debian: apt-get install python3-dev).")'
	[ "$$($(BIN)/python -c '$(TELL)' 2>/dev/null)" = "$(VERSION)" ] && \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(BASE)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.run-$(VERSION): $(VENV)/.python-$(VERSION) $(SOURCES)
	@echo "Building the C++ core and installing into $(VENV): 1 to 3 minutes the first time, more where \
	torch and TVM have to be downloaded (about 1 GB)."
	$(BIN)/python -m pip install --disable-pip-version-check $(BUILD_FLAGS) \
		-c constraints.txt '.[all]'
	touch $@

$(VENV)/.dev-$(VERSION): $(VENV)/.python-$(VERSION) $(SOURCES) tests/oracles.txt
	@echo "Building the C++ core and installing with all tools into $(VENV): 1 to 3 minutes the first \
	time, more where torch and TVM have to be downloaded (about 1 GB)."
	$(BIN)/python -m pip install --disable-pip-version-check $(BUILD_FLAGS) \
		-c constraints.txt '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r tests/oracles.txt
	touch $@ $(VENV)/.run-$(VERSION)
