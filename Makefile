# Run from the project's root. `make demo` and `make test` need Python 3.11+ and what README.md lists, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CONFIG ?= configs/fixture.yaml
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow lint install bench docs coverage clean
.DEFAULT_GOAL := demo

install: $(STAMP)

$(STAMP): setup.py constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt 'setuptools<82' wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -c 'import cv2' || { echo 'opencv cannot be imported: on Debian or Ubuntu, apt-get install libgl1 libglib2.0-0'; exit 1; }
	touch $(STAMP)

demo: install
	$(BIN)/luigi --module tasks EvaluateAll --config $(CONFIG)
	$(BIN)/gig report --config $(CONFIG)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -m 'not slow and not gpu'

test-slow: install
	$(BIN)/python -m pytest -m 'slow and not gpu'

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "docs: build/site/index.html"

coverage: install
	$(BIN)/python -m pytest -q -m 'not slow and not gpu' --cov=cache --cov=pipeline --cov=tasks --cov-report=term

bench: install
	$(BIN)/python benchmarks/fixture_seeds.py
	$(BIN)/python benchmarks/bootstrap.py

clean:
	rm -rf $(VENV) var build *.egg-info
