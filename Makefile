# Every target sets up what it needs: a virtual environment in .venv, with the tested versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TESTS ?= tests

.PHONY: help demo test test-slow lint bench clean

help:
	@echo "make demo       train a small model in about a minute, and show what it learned"
	@echo "make test       the tests"
	@echo "make test-slow  all tests, including those that take minutes"
	@echo "make lint       style and types"
	@echo "make bench      the benchmarks (see benchmarks/README.md)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/anamorph demo

# One thread each, so that the tests are reproducible and two of them fit on two cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow" $(TESTS)

test-slow: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[fuzz,umap]"
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/train_alae.py
	$(BIN)/python benchmarks/train_style.py
	$(BIN)/python benchmarks/train_style.py --single
	$(BIN)/python benchmarks/editing.py
	$(BIN)/python benchmarks/codes.py
	$(BIN)/python benchmarks/wavenet.py
	$(BIN)/python benchmarks/compression.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/studio.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/memory.py

clean:
	rm -rf .venv build dist
