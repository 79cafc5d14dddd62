# SPDX-License-Identifier: GPL-3.0-or-later
# Every target first runs scripts/setup, which returns at once when there is nothing to install.

VENV := $(shell scripts/setup venv-path)
PY := $(VENV)/bin/python

export PATH := $(VENV)/bin:$(PATH)
export PYTHONPATH := plugins/module_utils:agent:supervisor:.
export HYPOTHESIS_STORAGE_DIRECTORY := build/.hypothesis
export LC_ALL := C.UTF-8
export INSIDE
# Tests end with the command that started them, whatever ended that.
export JAYWALK_TEST_PARENT := $(or $(JAYWALK_TEST_PARENT),$(shell echo $$PPID))

N ?= 4
# STREETS is the older name of NAT_SITES, and lab/streets.yml that of its file.
NAT_SITES ?= $(STREETS:lab/streets.yml=lab/nat_sites.yml)
PYTHON_VERSION ?= 3.11,3.13
PLATFORM ?=
MINUTES ?= 60
SEED ?=
INSIDE ?=
VERSION ?=
DRY_RUN ?=
WORKERS ?= 4

# A folder of tests, unless ARGS names some of its files: make unit ARGS='tests/unit/lab -q'
tests_of = $(if $(filter tests/%,$(ARGS)),,tests/$(1))

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit integration fleet chaos chaos-mutants test-kernel lint \
	format bench plot lab lab-down wheel zipapp wheelhouse changelog dist release constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## install what developing and the lab need (Debian packages, a Python environment)
	@scripts/setup

demo: setup wheelhouse ## a mesh of real machines on this box, rolled out by the playbook
	@$(PY) scripts/demo

# What takes longest is first; the fleet tests are dealt out to two fleets (see tests/workers.py).
test: setup wheelhouse ## unit, chaos, integration, kernel and fleet tests, a few mutants: one run of pytest
	@$(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder \
		tests/kernel tests/fleet tests/integration tests/chaos tests/mutants tests/unit $(ARGS)

unit: setup ## unit tests only
	@$(PY) -m pytest $(call tests_of,unit) $(ARGS)

integration: setup ## the modules against real WireGuard and Redis, through ansible-test
	@$(PY) -m pytest $(call tests_of,integration) $(ARGS)

fleet: setup wheelhouse ## the roles and the agent on the lab's machines
	@$(PY) -m pytest $(call tests_of,fleet) $(ARGS)

chaos: setup ## fail supervisors, Redis and the network at random: make chaos MINUTES=60, or one round SEED=7
	@$(PY) -m pytest tests/chaos -s --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

chaos-mutants: setup ## break the supervisor on purpose in each way of a list, and see it caught: ARGS='-k quarantine'
	@$(PY) -m pytest -n $(WORKERS) tests/mutants -v --all-mutants $(ARGS)

test-kernel: setup ## the interface's tests on kernel WireGuard, in a virtual machine: INSIDE='-k handshake'
	@$(PY) -m pytest tests/kernel -s $(ARGS)

lint: setup ## ruff, mypy, import-linter, shellcheck, changelog fragments, ansible-lint, ansible-test sanity
	@scripts/lint

format: setup ## let ruff lay out the code
	@ruff check --fix --quiet; ruff format

bench: setup wheelhouse ## measure, and write build/bench.json
	@$(PY) tests/bench/run.py $(ARGS)

plot: ## draw fan-out and storm from build/bench.json into docs/figures
	@$(PY) tests/bench/plot.py

lab: setup ## boot N machines on this host: make lab N=8, or make lab NAT_SITES=lab/nat_sites.yml
	@$(PY) -m lab up $(if $(NAT_SITES),--nat-sites $(NAT_SITES),$(N))

lab-down: setup ## take the lab down
	@$(PY) -m lab down

wheel: setup ## build the wheel of library, agent and supervisor into build/wheel
	@scripts/wheel

zipapp: setup ## build the agent as one file, build/jaywalk.pyz, for nodes without pip
	@scripts/zipapp

wheelhouse: setup ## gather the wheels for an air-gapped fleet (PYTHON_VERSION=3.12 PLATFORM=...)
	@scripts/wheelhouse $(PYTHON_VERSION) $(PLATFORM)

changelog: setup ## print the changelog of the next release
	@scripts/changelog

dist: setup ## build the collection into build/dist
	@scripts/dist

release: setup ## make a release: make release VERSION=0.2.0, first with DRY_RUN=1 (RELEASING.md)
	@scripts/release $(if $(DRY_RUN),--dry-run) $(VERSION)

constraints: setup ## write requirements/constraints.txt again from the dependency group dev
	@scripts/constraints

clean: ## remove what was built here (the cache folder stays)
	@rm -rf build tests/output roles/*/files/*.whl
