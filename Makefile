# Every verb installs what it needs first, into .uv, .venv and .cache of this checkout.
# Needs Python 3.11 to 3.13, make, and network to the package registries; no root, no docker.

PYTHON ?= python3
TORCH ?= auto
BIN := .venv/bin/python
FRESH := scripts/bootstrap.py
export TORCH
# Bytecode is written once and halves every later start.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help demo up test check gen bench faults setup clean

help: ## print this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 16
	@echo
	@echo "  TORCH=cpu|cuda picks torch's build where the default finds none; PYTHON=... the interpreter"

# From the moment it was typed, so that the report can say how long the first grant took.
demo: export ASSENT_DEMO_STARTED := $(shell date +%s)
demo: ## install, start everything, run the scenario, write demo-report.json; DATA=DIR takes real files
	@$(PYTHON) $(FRESH) demo
	@$(BIN) -m exchange demo --began "$$ASSENT_DEMO_STARTED" $(if $(DATA),--data "$(DATA)")

up: ## install, start everything, print one link per role, and stay up
	@$(PYTHON) $(FRESH) demo
	@$(BIN) -m exchange up --demo

test: setup ## run every test; ARGS="-k name" narrows
	@echo "testing ..."
	@ASSENT_REQUIRE_ALL=1 $(BIN) -m pytest -n 2 --dist loadfile -q $(ARGS)

check: setup ## format, lint, types, the import rule, generated files
	@$(BIN) -m ruff format --check --quiet . || { echo "next: .venv/bin/ruff format"; exit 1; }
	@$(BIN) -m ruff check --quiet .
	@$(BIN) -m mypy
	@.venv/bin/lint-imports --no-cache
	@$(BIN) scripts/gen_docs.py --check

gen: setup ## write the generated documents anew
	@$(BIN) scripts/gen_docs.py

bench: setup ## list the benchmarks; NAME=release runs one and prints JSON lines
	@$(if $(NAME),$(BIN) tests/bench/$(NAME).py $(ARGS),ls tests/bench/*.py | sed 's|.*/\(.*\)\.py|  make bench NAME=\1|')

faults: setup ## kill processes at random moments and count what was lost; FULL=1 runs all rounds
	@$(BIN) tests/faults/run.py $(if $(FULL),--full) $(ARGS)

setup: ## install everything and run nothing
	@$(PYTHON) $(FRESH) test

clean: ## remove what was installed and written here
	rm -rf .venv .uv .cache .assent demo-report.json contracts/node_modules
