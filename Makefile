# Every target sets up .venv by itself; all that must be there before is Python 3.11 or newer and, for the compiled
# kernels, a C++ compiler.
#
#   make demo      the demonstration (a few minutes, writes demo_output/)
#   make test      every test that is neither slow nor in need of a GPU
#   make bench     benchmarks against their peers: appends to bench/results/, rewrites docs/results/benchmarks.md
#   make lint      ruff, mypy, import-linter
#   make docs      checks the documentation's links and code, rewrites the results report
#   make sanitize  the kernels' tests under the address and undefined-behaviour sanitizers, a GPU's under compute-sanitizer
#   make clean     removes .venv, builds and caches
#
# Variables: PYTHON (interpreter to build .venv from), VENV (default .venv), PYTEST_ARGS (added to pytest's command line),
# TORCH_INDEX (a package index to take PyTorch from, for example one of CPU-only builds).

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?=
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
STAMP_DEMO := $(VENV)/.setup-demo
STAMP_ALL := $(VENV)/.setup-all
SETUP_INPUTS := pyproject.toml constraints.txt $(wildcard setup.py) $(shell find csrc -type f 2>/dev/null)
SETUP_LOG := $(VENV)/setup.log

.PHONY: help demo test bench lint docs sanitize clean
help:
	@sed -n '/^#   make/s/^#   //p' Makefile

demo: $(STAMP_DEMO)
	@$(BIN)/equikernels demo

# As many processes as there are processors, with one thread each: the suites that need more set them themselves.
test: $(STAMP_ALL)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile $(PYTEST_ARGS)

# A GPU's suites are marked gpu and skip themselves where there is none, so only the slow ones are left out here.
bench: $(STAMP_ALL)
	@mkdir -p build
	@$(BIN)/python -m pytest bench -m "not slow" --benchmark-enable --benchmark-only --benchmark-sort=name \
	    --benchmark-columns=median,iqr,rounds --benchmark-json=build/benchmark.json $(PYTEST_ARGS)
	@$(BIN)/python -m bench.record build/benchmark.json
	@$(BIN)/python -m bench.report

lint: $(STAMP_ALL)
	@failed=; \
	$(BIN)/ruff check . || failed="$$failed ruff"; \
	$(BIN)/mypy || failed="$$failed mypy"; \
	$(BIN)/lint-imports || failed="$$failed import-linter"; \
	test -z "$$failed" || { echo "make lint: failed:$$failed"; exit 1; }

docs: $(STAMP_ALL)
	@$(BIN)/python -m bench.report
	@$(BIN)/python -m pytest tests/test_documentation.py $(PYTEST_ARGS)

# The sanitized module lives in a copy of the tree, where the tests and the processes they start find it first, and the
# one in daily use is never replaced by it. Leak checking
# is off because the interpreter itself leaks by design; libstdc++ is preloaded so that C++ exceptions thrown by PyTorch
# pass through the sanitizer's own hook.
SANITIZE_DIR := build/sanitize
SANITIZE_FLAGS := -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g -O1
SANITIZE_PRELOAD = $(shell for l in libasan.so libubsan.so libstdc++.so; do $(CXX) -print-file-name=$$l; done | paste -sd:)
# Tests of what is not compiled here.
NOT_COMPILED := test_interpreter.py test_triton_support.py fourier coordinate_decoder
sanitize: $(STAMP_ALL)
	@test -f setup.py || { echo "make sanitize: setup.py is absent, so there is no extension to build"; exit 1; }
	@rm -rf $(SANITIZE_DIR) && mkdir -p $(SANITIZE_DIR)
	@cp -rL equikernels tests csrc pyproject.toml setup.py $(SANITIZE_DIR)/
	@find $(SANITIZE_DIR) -name '*.so' -delete
	@echo "building the extension with AddressSanitizer and UndefinedBehaviorSanitizer"
	@CFLAGS="$(SANITIZE_FLAGS)" CXXFLAGS="$(SANITIZE_FLAGS)" LDFLAGS="-fsanitize=address,undefined" \
	    $(BIN)/python setup.py --quiet build_ext --force --build-lib $(SANITIZE_DIR) --build-temp build/sanitize-objects
	@test -n "$$(find $(SANITIZE_DIR) -name '_native*.so')" || \
	    { echo "make sanitize: the extension was not built (see the compiler's messages above)"; exit 1; }
	@cd $(SANITIZE_DIR) && LD_PRELOAD="$(SANITIZE_PRELOAD)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	    $(abspath $(BIN))/python -m pytest tests/ops $(addprefix --ignore=tests/ops/,$(NOT_COMPILED)) $(PYTEST_ARGS)
	@if command -v compute-sanitizer >/dev/null && $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	    compute-sanitizer --tool memcheck --error-exitcode 1 $(BIN)/python -m pytest tests/ops -m gpu $(PYTEST_ARGS); \
	else echo "no GPU with compute-sanitizer here: its kernels were not checked"; fi

clean:
	rm -rf $(VENV) build dist .benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf demo_output *.egg-info
	find equikernels -name '_native*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up ---------------------------------------------------------------------------------------------------------

# pip tells more than anyone reads: one dot a package on the screen, everything in the log, its end when it fails.
define install
printf '  %s ' $(1); \
if ! $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt $(2) 2>&1 | tee -a $(SETUP_LOG) | \
    awk '/^ *(Collecting|Obtaining|Building wheel)/ {printf "."; fflush()} /^Installing collected/ {printf " installing"; fflush()}'; \
then echo; tail -n 30 $(SETUP_LOG); echo "set-up failed: the whole log is in $(SETUP_LOG)"; exit 1; fi; \
echo
endef

define setup
@echo "Setting up $(VENV): minutes and up to several gigabytes the first time. Log: $(SETUP_LOG)"; \
$(call install,"PyTorch",$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch); \
$(call install,"equikernels and its libraries",--editable ".[$(1)]")
endef

$(BIN)/python:
	@found=; \
	for candidate in $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14 python); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "equikernels needs Python 3.11 or newer, and none was found: install one, or name one: make PYTHON=/path/to/python3"; \
	    exit 1; \
	fi; \
	"$$found" -m venv $(VENV)

$(STAMP_DEMO): $(SETUP_INPUTS) | $(BIN)/python
	@: > $(SETUP_LOG)
	$(call setup,models)
	@touch $@

$(STAMP_ALL): $(SETUP_INPUTS) | $(BIN)/python
	@: > $(SETUP_LOG)
	$(call setup,models$(comma)test$(comma)bench)
	@touch $(STAMP_DEMO) $@

comma := ,
