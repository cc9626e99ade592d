# The commands of trueup; `make` alone lists them. Setup runs by itself, and only when something changed.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Another interpreter: make test-py PYTHON=python3.13 VENV=.venv-3.13
VENV ?= .venv
BIN := $(VENV)/bin
STATIC := src/trueup/api/static
SEED ?= 1
ARGS ?=

PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -type f -print 2>/dev/null)

# Stamps: a step runs again when what it read is newer than its stamp.
PY_LOCKED := $(VENV)/.trueup-locked
PY_READY := $(VENV)/.trueup-ready
WEB_READY := web/node_modules/.trueup-ready
WEB_BUILT := $(STATIC)/index.html

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- setup ----------------------------------------------------------------------------------------

.PHONY: setup
setup: $(PY_READY) $(WEB_READY) ## install everything into .venv and web/node_modules, from the locks

$(BIN)/python:
	@python=$$(scripts/need.sh python); echo "trueup: making $(VENV) with $$python"; "$$python" -m venv $(VENV)

$(PY_LOCKED): requirements.lock | $(BIN)/python
	@echo "trueup: installing Python packages from requirements.lock"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@touch $@

# The build backend comes from the lock too; nothing is fetched to install ourselves.
$(PY_READY): $(PY_LOCKED) pyproject.toml
	@$(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@touch $@

web/package.json web/package-lock.json:
	@echo "trueup: $@ is missing, so the dashboard cannot be built: restore it with git checkout -- web" >&2; exit 1

$(WEB_READY): web/package.json web/package-lock.json web/.npmrc
	@scripts/need.sh node >/dev/null
	@echo "trueup: installing the dashboard's packages from web/package-lock.json"
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(WEB_BUILT): $(WEB_READY) $(WEB_SOURCES)
	@echo "trueup: building the dashboard into $(STATIC)"
	@cd web && npm run --silent build
	@test -f $@ || { echo "trueup: the build wrote no $@: point build.outDir of web/vite.config.ts there" >&2; exit 1; }
	@touch $@

# --- run ------------------------------------------------------------------------------------------

.PHONY: run
run: $(PY_READY) $(WEB_BUILT) ## set up and start trueup with its dashboard against the simulator
	@exec $(BIN)/trueup demo $(ARGS)

.PHONY: sim
sim: $(PY_READY) ## start the simulated broker alone: make sim SEED=7
	@exec $(BIN)/trueup simulate --seed $(SEED) $(ARGS)

.PHONY: web
web: $(WEB_BUILT) ## build the dashboard into the Python package

# --- test -----------------------------------------------------------------------------------------

.PHONY: test
test: test-py test-proof test-web test-e2e ## set up and run all tests: Python, the proof, dashboard, browser

.PHONY: test-py
test-py: $(PY_READY) ## run the Python tests: make test-py ARGS='-k drift'
	@scripts/need.sh redis >/dev/null
	@$(BIN)/python -m pytest -m "not e2e" --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

.PHONY: test-web
test-web: $(WEB_READY) ## run the dashboard's own tests
	@cd web && npm --silent test

# One at a time: each opens a browser and a whole trueup, and two cores are soon full.
.PHONY: test-e2e
test-e2e: $(PY_READY) $(WEB_BUILT) ## run the browser tests in a real Chromium
	@chromium=$$(scripts/need.sh chromium); TRUEUP_CHROMIUM="$$chromium" $(BIN)/python -m pytest -m e2e $(ARGS) tests/e2e

.PHONY: pictures
pictures: $(PY_READY) $(WEB_BUILT) ## take the docs' screenshots anew, with the story's own test
	@chromium=$$(scripts/need.sh chromium); TRUEUP_CHROMIUM="$$chromium" TRUEUP_PICTURES=docs/images \
		$(BIN)/python -m pytest -m e2e tests/e2e/test_story.py

# Seeds are fixed, so that a failure is the change's and not the day's. docs/reference/proof.md has the figures.
.PHONY: test-proof
test-proof: $(PY_READY) ## live 20,000 schedules of the whole runtime and a million of the core, and find nothing
	@$(BIN)/trueup chaos --schedules 20000 --seed 1
	@$(BIN)/trueup chaos --core --schedules 1000000 --seed 1

.PHONY: soak
soak: $(PY_READY) ## live a million schedules of the whole runtime; goes on where it was left: make soak SEED=2
	@$(BIN)/python scripts/soak.py --seed $(SEED) $(ARGS)

.PHONY: plant
plant: $(PY_READY) ## plant deliberate faults in a copy, one by one, and see which checker finds each
	@$(BIN)/python scripts/plant.py $(ARGS)

# It works on a copy under build/, whose settings leave out what the subset does not need; a full run
# takes about half an hour on two cores.
.PHONY: mutate
mutate: $(PY_READY) ## plant small faults in the core, one by one, and count which of them the tests notice
	@$(BIN)/python -c 'import mutmut' 2>/dev/null || $(PIP_INSTALL) 'mutmut==3.8.1'
	@rm -rf build/mutate; mkdir -p build/mutate; cp -r src tests build/mutate
	@$(BIN)/python scripts/mutation_settings.py > build/mutate/pyproject.toml
	@cd build/mutate && $(CURDIR)/$(BIN)/mutmut run $(ARGS); $(CURDIR)/$(BIN)/mutmut results
	@cd build/mutate && $(CURDIR)/$(BIN)/mutmut results --all True | $(CURDIR)/$(BIN)/python $(CURDIR)/scripts/mutation_table.py

.PHONY: test-external
test-external: $(PY_READY) ## run only the tests that need a service such as Redis
	@scripts/need.sh redis >/dev/null
	@$(BIN)/python -m pytest -m external_service $(ARGS)

.PHONY: bench
bench: $(PY_READY) ## measure latency and throughput on this machine
	@$(BIN)/python -m bench all --table docs/reference/benchmarks.md $(ARGS)

# Not in the lock, and nothing of ours needs them: each gets an environment of its own, and without one it is left out.
.PHONY: bench-peers
bench-peers: ## install what `bench faults` compares with: lumibot, NautilusTrader
	@for peer in lumibot nautilus; do \
		test -x .venv-peers/$$peer/bin/python || "$$(scripts/need.sh python)" -m venv .venv-peers/$$peer; \
		.venv-peers/$$peer/bin/python -m pip install --quiet --no-input --disable-pip-version-check -r bench/peers/requirements-$$peer.txt; \
	done

# --- check ----------------------------------------------------------------------------------------

.PHONY: check lint types contracts spelling check-web
check: lint types contracts spelling check-web ## lint, types, import contracts, spelling, dashboard

lint: $(PY_READY)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(PY_READY)
	@$(BIN)/mypy

contracts: $(PY_READY)
	@$(BIN)/lint-imports

spelling: $(PY_READY)
	@git ls-files -z | xargs -0 $(BIN)/codespell

check-web: $(WEB_READY)
	@cd web && npm run --silent check

.PHONY: fix
fix: $(PY_READY) $(WEB_READY) ## mend what a machine can mend: imports, format
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format
	@cd web && npm run --silent fix

.PHONY: docs
docs: $(PY_READY) ## check that the docs still tell the truth
	@$(BIN)/python -m pytest tests/docs $(ARGS)

# --- upkeep ---------------------------------------------------------------------------------------

# Run it on Python 3.11, the floor: what 3.11 needs, later versions can have too, and not the other way round.
# npm writes its lock in an empty folder: beside node_modules it would leave out the packages of other systems.
.PHONY: lock
lock: $(BIN)/python ## write both locks anew: make lock ARGS=--upgrade
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "trueup: make the lock with Python 3.11: make lock PYTHON=python3.11 VENV=.venv-lock")'
	@$(BIN)/python -c 'import piptools' 2>/dev/null || $(PIP_INSTALL) pip-tools
	@CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --extra dev --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock $(ARGS) pyproject.toml
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; cp web/package.json web/.npmrc "$$dir"; \
		if [ -z "$(ARGS)" ] && [ -f web/package-lock.json ]; then cp web/package-lock.json "$$dir"; fi; \
		cd "$$dir"; npm install --package-lock-only --ignore-scripts --loglevel=error; \
		npm ci --dry-run --ignore-scripts --loglevel=silent >/dev/null || { echo "trueup: web/package.json asks for something whose parts for other systems" \
			"the registry does not have (npm ci would refuse the lock): pin an older version of it; the lock is left as it was" >&2; exit 1; }; \
		cp package-lock.json "$(CURDIR)/web/package-lock.json"

.PHONY: clean
clean: ## remove what was built and cached; .venv and web/node_modules stay
	@rm -rf build dist $(STATIC) web/dist web/coverage test-results .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
