# The words of this project: `make up`, `make demo`, `make test`, `make acceptance`, `make faults`,
# `make check`, `make docs`, `make fuzz`, `make bench`.
# Each makes what it needs in .venv, from Python 3.11 or later with its venv (or uv) and make alone.
#   make up ARGS="--yes"        arguments for steno
#   make test ARGS="-k merge"   arguments for pytest
#   make PYTHON=/path/to/python up
# Written for GNU make 3.81, which macOS still ships.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help up demo test acceptance faults check docs fuzz crash soak simulate bench clean

BIN := .venv/bin

# Where it is set, thousands of processes of the tests would each compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo 'make up          start steno: keep, search and mirror your sessions (the main thing)'
	@echo 'make demo        watch two devices mirror sessions, in a temporary directory'
	@echo 'make test        run the tests'
	@echo 'make acceptance  run the tests of the acceptance page, and print its checks with their results'
	@echo 'make faults      run the tests of the page of faults, and print its rows with their results'
	@echo 'make check       run ruff, basedpyright and import-linter'
	@echo 'make docs        write docs/cli.md and the man page anew, from the commands'
	@echo 'make fuzz        run the commands with random arguments, ARGS="--lines 100000" as many'
	@echo 'make crash       kill writers at random moments, and look each time what the store holds'
	@echo 'make soak        kill daemons at random moments over a folder, S3 and WebDAV, and look that nothing is lost'
	@echo 'make simulate    play devices over a failing remote from new seeds, HOURS=8 as long as that'
	@echo 'make bench       measure, print a table, write benchmarks/results.json'
	@echo 'make clean       remove .venv and what the tools left; never a session'

up: .venv/.runtime
	@exec $(BIN)/steno up $(ARGS)

demo: .venv/.runtime
	@exec $(BIN)/steno demo $(ARGS)

# Four at once, on two cores as well: half of the time a test waits.
SIDE_BY_SIDE := --numprocesses=4 --dist=worksteal

# `pytest`, not `python -m pytest`: that would put the root on sys.path and `storage` beside `steno.storage`.
test: .venv/.dev
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(ARGS)

acceptance: .venv/.dev
	@$(BIN)/pytest -m check --acceptance -q -r fE $(ARGS)

faults: .venv/.dev
	@$(BIN)/pytest -m fault --faults -q -r fE $(SIDE_BY_SIDE) $(ARGS)

check: .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright --project pyproject.toml  # not one that lies above the tree
	@$(BIN)/lint-imports

docs: .venv/.dev
	@$(BIN)/python -P -m steno.cli.manual docs

# Argument lists from new seeds, as many as ARGS="--lines 100000" says; the tests try two thousand.
fuzz: .venv/.dev
	@$(BIN)/python -P -m steno.tests.e2e.arguments $(ARGS)

# Writers killed at random moments, as many as ARGS="--kills 20000" says; the tests kill two hundred.
crash: .venv/.dev
	@$(BIN)/python -P -m steno.tests.e2e.killing $(ARGS)

# Daemons killed while people write on several devices, over servers that are real (moto, rclone); the tests kill thirty.
soak: .venv/.dev
	@$(BIN)/python -P -m steno.tests.e2e.soak $(ARGS)

# Schedules from new seeds: ends with the first that goes wrong, and prints the shortest that does (ARGS="--seed 5000").
HOURS ?= 0.1
simulate: .venv/.dev
	@$(BIN)/python -P -m steno.tests.simulation.vault_room --hours $(HOURS) $(ARGS)

bench: .venv/.bench
	@$(BIN)/python benchmarks/run.py $(ARGS)

clean:
	@rm -rf .venv build dist steno.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +


# ---- the environment -------------------------------------------------------------------------

# A downloaded Python would be another program than the one this machine keeps up to date.
export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1

UV := $(shell command -v uv 2>/dev/null)
ifneq ($(UV),)
INSTALL = uv pip install --quiet --python $(BIN)/python
else
INSTALL = $(BIN)/python -m pip install -qq
endif

# Scripts in .venv hold its full path: in a tree that was moved or copied they would run the old
# one. So the environment says where it was made, and is made anew elsewhere, or when its Python is gone.
ifneq ($(shell test -x $(BIN)/python && cat .venv/.place 2>/dev/null),$(CURDIR))
.PHONY: .venv/.place
endif

.venv/.place:
	@found= bare=; \
	for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    if test -n '$(UV)' || "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
	    bare=$${bare:-$$python}; \
	done; \
	if test -z "$$found" && test -n "$$bare"; then \
	    echo "steno: $$bare lacks venv: install the package $${bare##*/}-venv (apt install $${bare##*/}-venv)" >&2; exit 1; \
	elif test -z "$$found" && test -z '$(UV)'; then \
	    echo 'steno: needs Python 3.11 or later with venv: install the packages python3 and python3-venv' >&2; exit 1; \
	fi; \
	rm -rf .venv; \
	if test -n '$(UV)'; then uv venv --quiet --python "$${found:->=3.11}" .venv; else "$$found" -m venv .venv; fi
	@mkdir .venv/src && ln -s ../.. .venv/src/steno  # the root under its import name, for the type checker
	@printf '%s\n' '$(CURDIR)' > $@

.venv/.runtime: pyproject.toml .venv/.place
	@echo 'steno: installing into .venv (only when pyproject.toml changed)' >&2
	@$(INSTALL) --editable .
	@touch $@

# Behind .runtime, so that `make -j` never installs twice at once.
.venv/.dev: .venv/.runtime
	@echo 'steno: installing the tools for development' >&2
	@$(INSTALL) --editable '.[dev]'
	@touch $@

.venv/.bench: .venv/.dev
	@echo 'steno: installing the yardsticks of the benchmarks' >&2
	@$(INSTALL) --editable '.[dev,bench]'
	@touch $@
