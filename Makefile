# `make quickstart` and `make test` need Python 3.11 or newer, make, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-thorough test-all test-hosts test-lowest test-unlinted lint format wheel docs clean

quickstart: $(VENV)/installed
	$(BIN)/bertlite quickstart

PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed-dev lint
	$(PYTEST) --durations 25 -m "not slow and not thorough"

test-thorough: $(VENV)/installed-dev lint test-unlinted

test-unlinted: $(VENV)/installed-dev
	$(PYTEST) --durations 25 -m "not slow"

test-all: $(VENV)/installed-dev lint
	$(PYTEST)

# What depends on a CPU's instruction sets, as each kind of x86 host: the package believes in these, and XLA's own loops
# use no others. The library that XLA gives large products to asks the CPU itself.
HOST_TESTS := tests/golden tests/host/test_cpu.py tests/model tests/convert/int8/test_convert.py \
  tests/convert/weights/test_quantized.py tests/convert/onnx/test_integer.py tests/jobs/benchmarks/test_train.py \
  tests/jobs/benchmarks/test_infer.py tests/jobs/benchmarks/test_finetune.py tests/jobs/benchmarks/test_family.py \
  tests/jobs/test_quickstart.py
HOST_PYTEST := $(BIN)/pytest -n 2 --dist loadfile -q -m "not slow" $(HOST_TESTS)
AVX512 := avx2 avx512f avx512_vnni avx512_bf16

test-hosts: $(VENV)/installed-dev
	BERTLITE_CPU_FLAGS="avx2" XLA_FLAGS=--xla_cpu_max_isa=AVX2 $(HOST_PYTEST)
	BERTLITE_CPU_FLAGS="$(AVX512)" XLA_FLAGS=--xla_cpu_max_isa=AVX512_BF16 $(HOST_PYTEST)
	BERTLITE_CPU_FLAGS="$(AVX512) amx_int8 amx_bf16" XLA_FLAGS=--xla_cpu_max_isa=AMX $(HOST_PYTEST)

# Each requirement of users at its lower bound, as requirements.txt writes it. What only tests need is the newest that
# takes them.
LOWEST := .venv-lowest
test-lowest: $(LOWEST)/lowest.txt
	PIP_CONSTRAINT=$(abspath $<) $(MAKE) VENV=$(LOWEST) test-unlinted

$(LOWEST)/lowest.txt: requirements.txt
	@mkdir -p $(LOWEST)
	sed -n 's/^\([^#>]*\)>=\([^,]*\).*/\1==\2/p' requirements.txt > $@

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("bertlite_jax needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

# The package as users install it, in dist/; CONTRIBUTING.md has the steps of a release.
wheel: $(BIN)/python
	$(BIN)/python -m pip install --quiet build twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

# The pages of docs/ as a site, in site/. A link that leads nowhere is an error.
docs: $(BIN)/python requirements-docs.txt
	$(BIN)/python -m pip install --quiet -r requirements-docs.txt
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(LOWEST) dist runs site
