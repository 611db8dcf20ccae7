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
	circuits/designs/*.toml circuits/presets/*.toml learning/*.py learning/datasets/*/* learning/page/*))

.DELETE_ON_ERROR:
.PHONY: help demo test lint docs package smoke install clean FORCE

help:
	@echo "make demo    sweep, repair, train and report on a chip on the embedded data; writes demo/"
	@echo "make test    run the tests on the installed package (ARGS='-k name -x' goes to pytest)"
	@echo "make install  only install, into .venv"
	@echo "make lint    ruff, mypy and the direction of imports"
	@echo "make docs    the documentation as a site, in site/index.html; a warning is an error"
	@echo "make package  wheel and sdist, in dist/, and what the sdist must hold"
	@echo "make smoke   install the wheel into a fresh environment, and train one epoch there"
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

docs: $(VENV)/installed $(VENV)/docs-tools
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "wrote site/index.html; these links lead outside, and were not followed:"
	@grep -Erho 'https?://[^])> `"]+' --include='*.md' README.md CHANGELOG.md docs benchmarks | sort -u

# The wheel is built from the sdist, and this must hold every file of the repository: its tests run from it.
package: $(VENV)/installed $(VENV)/tools
	@rm -rf dist $(DROPPINGS)
	$(BIN)/python -m build --quiet
	@rm -rf $(DROPPINGS)
	@tar -tzf dist/*.tar.gz | sed 's|^[^/]*/||' | LC_ALL=C sort > dist/files
	@git ls-files -- . ':!.gitignore' | LC_ALL=C sort | LC_ALL=C comm -23 - dist/files > dist/missing
	@if [ -s dist/missing ]; then echo "the sdist lacks:"; cat dist/missing; exit 1; fi >&2
	@rm dist/files dist/missing; ls -1 dist

smoke:
	@rm -rf .smoke $(DROPPINGS)
	$(PYTHON) -m venv .smoke
	.smoke/bin/python -m pip --disable-pip-version-check install --quiet .
	@rm -rf $(DROPPINGS)
	cd .smoke && bin/ohmostat train digits --set learning.epochs=1
	@.smoke/bin/python --version; rm -rf .smoke

install: $(VENV)/installed

clean:
	rm -rf $(VENV) build dist demo site .smoke *.egg-info .hypothesis .*_cache __pycache__
	find simulator circuits learning tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# setuptools works in the tree: it would ship what an earlier build left in build/, and the egg-info would
# stand before the installed metadata for whatever runs here.
DROPPINGS := build ohmostat.egg-info

$(VENV)/installed: $(SOURCES) $(VENV)/sources
	@rm -rf $(DROPPINGS)
	@echo "Installing ohmostat$(if $(wildcard $@), again: its sources have changed, and what it needs (150 MB; about a minute, of which pip is silent))"
	$(PIP) install --quiet ".[test]"
	@rm -rf $(DROPPINGS)
	@touch $@

$(VENV)/tools: pyproject.toml | $(VENV)/installed
	@echo "Installing ruff, mypy and import-linter"
	$(PIP) install --quiet ".[test,dev]"
	@rm -rf $(DROPPINGS)
	@touch $@

$(VENV)/docs-tools: pyproject.toml | $(VENV)/installed
	@echo "Installing MkDocs"
	$(PIP) install --quiet ".[docs]"
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
