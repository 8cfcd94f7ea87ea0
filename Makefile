# Two commands are all a fresh machine needs: `make demo` and `make test`.
# Each makes its own virtual environment in .venv and installs what it needs, once;
# a change of pyproject.toml or constraints.txt installs anew.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PINS := pyproject.toml constraints.txt
# One of them alone: make bench BENCH=tests/benchmarks/test_speed.py, the decompositions.
BENCH := tests/benchmarks

# The first interpreter that is new enough and can make a virtual environment.
FITS := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c "$(FITS)" 2>/dev/null && echo "$$p" && break; done)

.PHONY: help demo test test-all check bench peers docs clean
help:  ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.demo  ## halve the MACs of a trained net, and compare it with the original
	@$(BIN)/python examples/demo.py

test: check  ## linters, types, import floors and every quick test
	$(BIN)/python -m pytest -q -n auto -m "not slow"

test-all: check  ## the same, with the slow tests
	$(BIN)/python -m pytest -q -n auto

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench  ## decompositions and `info` beside others; MACs kept against accuracy (hours, with public models)
	$(BIN)/python -m pytest -q -s -rs $(BENCH)

peers:  ## other inspectors in an environment of their own, which the benchmarks then show beside ours
	"$(PYTHON)" -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check onnx-tool onnxslim polygraphy

docs: $(VENV)/.test  ## write docs/cli.md and docs/rules.md anew from the program itself
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

# torch alone and first: nothing that asks for a newer one may choose its build.
$(VENV)/.test: $(VENV)/.made $(PINS)
	$(PIP) torch
	$(PIP) --editable ".[torch]" --group dev
	@touch $@
