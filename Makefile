# Everything a developer does here, in one command each; `make` alone lists them.
# GNU make 3.81 (macOS) is enough.

VENV := .venv
PYTHON_IN_VENV := $(VENV)/bin/python
# The folder is part of the name, as a virtual environment that was moved or copied does not work.
READY := $(VENV)/ready-$(shell pwd -P | cksum | cut -d ' ' -f 1)
# More arguments for pytest, the demo or the benchmark: make test ARGS='-k ledger'
ARGS ?=
# Most tests wait for a broker and not for a processor. All six share one RabbitMQ node; each has a Redis of its own.
PARALLEL ?= -n 6 --dist loadfile --no-loadscope-reorder

# Tests start hundreds of programs, which need not compile the same modules each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup test test-long lint format docs chaos demo broker redis bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1|\2/p' Makefile | awk -F '|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(READY) ## make .venv with all that development needs
	@:

$(READY): requirements/dev.txt pyproject.toml tools/setup_venv.sh
	@PYTHON='$(PYTHON)' sh tools/setup_venv.sh $(VENV) $(READY)

broker: ## make sure that RabbitMQ is installed
	@sh tools/ensure_rabbitmq.sh

redis: ## make sure that Redis is installed
	@sh tools/ensure_redis.sh

lint: setup ## check style, types and the layering of the packages
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/ruff format --check --quiet .
	$(PYTHON_IN_VENV) -m mypy --no-error-summary
	@if grep -q '^\[tool\.importlinter\]' pyproject.toml; then \
		echo '$(VENV)/bin/lint-imports'; \
		out=$$($(VENV)/bin/lint-imports --no-cache --no-logo 2>&1) || { printf '%s\n' "$$out"; exit 1; }; \
	fi

format: setup ## put the code into shape, and fix what can be fixed by itself
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

test: broker redis lint ## lint, then run all tests but the long ones
	$(PYTHON_IN_VENV) -m pytest $(PARALLEL) $(ARGS)

test-long: broker redis lint ## lint, then run all tests
	$(PYTHON_IN_VENV) -m pytest $(PARALLEL) -m 'not long' $(ARGS)
	$(PYTHON_IN_VENV) -m pytest -m long $(ARGS)

chaos: broker redis setup ## put it under fire: 50 seeded runs, an hour and a half; ARGS='--runs 4 --seed 7'
	@PYTHONPATH=tests:tools $(PYTHON_IN_VENV) -m chaos $(ARGS)

demo: $(if $(OTPOST_BROKER_URL),,broker) setup ## see it work on this machine: broker, sender and a simulated provider
	@$(PYTHON_IN_VENV) demo/run.py $(ARGS)

bench: broker redis setup ## measure it
	@$(PYTHON_IN_VENV) bench/throughput.py $(ARGS)

docs: setup ## write docs/settings.md from the settings
	@$(PYTHON_IN_VENV) tools/settings_reference.py

lock: ## pin all requirements with their hashes; UPGRADE=1 takes the newest versions
	@sh tools/lock.sh $(VENV)

clean: ## remove .venv, caches and what was built
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
