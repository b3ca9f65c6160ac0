# Everything here runs offline once installed. PYTHON is what makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE := 1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-slow test-real wheel-test lint format typecheck check

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

demo: $(VENV)/.demo  ## Run the whole pipeline on the data in data/, about 6 minutes on 2 cores; ends with a page's path.
	$(BIN)/bllossom run configs/demo/recipe.yaml
	$(BIN)/bllossom report runs/demo

test: $(VENV)/.dev  ## Run the tests, without the slow ones, on two processes of one thread each.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" --numprocesses 2 --dist loadfile --durations=15

test-slow: $(VENV)/.dev  ## Run the tests longer than 20 seconds.
	$(BIN)/python -m pytest -q -m slow

test-real: $(VENV)/.dev  ## Run every test on real data (BLLOSSOM_SHARED, default ../shared).
	$(BIN)/python -m pytest -q -m real_data

wheel-test: $(VENV)/.dev  ## Build the wheel, install it outside the repository, and run it there.
	$(BIN)/python scripts/wheel_test.py

lint: $(VENV)/.dev  ## Check with ruff, and the contracts on imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## Format with ruff.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/.dev  ## Check types with mypy.
	$(BIN)/mypy

check: test lint typecheck  ## What CI runs.

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[eval,report]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $@
