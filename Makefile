.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
REQUIREMENTS := requirements.txt
ARGS ?=
DONE := $(VENV)/.installed
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-emit-index-url --no-annotate --no-header pyproject.toml
# Containers often forbid Python to keep compiled modules; without them each process compiles torch's anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

help:      ## list these commands
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(DONE)  ## install into .venv what the other commands need (they do it themselves)

# uv installs in seconds what pip takes minutes for; it lives in the environment, not on the machine.
$(DONE): pyproject.toml $(REQUIREMENTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r $(REQUIREMENTS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

demo: setup  ## the study in small: four training sets, five seeds, a report (about a quarter of an hour on two cores; it tells the time left)
	@echo "Renders photographs, teaches a small diffusion model the classes, draws and filters a pool, trains 20 classifiers, and reports."
	$(BIN)/skinaug classify experiment=akrout2023 scale=demo

test: setup  ## the tests (ARGS="..." are pytest's own)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-python:  ## the tests on another Python: make test-python PYTHON=python3.13
	$(MAKE) test VENV=.venv-$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

test-lowest: setup  ## the tests with the lowest versions that pyproject.toml allows
	@mkdir -p .venv-lowest
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --extra dev --no-emit-index-url --python $(BIN)/python pyproject.toml -o .venv-lowest/requirements.txt
	$(MAKE) test VENV=.venv-lowest REQUIREMENTS=.venv-lowest/requirements.txt

chaos: setup  ## kills, power cuts, full disks, races and hostile inputs (about ten minutes on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal -m chaos tests/chaos

cluster: setup  ## the tests of sweeps through Slurm; they skip where `sinfo` finds none
	$(BIN)/python -m pytest -q -m cluster tests/cluster

requirements: setup  ## pin in requirements.txt what pyproject.toml asks for (newest versions: ARGS=--upgrade)
	$(COMPILE) $(ARGS) -o requirements.txt

# The wheel is built from the sdist, so that each shows the other to be whole; the build backend is the environment's own.
dist: setup  ## wheel and sdist into dist/, after a look whether requirements.txt is current
	rm -rf dist && mkdir dist
	@cp requirements.txt dist/ && $(COMPILE) -o dist/requirements.txt
	@diff requirements.txt dist/requirements.txt || { echo "requirements.txt is not what pyproject.toml asks for: make requirements"; exit 1; }
	@rm dist/requirements.txt
	$(BIN)/uv build --no-build-isolation --python $(BIN)/python --out-dir dist
	SKINAUG_DIST=dist $(BIN)/python -m pytest -q -p no:xdist tests/test_release.py

docs: setup  ## this documentation as a site with search: build/docs/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -n -b html docs build/docs

check: setup  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## speed of the parts, ours against the plain way
	$(BIN)/python -m tests.bench

clean:  ## remove the environment, the store and the outputs
	rm -rf $(VENV) .venv-* store outputs .pytest_cache .ruff_cache .mypy_cache .hypothesis dist build docs/studies

.PHONY: help setup demo test test-python test-lowest chaos cluster requirements dist docs check bench clean
