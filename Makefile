# nextchannel: `make demo` shows it, `make test` proves it. Both install what they need into .venv.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# Byte code makes imports three times faster.
unexport PYTHONDONTWRITEBYTECODE
# Public data sets are looked for here, or in a `shared` folder beside the checkout.
NEXTCHANNEL_DATA_DIR ?= $(firstword $(wildcard $(CURDIR)/data $(CURDIR)/../shared/data))
export NEXTCHANNEL_DATA_DIR

# Prism serves the published descriptions of LINE, Twilio and WhatsApp to the tests of their adapters; that of FCM lies
# inside Google's client library.
PRISM := 5.14.2
GOOGLE_CLIENT := 2.202.0
SPEC_SERVERS := .spec-servers

.PHONY: demo test check format bench chaos openapi spec-servers clean constraints wheel help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(UV) pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable '.[dev,redis]'
	# Numba compiles here what decides, and not in whatever starts first.
	$(BIN)/python -c 'import models.response.stored'
	touch $@

demo: $(VENV)/installed ## from raw history to a decision, a sent message and a report (DATA=hillstrom, DEMO_EXIT=1)
	$(BIN)/nextchannel demo $(if $(DATA),--data $(DATA)) $(if $(filter 1,$(DEMO_EXIT)),--exit)

test: $(VENV)/installed ## run every test
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/installed ## run one benchmark (NAME=core; ARGS=--quick for a first look), or all of them (an hour; writes docs/reference/benchmarks.md)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks $(NAME) $(ARGS)

chaos: $(VENV)/installed ## break something on purpose and count what was lost (NAME=...)
	$(BIN)/python -m tests.chaos $(NAME) $(ARGS)

spec-servers: $(SPEC_SERVERS)/installed-$(PRISM)-$(GOOGLE_CLIENT) ## install what serves providers' API descriptions to the tests (needs npm; 20 s)

$(SPEC_SERVERS)/installed-$(PRISM)-$(GOOGLE_CLIENT): $(VENV)/installed
	$(UV) pip install --quiet --no-deps --target $(SPEC_SERVERS)/google google-api-python-client==$(GOOGLE_CLIENT)
	npm install --silent --no-audit --no-fund --no-package-lock --prefix $(SPEC_SERVERS) @stoplight/prism-cli@$(PRISM)
	touch $@

check: $(VENV)/installed ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: $(VENV)/installed ## write docs/reference/openapi.json anew
	NEXTCHANNEL_WRITE_OPENAPI=1 $(BIN)/pytest -q tests/integration/test_openapi.py

wheel: $(VENV)/installed ## build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

constraints: $(VENV)/installed ## resolve the newest versions into constraints.txt
	$(UV) pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade --no-header --no-annotate \
		--no-emit-index-url --output-file constraints.txt pyproject.toml
	echo 'uv=='$$($(UV) --version | cut -d' ' -f2) >> constraints.txt

clean: ## remove the environment and everything the demo made
	rm -rf $(VENV) $(SPEC_SERVERS) .nextchannel dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
