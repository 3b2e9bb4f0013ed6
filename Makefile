# Two commands for everyone: `make demo` and `make test`. Both work on a bare machine with Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint gates services benchmarks networks clean

$(VENV)/.installed-lth: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lth needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed-lth
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/.installed-lth
	$(BIN)/lth run digits

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

# Published numbers on real MNIST (LTH_DATA_DIR, or downloaded): under an hour on two cores.
gates: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m gates tests -s

# Real servers, faults and a browser: installs Debian's PostgreSQL, Ceph gateway and Chromium if they are missing.
services: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[services]'
	infra/debian-packages
	$(BIN)/python -m pytest -m services tests

benchmarks: $(VENV)/.installed-test
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/orchestration.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/large_sweep.py
	$(BIN)/python benchmarks/query.py
	$(BIN)/python benchmarks/looks.py
	$(BIN)/python benchmarks/compaction.py
	$(BIN)/python benchmarks/masks.py
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/two_nodes.py

# Every network that there is, all the way to its files and back, into docs/networks.md: an hour or two on two cores.
networks: $(VENV)/.installed-test
	$(BIN)/python benchmarks/networks.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
