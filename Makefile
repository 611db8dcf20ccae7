# Needs Python 3.11 or newer, make and a C library; all else is installed into .venv.
#   make demo                        the main job on the embedded data
#   make test ARGS="-k homeostat"    some of the tests
#   make test PYTHON=python3.13      another interpreter (make clean first)

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# What a wheel is made of. The list itself is kept in a file, so that a removed module counts as a change.
SOURCES := $(sort pyproject.toml LICENSE py.typed $(wildcard README.md *.py simulator/*.py circuits/*.py \
	circuits/designs/*.toml learning/*.py learning/datasets/*/* learning/page/*))

.DELETE_ON_ERROR:
.PHONY: help demo test lint install clean FORCE

help:
	@echo "make demo    sweep, repair, train and export a chip on the embedded data; writes demo/"
	@echo "make test    run the tests on the installed package (ARGS='-k name -x' goes to pytest)"
	@echo "make install  only install, into .venv"
	@echo "make lint    ruff, mypy and the direction of imports"
	@echo "make clean   remove .venv, demo/ and caches"
	@echo "All install into .venv first; PYTHON=$(PYTHON) chooses the interpreter (3.11 or newer)."

demo: $(VENV)/installed
	$(BIN)/ohmostat demo --out demo/

test: $(VENV)/installed
	OHMOSTAT_TEST_INSTALLED=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=loadfile $(ARGS)

lint: $(VENV)/installed $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p ohmostat
	$(BIN)/lint-imports

install: $(VENV)/installed

clean:
	rm -rf $(VENV) build dist demo *.egg-info .hypothesis .*_cache __pycache__
	find simulator circuits learning tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# setuptools works in the tree: it would ship what an earlier build left in build/, and the egg-info would
# stand before the installed metadata for whatever runs here.
DROPPINGS := build ohmostat.egg-info

$(VENV)/installed: $(SOURCES) $(VENV)/sources
	@rm -rf $(DROPPINGS)
	@echo "Installing ohmostat$(if $(wildcard $@), again: its sources have changed, and what it needs (150 MB; about a minute))"
	$(PIP) install $(if $(wildcard $@),--quiet) ".[test]"
	@rm -rf $(DROPPINGS)
	@touch $@

$(VENV)/tools: pyproject.toml | $(VENV)/installed
	@echo "Installing ruff, mypy and import-linter"
	$(PIP) install --quiet ".[test,dev]"
	@rm -rf $(DROPPINGS)
	@touch $@

$(VENV)/sources: FORCE | $(VENV)/pyvenv.cfg
	@echo "$(SOURCES)" | cmp -s - $@ || echo "$(SOURCES)" > $@

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is missing or older than 3.11: name a newer one, make PYTHON=python3.13" >&2; exit 1; }
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) has no venv module (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
