# `make demo` and `make test` do all of their set-up, also on a fresh machine; the second call is quick.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TESTS  ?= tests
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs clean

help:
	@echo "make demo    evaluate the shipped model and write runs/demo/report.html"
	@echo "make test    the whole test suite: offline, no accelerator needed"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make bench   speed against the usual way, one JSON per benchmark"
	@echo "make docs    write docs/cli.md anew from the commands"

$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("permafrost needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP)
	$(BIN)/permafrost demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS) -q -n $(JOBS) --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks.bench_text
	$(BIN)/python -m benchmarks.bench_zero_shot --images 200
	$(BIN)/python -m benchmarks.bench_cache
	$(BIN)/python -m benchmarks.bench_help

docs: $(STAMP)
	$(BIN)/python recipes/docs/cli_page.py

clean:
	rm -rf dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
