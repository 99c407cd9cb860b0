# Needs Python 3.11 or newer with venv, git and make; everything else is installed into .venv, once.
#
#   make demo     build the largest CoCa, then train a small one on the CPU and show what it learnt
#   make test     everything that continuous integration checks
#   make setup    only install
#   make gpu-test on a machine with a GPU: its kernels, and steps of all papers, beside the processor's
#   make fuzz     strange values, damaged pictures and spoilt blueprints by the thousand, for an hour
#   make lint | format | types | contracts | docs | pytest    one of the checks

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_PIP := $(BIN)/uv pip install --python $(BIN)/python
# What tests compare with, of which the declared requirements are too old to stand beside ours (docs/decisions/0021).
SECOND_WRITINGS := torchscale==0.3.0 fairscale==0.4.13
PYTEST_ARGS ?=
# One worker more than there are cores: many tests wait for servers and other processes.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
COUNT ?= 25000
SEED ?= 0

# Byte code is worth its disk: without it every command would compile torch again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test setup lint format types contracts docs pytest gpu-test fuzz upgrade clean
.DEFAULT_GOAL := help

help:
	@sed -n '/^#   make/s/^#   //p' $(firstword $(MAKEFILE_LIST))

demo: setup
	$(BIN)/compose-vlp demo

# The site is built by its tests, as strictly as by `make docs`.
test: lint types contracts pytest

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tools/find_python.sh tools/warm_up.py
	@python=$$(tools/find_python.sh) && { test -x $(BIN)/python || "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(UV_PIP) --constraint constraints.txt --build-constraint constraints.txt --editable '.[dev]'
	@$(UV_PIP) --quiet --no-deps $(SECOND_WRITINGS) || echo "no torchscale: the tests that hold BEiT-3 to it are skipped"
	$(BIN)/python tools/warm_up.py
	@touch $@

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check

format: setup
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

types: setup
	$(BIN)/mypy

contracts: setup
	$(BIN)/lint-imports --no-logo

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# All at the lowest priority, and so equal: what a run sends to MLflow from a process of low priority would wait for ever else.
pytest: setup
	nice -n 19 $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal $(PYTEST_ARGS)

# Ends with 2 where torch sees no GPU.
gpu-test: setup
	$(BIN)/pytest -m gpu --numprocesses 0 $(PYTEST_ARGS)

fuzz: setup
	$(BIN)/python -m tests.fuzz.records --count $(COUNT) --seed $(SEED)
	$(BIN)/python -m tests.fuzz.blueprints --count $(COUNT) --seed $(SEED)

# Newest releases within the ranges of pyproject.toml, as pins for every Python from 3.11.0 on and every platform.
upgrade: setup
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11.0 --no-header --no-annotate --extra dev --output-file constraints.txt pyproject.toml
	@touch pyproject.toml

clean:
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
