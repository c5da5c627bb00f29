# SPDX-License-Identifier: Apache-2.0
# One name a job; each works from a bare clone. `make help` lists them.
#
#   make PYTHON=/path/to/python3.11 …   another interpreter (3.11 or newer)
#
# Everything is installed into $(VENV), never into the system's Python. As root on Debian, missing
# packages are installed; otherwise the job says in one line what is missing.

PYTHON ?= python3
VENV ?= .venv
export PYTHON

SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN := $(VENV)/bin
PIP := $(BIN)/python -P -m pip -qq --disable-pip-version-check
NEED := @sh .ci/need

# Directories are prerequisites too: a deleted file changes its directory's time.
SOURCES := pyproject.toml setup.py LICENSE \
	$(shell find libnvc cli csrc -name __pycache__ -prune -o -print)
C_FILES = $(shell find csrc libnvc/sim tests -name '*.[ch]' -not -path '*/data/*')

.PHONY: help build demo test test-old-kernel test-asan fuzz bench lint format clean asan-python pytest

help:
	@echo "make build            $(VENV) with libnvc and every command in $(VENV)/bin"
	@echo "make demo             a container with (simulated) GPUs, explained step by step"
	@echo "make test             every test, against the installed package"
	@echo "make test-old-kernel  the same as if on a kernel without the newer mount calls"
	@echo "make test-asan        the same with the C core under AddressSanitizer and UBSan"
	@echo "make fuzz             explore the parsers with libFuzzer, SECONDS=600 each; FUZZ=elf: one of them"
	@echo "make bench            what everything costs, in one run (ROUNDS=5: a quick look); needs root"
	@echo "make lint             ruff, mypy, layers, clang-format, C warnings and -fanalyzer"
	@echo "make format           rewrite the sources as the formatters want them"
	@echo "make clean            remove what these made"

# --- build --------------------------------------------------------------------------------------

build: $(VENV)/.built
	@echo "ready: $(BIN)/nvc, $(BIN)/nvidia-container-cli"

$(VENV)/.created:
	$(NEED) python3=python3 gcc=gcc c-headers=libc6-dev
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "$(PYTHON) is not Python 3.11 or newer: name one by make PYTHON=/path/to/python3" >&2; exit 1; }
	$(NEED) python-build=python3-venv,python3-dev
	@echo "venv: $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install 'pip>=25.1' 'cffi>=1.17'
	@$(PIP) install --target $(VENV)/build 'setuptools>=77'
	@$(PIP) uninstall --yes setuptools
	@touch $@

# A wheel is built and installed, not a link to the tree: what is tested is what users get.
# build/ would bring deleted modules back. What a build requires is there already: that saves fetching
# it anew each time. setuptools lies apart: it would run code of its own whenever Python starts.
$(VENV)/.built: $(VENV)/.created $(SOURCES)
	@echo "build: libnvc -> $(VENV)"
	@rm -rf build libnvc.egg-info
	@PYTHONPATH=$(VENV)/build $(PIP) install --no-build-isolation '.[cli]'
	@rm -rf build libnvc.egg-info
	@touch $@

# --- run ----------------------------------------------------------------------------------------

# As an ordinary user, or where runc cannot be had, the demo makes its own namespaces.
demo: $(VENV)/.built
	@[ "$$(id -u)" != 0 ] || sh .ci/need runc=runc || true
	@$(BIN)/nvc demo

$(VENV)/.test: $(VENV)/.created pyproject.toml
	@[ "$$(id -u)" != 0 ] || sh .ci/need runc=runc crun=crun debootstrap=debootstrap \
	  lxc-execute=lxc newuidmap=uidmap \
	  containerd=containerd ctr=containerd ch-run=charliecloud-runtime ch-fromhost=charliecloud \
	  dockerd=docker.io podman=podman curl=curl
	@echo "install: test dependencies"
	@$(PIP) install --group test
	@touch $@

test: $(VENV)/.built $(VENV)/.test
	@PYTHONSAFEPATH=1 $(BIN)/pytest $(ARGS)

# --- an old kernel ------------------------------------------------------------------------------

# Where all is slow, every 7th point at which a fault is forced must do, and fewer trees.
LESS := LIBNVC_FAULT_STEP=7 LIBNVC_HOSTILE_EXAMPLES=500 LIBNVC_LOADER_EXAMPLES=30

# Python alone, whole engines, packages and programs that are built without sanitizers: once is enough.
ONCE := $(addprefix --ignore=,tests/engines tests/packaging tests/integration/test_callers_apptainer.py tests/integration/test_launcher.py tests/integration/test_launcher_kept.py tests/integration/test_launcher_prestart.py tests/integration/test_launcher_configure.py tests/integration/test_launcher_cdi_hook.py tests/integration/test_ctk_system.py \
  $(wildcard tests/*/test_cdi_[!h]*.py tests/*/test_config.py tests/*/test_ctk_*.py \
    tests/*/test_oci*.py tests/*/test_runtime_*.py tests/property/test_cdi*.py \
    tests/*/test_jetson.py tests/property/test_csv.py \
    tests/property/test_engine_files.py tests/property/test_plain_toml.py))

# Without fsopen nobody attempts fsconfig and fsmount. The variable tells the tests what is denied.
# Kernels before 5.2, and from there up to 5.12.
DENIED := openat2,open_tree,move_mount,mount_setattr,fsopen
DENIED_512 := mount_setattr
# What mounts.
TESTS_512 := tests/integration/faults $(patsubst %,tests/integration/test_%.py,apply bad_input cdi_hook \
  loader_cache loader_order propagation runc_configure running runtimes standalone target_kinds)

