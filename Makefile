# SPDX-License-Identifier: GPL-3.0-or-later
# Most targets run scripts/setup first, which returns at once if there is nothing to install.

VENV := $(shell scripts/setup venv-path)
PY := $(VENV)/bin/python

export PATH := $(VENV)/bin:$(PATH)
export PYTHONPATH := plugins/module_utils:agent:supervisor:.
export HYPOTHESIS_STORAGE_DIRECTORY := build/.hypothesis
export LC_ALL := C.UTF-8
export INSIDE
# Tests end when the command that started them ends, for any reason.
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
.PHONY: help setup demo test unit integration attacks fleet chaos chaos-mutants test-kernel lint \
	format bench plot lab lab-down wheel zipapp wheelhouse changelog dist sbom release constraints clean

# `target: prerequisites ## what it does ## how long it takes`
help: ## list the targets and how long they take
	@awk -F ' ## ' '/^[a-z-]+:.* ## / { split($$1, name, ":"); printf "  make %-13s %7s  %s\n", name[1], $$3, $$2 }' Makefile
	@echo "Times: two idle cores, after the first make setup. Test targets accept ARGS, e.g. ARGS='-k plan'."

setup: ## install what development and the lab need: Debian packages, a Python environment ## 2 min
	@scripts/setup

demo: setup wheelhouse ## install a mesh on machines of the lab with the playbook, and show that it works ## 1 min
	@$(PY) scripts/demo

# The longest tests start first; the fleet tests are divided between two fleets (see tests/workers.py).
test: setup wheelhouse ## run all tests: unit, chaos (one round), integration, attacks, kernel, fleet, a few mutants ## 21 min
	@$(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder \
		tests/kernel tests/fleet tests/attacks tests/integration tests/chaos tests/mutants tests/unit $(ARGS)

unit: setup ## run the pure tests: no root, Redis or network namespaces needed ## 1 min
	@$(PY) -m pytest $(call tests_of,unit) $(ARGS)

integration: setup ## run the parts on real WireGuard and Redis, and the modules through ansible-test
	@$(PY) -m pytest $(call tests_of,integration) $(ARGS)

attacks: setup wheelhouse ## try what docs/security.md says that nobody can, on a real installation and a fleet
	@$(PY) -m pytest $(call tests_of,attacks) $(ARGS)

fleet: setup wheelhouse ## run the roles and the agent on machines of the lab
	@$(PY) -m pytest $(call tests_of,fleet) $(ARGS)

chaos: setup ## fail supervisors, Redis and the network at random; MINUTES=60, or one round with SEED=7 ## 1 h
	@$(PY) -m pytest tests/chaos -s --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

chaos-mutants: setup ## break the supervisor in each way of a list; the tests must notice; ARGS='-k quarantine'
	@$(PY) -m pytest -n $(WORKERS) tests/mutants -v --all-mutants $(ARGS)

test-kernel: setup ## run the interface's tests on kernel WireGuard in a virtual machine; INSIDE='-k handshake' ## 12 min
	@$(PY) -m pytest tests/kernel -s $(ARGS)

lint: setup ## run all checkers; scripts/lint NAME runs one ## 90 s
	@scripts/lint

format: setup ## format the code with ruff ## 1 s
	@ruff check --fix --quiet; ruff format

bench: setup wheelhouse ## measure, and write build/bench.json
	@$(PY) tests/bench/run.py $(ARGS)

plot: ## draw the figures of docs/ from build/bench.json ## 5 s
	@$(PY) tests/bench/plot.py

lab: setup ## boot N machines on this host: N=8, or NAT_SITES=lab/nat_sites.yml ## 10 s
	@$(PY) -m lab up $(if $(NAT_SITES),--nat-sites $(NAT_SITES),$(N))

lab-down: setup ## remove the machines of the lab ## 2 s
	@$(PY) -m lab down

wheel: setup ## build the wheel of library, agent and supervisor into build/wheel ## 1 s
	@scripts/wheel

zipapp: setup ## build the agent as one file, build/jaywalk.pyz, for nodes without pip ## 5 s
	@scripts/zipapp

wheelhouse: setup ## collect wheels for a fleet without a package index; PYTHON_VERSION=3.12 PLATFORM=... ## 10 s
	@scripts/wheelhouse $(PYTHON_VERSION) $(PLATFORM)

changelog: setup ## print the changelog of the next release ## 5 s
	@scripts/changelog

dist: setup ## build the collection into build/dist ## 5 s
	@scripts/dist

sbom: setup ## write the software bill of materials, build/sbom.cdx.json ## 5 s
	@scripts/sbom

release: setup ## make a release: VERSION=0.2.0, first with DRY_RUN=1 (RELEASING.md) ## 25 min
	@scripts/release $(if $(DRY_RUN),--dry-run) $(VERSION)

constraints: setup ## write the versions and hashes in requirements/ again from pyproject.toml ## 2 min
	@scripts/constraints

clean: ## remove what was built here, but not the cache directory ## 1 s
	@rm -rf build tests/output roles/*/files/*.whl
