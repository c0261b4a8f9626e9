# `make` lists the commands. Each one makes what it needs: a virtual environment in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench kafka clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY)  ## see a service, a queue and pipelines at work (about half a minute)
	@$(BIN)/daebus demo
	@$(BIN)/turbo-queue bench --producers 2 --consumers 4 --events 1000000
	@$(BIN)/python tools/pipeline_demo.py

test: $(READY)  ## run the tests, on a Valkey of their own
	@$(BIN)/python -m pytest $(ARGS)

lint: $(READY)  ## check format, style, types and the layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(READY)  ## build the documentation into site/
	@# Without --quiet, which would hide from --strict what it counts.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html; to be able to search in it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

bench: $(READY)  ## measure against the peers, side by side (about 20 minutes)
	@$(BIN)/python -m benchmarks $(ARGS)

kafka: $(READY)  ## run an Apache Kafka broker on loopback until Ctrl-C (needs Java 17 and Maven)
	@$(BIN)/python tools/kafka_broker.py

clean:  ## remove what the other commands made
	rm -rf $(VENV) site .benchmarks .hypothesis .kafka .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Daebus needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || { echo "making a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing Daebus and what its tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint requirements-dev.txt
	@touch $@