$(VENV)/deny: tests/tools/deny.c $(VENV)/.created
	@gcc -std=gnu11 -D_GNU_SOURCE -O1 $< -o $@

test-old-kernel: $(VENV)/.built $(VENV)/.test $(VENV)/deny
	@PYTHONSAFEPATH=1 NVC_DENIED=$(DENIED) $(LESS) \
	  $(VENV)/deny $(DENIED) -- $(BIN)/pytest $(ONCE) $(ARGS)
	@PYTHONSAFEPATH=1 NVC_DENIED=$(DENIED_512) $(LESS) \
	  $(VENV)/deny $(DENIED_512) -- $(BIN)/pytest $(ARGS) $(TESTS_512)

# --- sanitizers ---------------------------------------------------------------------------------

ASAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g

test-asan:
	@CFLAGS="$(ASAN_FLAGS)" LDFLAGS="$(ASAN_FLAGS)" $(MAKE) VENV=.venv-asan .venv-asan/.built .venv-asan/.test
	@$(MAKE) VENV=.venv-asan asan-python
	@$(LESS) $(MAKE) VENV=.venv-asan test ARGS="$(ONCE) $(ARGS)"

# The runtime must be preloaded into the interpreter, and only there: not into runc, ldconfig or
# what runs in a container. So `python` becomes a script that preloads it, and a .pth takes the
# variable out of the environment again.
asan-python:
	@for python in $(BIN)/python3 $(BIN)/python; do \
	  real=$$($(PYTHON) -c 'import sys; print(sys._base_executable)'); \
	  rm -f $$python; \
	  printf '%s\n' '#!/bin/bash' \
	    "export LD_PRELOAD=$$(gcc -print-file-name=libasan.so):$$(gcc -print-file-name=libubsan.so)" \
	    'export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1' \
	    "exec -a \"\$$0\" $$real \"\$$@\"" >$$python; \
	  chmod +x $$python; \
	done
	@echo 'import os; os.environ.pop("LD_PRELOAD", None)' \
	  >$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/asan.pth

# --- fuzzing ------------------------------------------------------------------------------------

# Not part of continuous integration: there the corpora are run once. What is found below
# $(VENV)/fuzz belongs into them, made small by -merge=1 and -minimize_crash=1.
SECONDS ?= 600
FUZZ ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_FLAGS := -std=gnu11 -D_GNU_SOURCE -O1 -g -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=undefined -Icsrc -Itests/fuzz

fuzz:
	$(NEED) clang=clang,libclang-rt-14-dev
	@$(MAKE) --keep-going --jobs=$$(nproc) $(FUZZ:%=fuzz-%)

fuzz-%: $(VENV)/fuzz/%
	@mkdir -p $<.corpus
	@$< -max_total_time=$(SECONDS) -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix=$<- \
	  $<.corpus tests/fuzz/corpus/$* >$<.log 2>&1 || { tail -n 40 $<.log; exit 1; }
	@echo "fuzz: $*: $$(sed -n 's/^stat::number_of_executed_units: *//p' $<.log) runs, nothing found"

.PRECIOUS: $(VENV)/fuzz/%
$(VENV)/fuzz/%: tests/fuzz/fuzz_%.c tests/fuzz/fuzz.h $(wildcard csrc/*.[ch] csrc/launcher/*.[ch])
	@mkdir -p $(@D)
	@clang $(FUZZ_FLAGS) $< -o $@ \
	  $$(sed -n 's|^/\* needs: \(.*\) \*/|\1|p' $< | tr ' ' '\n' | \
	    sed -e 's|.*/.*|csrc/&.c|' -e t -e 's|.*|csrc/nvc_&.c|')

# --- benchmarks ---------------------------------------------------------------------------------

ROUNDS ?= 30

# What is installed is measured: the tree, which also has a libnvc, comes last in the search path.
# It mounts a tmpfs, in a namespace of its own.
bench: $(VENV)/.built
	@[ "$$(id -u)" = 0 ] || { echo "make bench: needs root: it runs containers" >&2; exit 1; }
	$(NEED) strace=strace runc=runc
	@unshare --mount --propagation private $(BIN)/python -P -c \
	  'import sys; sys.path.append("."); from bench.run import main; main($(ROUNDS))'

# --- lint ---------------------------------------------------------------------------------------

$(VENV)/.lint: $(VENV)/.test
	@echo "install: lint tools"
	@$(PIP) install --group lint
	@touch $@

# The layers are read from the installed package: only there is cli/ `libnvc.cli`.
lint: $(VENV)/.built $(VENV)/.lint
	@echo "lint: ruff check";           $(BIN)/ruff check --quiet .
	@echo "lint: ruff format";          $(BIN)/ruff format --quiet --check .
	@echo "lint: mypy --strict";        $(BIN)/mypy --no-error-summary libnvc cli tests examples bench csrc/ffi_build.py
	@echo "lint: layers";               cd $(VENV) && bin/lint-imports --no-cache --config ../pyproject.toml >lint-imports.log || { cat lint-imports.log; exit 1; }
	@echo "lint: clang-format";         $(BIN)/clang-format --dry-run -Werror $(C_FILES)
	@echo "lint: C warnings, -fanalyzer"; PYTHONSAFEPATH=1 $(BIN)/pytest -q --no-summary tests/c/test_analyzer.py >$(VENV)/analyzer.log || { cat $(VENV)/analyzer.log; exit 1; }

format: $(VENV)/.lint
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .
	@$(BIN)/clang-format -i $(C_FILES)

clean:
	@rm -rf .venv .venv-asan build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
