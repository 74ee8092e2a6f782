# Every target can be typed by hand; CI calls these and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto')
# The last release, or the commit before this one: what a contract may not break.
AGAINST ?= $(shell git describe --tags --abbrev=0 2>/dev/null || git rev-parse --quiet --verify HEAD~1)

.DEFAULT_GOAL := help
.PHONY: help setup lock protos run seed test coverage faults browser lint format bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed ## create the environment and compile the stubs

# uv comes out of the lock too, checked by its hash, and then installs the rest of it.
$(VENV)/installed: requirements.lock pyproject.toml protos/build.py $(PROTOS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Thmnayah needs Python 3.11 or newer: make PYTHON=python3.13 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what requirements.lock names"
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@# Compiled now: the four services would each compile the same modules at the first start.
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml

lock: $(VENV)/installed ## resolve the dependencies again
	@$(LOCK) --all-extras --group dev --upgrade -o requirements.lock
	@$(LOCK) --extra server --upgrade -o requirements-server.lock

protos: $(VENV)/installed ## compile the stubs again
	@$(BIN)/python -m protos.build

run: $(VENV)/installed ## start the whole mesh on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m deploy.local

seed: $(VENV)/installed ## put the sample content into the running mesh
	@$(BIN)/python -m deploy.local.seed

TEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder -m "not fault and not browser"

test: $(VENV)/installed ## run the tests on real components
	@$(TEST) -n 3

coverage: $(VENV)/installed ## run the same tests, and count the lines they run in every process
	@$(TEST) -n 2 --cov --cov-report=term

faults: $(VENV)/installed ## kill every process under load, and count what survives
	@$(BIN)/python -m pytest -m fault

browser: $(VENV)/installed ## try passkeys in a Chromium that is installed, or named in CHROMIUM
	@$(BIN)/python -m pytest -m browser

lint: $(VENV)/installed ## check style, types, imports, contracts and migrations
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m protos.check $(AGAINST)
	@set -e; for service in auth content search; do $(BIN)/python -m libs.migrations services/$$service | $(BIN)/squawk --stdin-filepath migrations.sql; done

format: $(VENV)/installed ## put code and contracts into their form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/buf format --write protos

bench: $(VENV)/installed ## measure the running mesh
	@$(BIN)/python benchmarks/search_quality.py
	@$(BIN)/python benchmarks/rest.py

clean: ## remove the environment and what was built; data stay
	@rm -rf $(VENV) build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
