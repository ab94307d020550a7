# `make demo` plays the story on this machine, `make test` runs every test; both install what they need into .venv first.
#
#   make demo COURSE=folder    the same story with your own folder as the course
#   make test ARGS="-k text"   further arguments for pytest (WORKERS=0: one after the other, in one process)
#   make PYTHON=python3.13 …   another interpreter (3.11 or later)

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PYTHON ?=
COURSE ?=
ARGS ?=
# Many tests wait for programs that they started: two workers more than there are cores. A file's tests stay together, and
# files keep their order: the simulator's histories first (tests/conftest.py), the short ones of tests/unit last.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 1) + 2)

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

# Both start our programs many times over: they are compiled beforehand, as pip does for what it installs.
COMPILE := $(BIN)/python -m compileall -q -j 0 protocol sync_agent sync_server
# pip compiles on one processor; as with pip, what does not compile is nobody's concern until it is imported.
COMPILE_INSTALLED = $(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true

.PHONY: demo
demo: $(VENV)/.package ## a server, a teacher and two pupils' PCs: outage, hand-in, return (COURSE=folder for your own course)
	@$(COMPILE)
	$(BIN)/python deploy/demo/demo.py $(if $(COURSE),"$(COURSE)")

.PHONY: test
test: $(VENV)/.package $(VENV)/.development system-tools ## every test
	@$(COMPILE) tests
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: simulate
simulate: $(VENV)/.package $(VENV)/.development ## random histories from seeds (SEEDS=0-1999)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),0-1999) --keep-going

.PHONY: lint
lint: $(VENV)/.development ## style, layout, directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

.PHONY: types
types: $(VENV)/.development ## mypy, strict
	$(BIN)/mypy

.PHONY: coverage
coverage: override ARGS += --branches
coverage: test ## every test, and the branches of protocol/ that they reach

.PHONY: bench
bench: $(VENV)/.package ## the figures of the README, each beside its peers (minutes)
	$(BIN)/python bench/run.py $(ARGS)

.PHONY: clean
clean: ## forget what make made
	rm -rf $(VENV) .lock-venv build dist ./*.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, in three steps that are repeated only when what they depend on has changed. A missing venv module or
# an interpreter that is too old is named; an environment whose interpreter is gone is made anew.

ifneq ($(shell $(BIN)/python -c 'print("ok")' 2>&1),ok)
.PHONY: $(VENV)/.runtime
endif

.PHONY: environment
environment: python-environment system-tools

.PHONY: python-environment
python-environment: $(VENV)/.package $(VENV)/.development

$(VENV)/.runtime: constraints.txt
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  if "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	  python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or later with its venv module is needed (Debian: apt-get install python3-venv), or name one: make PYTHON=…" >&2; \
	  exit 1; \
	fi; \
	echo "installing into $(VENV), with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV)
	@$(PIP) install --no-compile --require-hashes --no-deps -r constraints.txt
	@$(COMPILE_INSTALLED)
	@touch $@

$(VENV)/.development: $(VENV)/.runtime constraints-dev.txt
	@$(PIP) install --no-compile --require-hashes --no-deps -r constraints-dev.txt
	@$(COMPILE_INSTALLED)
	@touch $@

$(VENV)/.package: $(VENV)/.runtime pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# strace stops the programs at a chosen write, fsync or rename: the crash tests need it. Pages are tested in Chromium
# without windows (the whole one does too, and takes half as long again), units of services are judged by systemd-analyze,
# which needs no running systemd, and the configurations of proxies run in nginx and Caddy, whose own services are put to
# rest again.
.PHONY: system-tools
system-tools:
	@missing=; PATH=$$PATH:/usr/sbin; for tool in strace chromium-headless-shell systemd-analyze nginx caddy; do \
	  command -v "$$tool" >/dev/null || missing="$$missing $${tool%-analyze}"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing fonts-dejavu-core >/dev/null; \
	  for service in nginx caddy; do case "$$missing" in *$$service*) systemctl disable --now $$service 2>/dev/null || true;; esac; done; \
	else \
	  echo "missing, and needed by some tests:$$missing; install with your system's packages (Debian: apt-get install$$missing)" >&2; \
	fi

# New versions are taken on purpose, by this command, and reviewed as a change. One resolution serves every platform; the
# files hold names, versions and hashes, no address. setuptools is the build backend, pinned with the rest.
LOCK := .lock-venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock"

.PHONY: lock
lock: ## pin the newest dependencies
	@python3 -m venv .lock-venv && .lock-venv/bin/python -m pip --quiet install uv
	@echo setuptools | $(LOCK) pyproject.toml - --output-file constraints.txt
	@echo setuptools | $(LOCK) pyproject.toml - --extra dev --constraint constraints.txt --output-file constraints-dev.txt
	@rm -rf .lock-venv
