# Everything starts from a clean clone: each target makes the virtualenv it needs.
# Needs make and Python 3.11 or later; what some of the tests need besides stands in .ci/run.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Three virtualenvs: what runs the bridge and its demo; what tests and develops it, which is ten times
# as large; and what builds the site of the documents.
VENV := .venv
DEV := .venv-dev
DOCS := .venv-docs
BIN := $(DEV)/bin
READY := $(DEV)/.ready
ARGS ?=

# The first that runs and is new enough; `make PYTHON=... TARGET` names another.
CANDIDATES := python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.ready ## the whole story on an in-memory broker
	@$(VENV)/bin/sms-bridge demo $(ARGS)

.PHONY: run
run: $(VENV)/.ready ## the demo that stays up, to post to and to subscribe to
	@$(VENV)/bin/sms-bridge demo --keep --port 8080 --directory .cache/run $(ARGS)

.PHONY: check
check: $(READY) ## lint, types and the tests that need nothing from outside: a minute and a half
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint fast

.PHONY: fast
fast: $(READY) ## the tests that need no broker, browser, Helm, npm or Java, and are not slow, on all cores
	@$(BIN)/pytest -m fast -n auto --maxprocesses 4 --dist worksteal $(ARGS)

# Two at a time, on any machine: much of their time is waiting.
.PHONY: test
test: $(READY) ## all tests; ARGS="-k name" for some, ARGS=-n0 one at a time
	@$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

.PHONY: chaos
chaos: $(READY) ## the gateway under fire; SECONDS=600 SEED=1 NODES=1 or 3; writes chaos.json
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),90) --seed $(or $(SEED),1) \
		--nodes $(or $(NODES),1) --json chaos.json $(ARGS)

.PHONY: faults
faults: $(READY) ## the scenarios of docs/faults.md, one after the other; needs root; SECONDS=90 SEED=1
	@for scenario in two-gateways disks power power-flushed clocks names packets upgrade; do \
		$(BIN)/python -m tests.chaos --scenario $$scenario --seconds $(or $(SECONDS),90) \
			--seed $(or $(SEED),1) --json faults-$$scenario.json $(ARGS) || [ $$? = 77 ]; done

.PHONY: soak
soak: $(READY) ## SECONDS=3600 of chaos on three brokers, then as many of steady load; writes soak-*.json
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),3600) --seed $(or $(SEED),1) --nodes 3 \
		--json soak-chaos.json $(ARGS)
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),3600) --seed $(or $(SEED),1) \
		--scenario calm --json soak-calm.json $(ARGS)

.PHONY: exhaustive
exhaustive: $(READY) ## every order of events up to a bound, then random ones; SECONDS=600 SEED=1
	@$(BIN)/python -m tests.exhaustive --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## fuzzing guided by coverage; TARGET=body, config or framing, SECONDS=3600
	@$(BIN)/python -m tests.fuzzing --seconds $(or $(SECONDS),60) \
		$(if $(TARGET),--target $(TARGET)) $(ARGS)

.PHONY: model
model: $(READY) ## the models of replication and repeats, and controls that must fail; needs spin, gcc
	@$(BIN)/python -m tests.model $(ARGS)

.PHONY: mutants
mutants: $(READY) ## breaks the promise on purpose: tests and chaos run must notice; ARGS=--fast
	@$(BIN)/python -m tests.chaos.mutants $(ARGS)

.PHONY: attacks
attacks: $(READY) ## what attacks on the running gateway come to; ARGS="slow unread" for some
	@$(BIN)/python -m tests.attacks $(ARGS)

.PHONY: subscribers
subscribers: $(READY) ## the four languages of docs/examples on a long day; STATES=100000 SEED=7
	@$(BIN)/python -m tests.subscribers --states $(or $(STATES),100000) --seed $(or $(SEED),7)

.PHONY: frameworks
frameworks: $(READY) ## the services of docs/frameworks.md, Rust and ClickHouse too: minutes
	@$(BIN)/pytest tests/docs/test_frameworks.py tests/docs/long_frameworks.py $(ARGS)

