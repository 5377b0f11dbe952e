# `make demo` and `make test` are all that a newcomer needs; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
TESTED := $(VENV)/tested

# What the fast tests depend on: one checksum over the content of all these files.
SOURCES := $(wildcard sweeper trainables analysis tests benchmarks grids docs *.md *.toml *.yaml *.lock Makefile)
DIGEST := find $(SOURCES) -type f ! -path '*/__pycache__/*' | LC_ALL=C sort | xargs cksum

FAST := not long and not root

.DEFAULT_GOAL := setup
.PHONY: help setup demo test check lint check-long verify verify-quick bench reference format lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED)  ## make .venv with the locked dependencies and the command `sweeper`

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c '' || { echo "sweeper needs Python 3.11 or newer, and '$(PYTHON)' can't be run: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sweeper needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -V 2>&1): make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the locked dependencies into $(VENV): 1 to 3 minutes, 2 GB (more with CUDA) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Done: $(BIN)/sweeper --help"

demo: setup  ## launch grids/depth.yaml, print a table of cells, draw depth.png
	$(BIN)/sweeper launch grids/depth.yaml --yes
	$(BIN)/sweeper sql depth "select model.depth as depth, round(regularizer.strength, 6) as strength, median(delay)::int as delay, count_if(phase = 'comprehension') as comprehension, count_if(phase = 'grokking') as grokking, count_if(phase = 'memorization') as memorization, count_if(phase = 'confusion') as confusion, count_if(phase = 'split') as split from cells group by all order by all"
	$(BIN)/sweeper phase depth --x regularizer.strength --y selection.tau --facet model.depth -o $(CURDIR)/depth.png
	@echo "  Squares: median over 5 seeds of the steps from memorizing to generalizing."
	@echo "  Depth 1: the delay falls as 1 / strength, from some 70,000 steps to 200."
	@echo "  Depths 2 and 3: it hardly depends on the strength; depth 3 often has none."
	@echo "  Hatched: a lower bound. From tau = 0.6 on, few trials generalize in time."
	@echo "  Beige, on the right: too strong a penalty to fit even the training data."

test: setup  ## run the fast tests
	@$(DIGEST) > $(TESTED).new
	$(BIN)/python -m pytest -m "$(FAST)" -n auto --dist loadgroup
	@mv $(TESTED).new $(TESTED)

# All that CI runs. The tests aren't run again on the very files that they have passed on.
check: lint  ## format, lint, layers, types (on Linux and macOS), fast tests
	@if $(DIGEST) | cmp -s - $(TESTED); then echo "The fast tests have passed on these files ('make test' runs them again)."; else $(MAKE) --no-print-directory test; fi

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin

check-long: setup  ## run what is too slow for check, at most 60 minutes
	$(BIN)/python -m pytest -m "long or root" -n auto --dist loadgroup --timeout 3600

verify: setup  ## measure the papers' laws, write docs/reproduction.md; at most 60 minutes
	$(BIN)/sweeper verify --report docs/reproduction.md

verify-quick: setup  ## measure those laws that take seconds, on cut grids; at most 5 minutes
	$(BIN)/sweeper verify --quick

bench: setup  ## run the benchmarks side by side with their peers: some 30 minutes
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.packing
	$(BIN)/python -m benchmarks.orchestration
	$(BIN)/python -m benchmarks.analysis
	$(BIN)/python -m benchmarks.growth

reference: setup  ## write docs/reference anew, from the code
	$(BIN)/python -m docs.make_reference

format: setup  ## format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## write requirements.lock anew from the ranges in pyproject.toml
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	echo 'torch==2.13.0' > build/lock/constraints.txt
	build/lock/bin/python -m pip install --quiet -c build/lock/constraints.txt '.[cluster,dev]'
	sed -n '/^#/p' requirements.lock > build/lock/requirements.lock
	build/lock/bin/python -m pip freeze --all | grep -vE '^(pip|sweeper)( @|==)' | sed 's/+cpu$$//' >> build/lock/requirements.lock
	mv build/lock/requirements.lock requirements.lock

clean:  ## remove the environment and the caches; sweeps stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
