# SPDX-License-Identifier: Apache-2.0
#
#   make demo    set up, then run the demonstration
#   make test    set up, then every check and every test
#   make clean   remove what these made here (built simulators stay in the user's cache folder)

PYTHON ?= python3
export PYTHON

BIN := .venv/bin
SETUP := pyproject.toml constraints.txt scripts/set-up

.NOTPARALLEL:
.PHONY: demo test lint system browser clean

demo: .venv/ready-demo
	@$(BIN)/tilewright demo

test: lint browser
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 30

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/ready-demo: $(SETUP) | system
	@sh scripts/set-up demo

.venv/ready-dev: $(SETUP) | system
	@sh scripts/set-up dev

system:
	@sh tilewright/check_system.sh

browser:
	@sh scripts/set-up-browser

clean:
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache tilewright-demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
