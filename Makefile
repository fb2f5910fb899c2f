# What a contributor does, each from a fresh machine: it sets up whatever it needs. `make` alone says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

comma := ,
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.set-up

# Under sudo the environment belongs to whom the checkout belongs, who will use it without sudo too.
OWNER := $(shell stat -c %U .)
AS_OWNER := $(if $(filter 0,$(shell id -u)),$(if $(filter-out root UNKNOWN,$(OWNER)),runuser -u $(OWNER) --))
# Then what runs as root must not leave files that the owner cannot remove.
PYTEST := $(BIN)/python $(if $(AS_OWNER),-B) -m pytest $(if $(AS_OWNER),-p no:cacheprovider)
# Two files at a time, on any machine: most of an end-to-end test is waiting, but some measure how long something takes.
# In the order of the tree: by the number of tests, files of few long ones come last, and one process waits for the other.
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Namespaces want root; without it sudo is asked, and where there is none the program says what it cannot do.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),$(if $(shell command -v sudo),sudo --preserve-env=CI$(comma)HYPOTHESIS_PROFILE))

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(STAMP) ## show the main job against a small internet of its own, in namespaces
	$(BIN)/netstack demo

.PHONY: fast
fast: $(STAMP) ## compile the packet path: what services then run until a source changes; needs gcc and python3-dev
	@$(AS_OWNER) $(BIN)/python -m netstack.cli.compiling

.PHONY: test
test: $(STAMP) packages fast-if-possible ## run all tests, end to end ones too: those need root, or sudo
	@if [ "$$(id -u)" != 0 ]; then echo "make test: the end-to-end tests need root$(if $(AS_ROOT),: asking sudo,; without sudo they are skipped)" >&2; fi
	$(AS_OWNER) $(BIN)/python -m compileall -q netstack services tests bench
	$(AS_ROOT) $(PYTEST) $(PARALLEL) $(ARGS)

.PHONY: check
check: lint test ## run lint, then all tests

.PHONY: lint
lint: $(STAMP) ## look at style, types and which module imports which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: fmt
fmt: $(STAMP) ## format the tree and correct what can be corrected by itself
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: bench
bench: $(STAMP) packages fast-if-possible ## run ours beside slirp4netns, pasta and the bare kernel
	$(AS_ROOT) $(BIN)/python -m bench $(ARGS)

.PHONY: test-compose
test-compose: $(STAMP) ## run docker-compose.yml on the Docker Engine of this machine
	$(PYTEST) tests/compose/on_engine.py --timeout 900 $(ARGS)

.PHONY: test-browser
test-browser: $(STAMP) ## load pages by a real Chromium, which it installs
	@tests/install-packages chromium:chromium
	$(AS_ROOT) $(PYTEST) tests/e2e/on_chromium.py -rP $(ARGS)

.PHONY: nightly
nightly: $(STAMP) ## try 100,000 examples of each property
	HYPOTHESIS_PROFILE=nightly $(PYTEST) tests/packet tests/wire tests/runtime tests/services $(ARGS)

.PHONY: packages
packages:
	@tests/install-packages

# What tests and measurements run is what a user of the fast form runs. The packages come first: a compiler is among them.
.PHONY: fast-if-possible
fast-if-possible: $(STAMP) packages
	@$(AS_OWNER) $(BIN)/python -m netstack.cli.compiling --if-possible

.PHONY: clean
clean: ## remove what the others made
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache bench/out build dist
	find netstack services tests bench -name __pycache__ -prune -exec rm -rf {} +

# The environment, made anew when its dependencies change.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
	  { echo "make: there is no $(PYTHON); install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $$($(PYTHON) --version) is too old, 3.11 or newer is needed; name one with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) cannot make virtual environments (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(AS_OWNER) $(PYTHON) -m venv .venv
	$(AS_OWNER) $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(AS_OWNER) touch $@