.PHONY: outage
outage: $(READY) ## an outage beyond five attempts, then reconcile; MESSAGES=20000 KILLS=10
	@$(BIN)/python -m tests.reconcile --messages $(or $(MESSAGES),20000) --kills $(or $(KILLS),10)

.PHONY: bench
bench: $(READY) ## how fast it is, against a plain gateway; ARGS=--write-figures keeps the figures
	@command -v wrk >/dev/null || { echo "make: bench needs wrk: apt-get install wrk" >&2; exit 2; }
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: bench-peers
bench-peers: $(READY) ## the bridge among gateways in Go, Node and Java; ARGS="--peers go" for some
	@command -v wrk >/dev/null || { echo "make: bench needs wrk: apt-get install wrk" >&2; exit 2; }
	@$(BIN)/python -m benchmarks --only peers --output benchmarks/results/peers.json $(ARGS)

.PHONY: bench-gate
bench-gate: $(READY) ## whether a request costs more than with a commit, in a minute; ARGS=COMMIT
	@$(BIN)/python -m benchmarks.gate $(ARGS)

.PHONY: lint
lint: $(READY) ## ruff and strict mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

.PHONY: format
format: $(READY) ## ruff formats the code, and fixes what it can
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS) pyproject.toml

.PHONY: lock
lock: $(BIN)/uv ## write the requirements files again; ARGS=--upgrade for newer versions
	@$(COMPILE) --output-file requirements.txt
	@$(COMPILE) --output-file requirements-otel.txt --constraints requirements.txt --extra otel
	@$(COMPILE) --output-file requirements-embedded.txt --constraints requirements.txt --extra embedded
	@$(COMPILE) --output-file requirements-dev.txt --constraints requirements-otel.txt \
		--constraints requirements-embedded.txt --extra embedded --extra otel --extra dev
	@printf '%s\n' cyclonedx-bom pip-audit | $(subst pyproject.toml,-,$(COMPILE)) \
		--output-file requirements-release.txt
	@echo hatchling | $(subst pyproject.toml,-,$(COMPILE)) --output-file requirements-build.txt \
		--constraints requirements-dev.txt
	@printf '%s\n' 'mkdocs <2' mkdocs-material mkdocs-swagger-ui-tag mmdr | \
		$(subst pyproject.toml,-,$(COMPILE)) --output-file requirements-docs.txt \
		--constraints requirements-dev.txt

.PHONY: release-check
release-check: $(READY) ## build all of a release into dist/, twice, and try it; ARGS="--tag v0.1.0"
	@$(BIN)/python -m tests.release $(ARGS)

.PHONY: schema
schema: $(READY) ## write the generated files: the chart's, and the contract's documents
	@$(BIN)/python -m tests.helm.generate
	@$(BIN)/python -m tests.contract.generate

# Not with --quiet: what is not logged is no warning to --strict, either.
.PHONY: docs
docs: $(DOCS)/.ready ## build the documents' site into build/site; any warning fails
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict $(ARGS)
	@echo "to read it: python3 -m http.server --bind 127.0.0.1 --directory build/site"

.PHONY: screenshots
screenshots: $(READY) ## take the pictures of docs/inspector.md again; needs Chromium
	@$(BIN)/python -m tests.browser

.PHONY: clean
clean: ## remove what was built here; the downloaded Kafka stays in the user's cache
	@rm -rf $(VENV) $(DEV) $(DOCS) .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find bridge tests -type d -name __pycache__ -prune -exec rm -rf {} +

# A requirements file that no longer fits must not keep `make lock` from fixing it.
$(BIN)/uv:
	@$(MAKE) --no-print-directory $(READY)

SET_UP = @.ci/environment $(@D) "$(PYTHON)"

$(VENV)/.ready: requirements-embedded.txt requirements-build.txt pyproject.toml
	$(SET_UP) "to run the bridge and its demo" requirements-embedded.txt requirements-build.txt

$(READY): requirements-dev.txt pyproject.toml
	$(SET_UP) "to test and develop it" requirements-dev.txt

$(DOCS)/.ready: requirements-docs.txt requirements-build.txt pyproject.toml
	$(SET_UP) "to build the documents' site" requirements-docs.txt requirements-build.txt
