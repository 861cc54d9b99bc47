# Run from the project's root. `make demo` and `make test` need Python 3.11+ and what README.md lists, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
CONFIG ?= configs/fixture.yaml
STAMP  := $(VENV)/.installed
# Tests run in as many processes as there are cores, but 8 at most; the tests of a file stay together and share what it made.
TESTS  := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

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
	$(TESTS) -m 'not slow and not gpu'

test-slow: install
	$(TESTS) -m 'slow and not gpu'

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "docs: build/site/index.html"

coverage: install
	$(TESTS) -q -m 'not slow and not gpu' --cov=cache --cov=pipeline --cov=tasks --cov-report=term

bench: install
	$(BIN)/python benchmarks/fixture_seeds.py
	$(BIN)/python benchmarks/bootstrap.py

clean:
	rm -rf $(VENV) var build *.egg-info
