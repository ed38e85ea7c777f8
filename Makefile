# make demo   the main job: sample clips through the real pipeline on a tiny checkpoint
# make test   lint, types and tests
# make setup  what the two above need, into .venv (elsewhere with VENV=...)
#
# TORCH=keep            keep the torch of the Python that makes the environment
# TORCH=torch==2.11.0   another torch; the default is the one that the tests ran with
# PYTHON=python3.12     another Python (3.10 to 3.13)

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN = $(VENV)/bin
STAMP = $(VENV)/installed

.PHONY: setup demo test lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml Makefile launch/install.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" TORCH="$(TORCH)" sh launch/install.sh
	@touch $@

demo: setup
	@VENV="$(VENV)" sh launch/demo.sh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Types are checked beside the first tests; four processes, since tests often wait for workers.
# What is compiled is kept: a thousand processes would each compile the package again.
test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@unset PYTHONDONTWRITEBYTECODE; \
	$(BIN)/mypy & types=$$!; \
	$(BIN)/python -m pytest -n 4 --dist worksteal; tests=$$?; \
	wait $$types && exit $$tests

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
