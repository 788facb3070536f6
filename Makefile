# Two commands do everything on a machine with only Python and make: `make demo` and `make test`.
# Each makes .venv first. PYTHON chooses the interpreter it is made with (3.11 or later).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DELETE_ON_ERROR:
.PHONY: help venv demo test check bench-puts clean

help:
	@echo "make demo        the main job: a real cluster, an import, a kill -9 in the middle, every byte compared"
	@echo "make test        all tests"
	@echo "make check       ruff and mypy --strict"
	@echo "make bench-puts  puts per second on this machine"
	@echo "make venv        .venv with shardraft and the tools for developing it"
	@echo "make clean       remove .venv and everything else that was made"

venv: $(VENV)/developing

demo: $(VENV)/running
	$(BIN)/python examples/demo.py

# "make test TESTS=tests/cli" runs a part of them.
TESTS ?= tests
test: $(VENV)/developing
	$(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

check: $(VENV)/developing
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-puts: $(VENV)/running
	$(BIN)/python bench/puts.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a program needs to run. An older pip knows no dependency groups, so pip comes first.
$(VENV)/running: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "shardraft needs Python 3.11 or later; say which: make PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/developing: $(VENV)/running pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
