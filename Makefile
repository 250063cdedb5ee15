# The first interpreter that starts and is 3.11 to 3.13; another: make env PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$p && break; done)
PYTEST_ARGS ?=
# `make gpu` is for machines that have a torch of their own: it needs no .venv, but takes it where there is one.
GPU_PYTHON ?= $(or $(wildcard .venv/bin/python),python3)
GPU_OUT ?= runs/gpu
GPU_ARGS ?=
FUZZ_COUNT ?= 100000
BIN := .venv/bin
# Holds the time of the last installation, so that it is repeated only when what it read has changed.
STAMP := .venv/.installed

.PHONY: help env demo test fuzz lint bench gpu clean

help: ## list the targets (default)
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

env: $(STAMP) ## make .venv with the tested versions of everything

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "make env: no Python 3.11 to 3.13 with venv found; set PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[test]'
	touch $@

demo: env ## condense scikit-learn's digits on this machine, and evaluate the result
	$(BIN)/python pipelines/imagenet_quantize.py --preset digits

test: env ## run the quick tests; more options: PYTEST_ARGS='-k codebook -x'
	$(BIN)/python -m pytest -m 'not slow and not ray' -n auto --maxprocesses 8 --dist loadfile $(PYTEST_ARGS) || test $$? -eq 5
	$(BIN)/python -m pytest -m 'ray and not slow' $(PYTEST_ARGS) $$(grep -rl --include='test_*.py' mark.ray tests) || test $$? -eq 5 # one process: one cluster for all

fuzz: env ## give every reader damaged inputs; how many: FUZZ_COUNT=1000000
	$(BIN)/python -m tests.fuzz --count $(FUZZ_COUNT)

lint: env ## ruff, the layers of the package, and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

bench: env ## time the hot paths
	$(BIN)/python benchmarks/run.py

gpu: ## check and measure every path on a CUDA device, into runs/gpu; more options: GPU_ARGS='--budget 300'
	$(GPU_PYTHON) -m benchmarks.gpu --out $(GPU_OUT) $(GPU_ARGS)

clean: ## remove caches and build files; keeps .venv and runs/
	rm -rf build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find raycond pipelines benchmarks tests -name __pycache__ -type d -prune -exec rm -rf {} +
