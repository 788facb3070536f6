# Two commands do everything on a machine with only Python and make: `make demo` and `make test`.
# Each makes .venv first. PYTHON chooses the interpreter it is made with (3.11 or later).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DELETE_ON_ERROR:
.PHONY: help venv demo test check bench bench-deps bench-profile bench-puts sim-soak planted-bugs compiled test-compiled wheel clean

help:
	@echo "make demo        the main job: a real cluster, an import, a kill -9 in the middle, every byte compared"
	@echo "make test        all tests"
	@echo "make check       ruff and mypy --strict"
	@echo "make sim-soak    fresh seeds of the simulator on all cores, 30 minutes; MINUTES=N: so many"
	@echo "make planted-bugs  known mistakes, each put into a copy of the code; the simulator must find every one"
	@echo "make bench       shardraft beside its peers, 45 minutes; QUICK=1: five; what is not installed is skipped"
	@echo "                 it, bench-puts and sim-soak run compiled; PLAIN=1: as plain Python, without a C compiler"
	@echo "make compiled    both packages with the core compiled, in build/compiled; what changed since the last time"
	@echo "make test-compiled  what the compiled core must pass; a C compiler and five minutes"
	@echo "make wheel       a wheel with the core compiled, in dist"
	@echo "make bench-deps  the peers' clients and servers, as far as pip and apt-get have them"
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

# Wheels are compiled, so that is what is measured. The rest of the tree is found after it.
COMPILED := build/compiled
ifdef PLAIN
AS_COMPILED :=
else
AS_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED):$(CURDIR)
COMPILE := compiled
endif

compiled: $(VENV)/compiling
	$(BIN)/python -m compiling $(COMPILED)

# The tests of the compiled rooms and of the router, simulated worlds both ways, and a wheel.
test-compiled: $(VENV)/developing
	$(BIN)/python -m pytest tests/compiling/compiled.py

wheel: $(VENV)/developing
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/python -m build --wheel --no-isolation

# Fresh seeds on all cores; a failure becomes a file in tests/sim/regressions.
MINUTES ?= 30
sim-soak: $(VENV)/developing $(COMPILE)
	$(AS_COMPILED) $(BIN)/python -m tests.sim.soak --minutes $(MINUTES)

# The list: bug, the seed that finds it, what the simulator says. "make planted-bugs BUGS='--afresh NAME'" for a part.
planted-bugs: $(VENV)/developing
	$(BIN)/python -m tests.planted.finder $(BUGS)

# "make bench QUICK=1", or "make bench BENCH='--systems shardraft,etcd --only puts'" for a part.
bench: $(VENV)/benching $(COMPILE)
	$(AS_COMPILED) $(BIN)/python -m bench $(if $(QUICK),--quick) $(BENCH)

# Debian starts servers when it installs them; the benchmark starts its own, so stop those if you do not want them.
bench-deps: $(VENV)/benching
	$(BIN)/python -m pip install --quiet --group bench-peers
	@echo "for the rest, on Debian: apt-get install --no-install-recommends redis-server redis-tools nats-server nghttp2-client"

# Where the CPU time of puts goes; see bench/WHERE_A_PUT_GOES.md.
bench-profile: $(VENV)/benching $(COMPILE)
	$(BIN)/python -m pip install --quiet py-spy
	$(AS_COMPILED) $(BIN)/python -m bench.profile_puts $(BENCH)

bench-puts: $(VENV)/running $(COMPILE)
	$(AS_COMPILED) $(BIN)/python -m bench.puts

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

$(VENV)/benching: $(VENV)/running pyproject.toml
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

$(VENV)/compiling: $(VENV)/running pyproject.toml
	$(BIN)/python -m pip install --quiet --group compiling
	@touch $@

$(VENV)/developing: $(VENV)/running pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@
