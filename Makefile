# Sets kinesphere up in .venv and runs what people run. Needs Python 3.11 or newer, pip and make; no GPU.
#
#   make demo     the main job on data it makes itself; ends with the path of the report
#   make test     the tests
#   make check    tests, lint, types and layers: what a change has to pass
#   make bench    speed and memory of every phase, and the page of all results: benchmarks/results/index.html
#                 (some ten minutes; make bench-peers PEERS="NAME=PYTHON ..." compares with other programs)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install dev demo test lint format types layers check bench bench-peers clean

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
# The first of these that is new enough; `make PYTHON=/path/to/python` decides otherwise.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)

help:
	@sed -n '2,/^$$/s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

# Debian's Python may come without ensurepip; then its own pip puts one into the new environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "kinesphere needs Python 3.11 or newer: none found on PATH" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV) > /dev/null || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install pip; }

# Without an NVIDIA driver PyTorch's CPU build comes first, from the configured index or from PyTorch's own; installed
# before the rest, it satisfies kinesphere's requirement, and pip never looks at the CUDA libraries.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	command -v nvidia-smi > /dev/null || \
		$(PIP) install --quiet --no-deps "torch==$(TORCH_VERSION)+cpu" 2> /dev/null || \
		$(PIP) install --no-deps --extra-index-url https://download.pytorch.org/whl/cpu "torch==$(TORCH_VERSION)"
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.installed

dev: $(VENV)/.installed-dev

demo: install
	$(BIN)/kinesphere demo --out demo
	@echo "report: $(CURDIR)/demo/report.html"

test: dev
	$(BIN)/pytest -n 2 $(PYTEST_ARGS)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: dev
	$(BIN)/mypy

layers: dev
	$(BIN)/lint-imports --no-logo

check: test lint types layers

bench: dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed/throughput.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed/scaling.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/page.py

bench-peers: dev
	$(BIN)/python benchmarks/peers/peers.py --python $(PEERS) $(BENCH_ARGS)
	$(BIN)/python benchmarks/page.py

clean:
	rm -rf $(VENV) demo
