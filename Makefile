# .venv is made again when pyproject.toml changes; what the test servers need is installed once.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test matrix bench rivals check format readme venv servers clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: venv ## a tour of mediasql over sample S3, GCS and web servers on this machine
	$(BIN)/python -m tests.store -- $(BIN)/python sql_examples/demo.py

# Python is started hundreds of times, and would compile mediasql each time.
test: export PYTHONDONTWRITEBYTECODE =
test: ## all tests, against real servers on this machine; ARGS='-k s3 -n 0' is passed on
	@$(MAKE) --no-print-directory --jobs=2 venv servers
	$(BIN)/pytest -n 4 --dist worksteal $(ARGS)

matrix: ## the tests in Debian 13 and the release after it, as root; ARGS='forky -- -k s3' is passed on
	tests/matrix.sh $(ARGS)

bench: venv servers ## how fast it is, against baselines; ARGS='--only images --repeat 1' is passed on
	$(BIN)/python -m benchmarks $(ARGS)

rivals: venv servers .rivals/made ## the same against Daft, DataChain, DuckDB, obstore and s3fs, in an environment of theirs
	$(BIN)/python -m benchmarks --only rivals $(ARGS)

.rivals/made: benchmarks/rivals.txt
	@echo "making .rivals: installing what mediasql is measured against, takes one to three minutes"
	$(PYTHON) -m venv .rivals
	.rivals/bin/pip install --quiet --disable-pip-version-check --upgrade pip
	.rivals/bin/pip install --quiet --no-compile --requirement benchmarks/rivals.txt
	touch $@

check: venv ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory --jobs=2 types-linux types-win32

types-%: # as on that platform, of which each has a cache of its own
	$(BIN)/mypy --strict --platform $* --cache-dir .mypy_cache/$* mediasql

format: venv ## let ruff format the code and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: venv servers ## run the examples, and write their output into README.md
	$(BIN)/python -m tests.readme

venv: .venv/made ## .venv with mediasql and the development tools

.venv/made: pyproject.toml setup.py
	@echo "making .venv: installing mediasql and its test dependencies, takes one to three minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip # old ones take minutes to resolve
	$(BIN)/pip install --quiet --no-compile -e '.[dev]' # Python compiles what is imported
	touch $@

servers: ## what the tests need beyond Python: nginx, sqlite3, Perl's DBD::SQLite, a C compiler, Chromium, Azurite
	tests/servers/install.sh

clean: ## remove what was made here
	rm -rf .venv .rivals .cache node_modules build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
