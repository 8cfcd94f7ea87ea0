# A fresh machine needs two commands only: `make demo` and `make test`.
# Each makes the virtual environment .venv and installs its dependencies, once,
# and again when pyproject.toml or constraints.txt changes.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := pyproject.toml constraints.txt
# A single benchmark, such as that of the decompositions: make bench BENCH=tests/benchmarks/test_speed.py
BENCH := tests/benchmarks

# The first interpreter that is new enough and can make a virtual environment.
FITS := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c "$(FITS)" 2>/dev/null && echo "$$p" && break; done)

.PHONY: help demo test test-all check bench peers docs clean
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.demo  ## halve the MACs of a trained net, and compare it with the original
	@$(BIN)/python examples/demo.py

test: check  ## linters, types, import contracts and every quick test, on all cores
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow"

test-all: check  ## the same, with the slow tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## time decompositions and `info` against others; MACs against accuracy (hours, with public models)
	$(BIN)/python -m pytest -q -s -rs $(BENCH)

peers:  ## install other inspectors in a separate environment, so that the benchmarks compare them with ours
	"$(PYTHON)" -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check onnx-tool onnxslim polygraphy

docs: $(VENV)/.test  ## regenerate docs/cli.md and docs/rules.md from the program itself
	$(BIN)/python -m modelsurgeon_cli.reference > docs/cli.md
	$(BIN)/python -m modelsurgeon_cli.rules > docs/rules.md

clean:  ## remove the virtual environment and everything that was built
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@"$(PYTHON)" -c "$(FITS)" 2>/dev/null || { echo >&2 \
		"make: $(if $(PYTHON),$(PYTHON) is not,no python here is) Python 3.11 or newer with venv:" \
		"install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@touch $@

$(VENV)/.demo: $(VENV)/.made $(PINS)
	$(PIP) --editable .
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) --group bench
	@touch $@

# torch alone and first, so that no other package chooses its build.
$(VENV)/.test: $(VENV)/.made $(PINS)
	$(PIP) torch
	$(PIP) --editable ".[torch]" --group dev
	@touch $@
