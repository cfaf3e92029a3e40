# Everything starts from nothing but Python 3.11 to 3.13 with pip: the first target makes .venv.
# The first interpreter that fits is taken; another one is named by PYTHON=.
FITS = import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: demo test lint slow chaos benchmark release oldest docs clean

## demo: the main job on real handwritten digits: 6 minima, 15 paths, a barcode
demo: $(VENV)/.installed
	$(BIN)/toscore run examples/demo.yaml

## test: lint, types, import contracts, and the default tests; files in their order, for the long ones with
## few tests (orchestrator) must not be left for the end, as they are when files with many tests go first
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

chaos: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m chaos

benchmark: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m benchmark -s

## release: sdist and wheel, installed in an empty environment from which a small demo runs
release: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

## oldest: the default tests with the oldest releases of what toscore needs, in an environment of their own
oldest:
	$(MAKE) VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt .venv-oldest/.installed-oldest
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

$(VENV)/.installed-oldest: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

## docs: the documents and the reference as pages in build/docs; a warning is an error
docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --strict

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { \
	  echo "No Python 3.11 to 3.13 found: install one, or name one by make PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[demo]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-oldest runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
