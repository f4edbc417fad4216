# Everything here works on a fresh Debian or Ubuntu machine with Python 3.11 to 3.13 and make, in any folder.
# `make setup` puts all it installs into .tools (uv) and .venv (the locked environment), and nowhere else.

.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -eu -c
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

UV_VERSION := 0.13.8
PYTHON ?=
NAME ?= diff plan land execute latency overhead neighbour registry eta control
ARGS ?=

# What an activated environment, or a shell set up for another project, would otherwise slip in.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME PYTHONSTARTUP
# Images of containers set this; without compiled files, each command spends seconds on its imports.
unexport PYTHONDONTWRITEBYTECODE
unexport UV_PROJECT UV_PROJECT_ENVIRONMENT UV_PYTHON UV_SYSTEM_PYTHON UV_NO_SYNC UV_CONFIG_FILE UV_WORKING_DIRECTORY

export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1

# The machine's own certificates, which a proxy that inspects traffic needs.
CERTIFICATES := $(wildcard /etc/ssl/certs/ca-certificates.crt)
ifneq ($(CERTIFICATES),)
export UV_SYSTEM_CERTS := 1
export PIP_CERT := $(or $(PIP_CERT),$(CERTIFICATES))
endif

RUN := .venv/bin/python -m
PENSTOCK := .venv/bin/penstock
UV := UV_PROJECT_ENVIRONMENT=.venv .tools/bin/uv

# Scripts in an environment name its folder: after a move it has to be made anew.
ifneq ($(wildcard .venv/.synced),)
ifneq ($(shell cat .venv/.synced),$(CURDIR))
$(shell rm -rf .venv .tools)
endif
endif

.PHONY: help setup demo up test crash fuzz rivals check architecture format bench lock clean

help:  ## Say what there is to make.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: .venv/.synced  ## Install everything, locked, into .tools and .venv.

demo: setup  ## Publish real sources twice with a change in between, and end.
	@$(PENSTOCK) demo $(ARGS)

up: setup  ## Run the whole stack until Ctrl-C.
	@exec $(PENSTOCK) up $(ARGS)

test: setup .tools/.browser .tools/.promtool .tools/.broker  ## Run every test.
	@env -u DAGSTER_HOME $(RUN) pytest -n 2 --dist worksteal $(ARGS)

crash: setup  ## Kill workers at named points and at random, some 2,000 times: make crash ARGS=--quick
	@env -u DAGSTER_HOME $(RUN) tests.crash $(ARGS)

rivals: setup  ## Kill 32 writers and 4 projections of the registry at random, 100 times.
	@env -u DAGSTER_HOME $(RUN) tests.integration.registry_rivals $(ARGS)

fuzz: setup  ## Try both APIs at every bound with schemathesis: make fuzz ARGS="--max-examples 50"
	@failed=
	for api in registry control; do
		$(RUN) tests.integration.$$api.schemathesis_runs --seed 1 $(ARGS) || failed="$$failed $$api"
	done
	if [ -n "$$failed" ]; then echo "fuzz: FAILED:$$failed" >&2; exit 1; fi

check: setup  ## Lint, format, types, layers, architecture, Dagster's definitions.
	@home=$$(mktemp -d)
	trap 'rm -rf "$$home"' EXIT
	cp dagster.yaml "$$home"
	failed=
	step() { name=$$1; shift; echo "check: $$name"; "$$@" || failed="$$failed $$name"; }
	step lint $(RUN) ruff check .
	step format $(RUN) ruff format --check .
	step types $(RUN) mypy
	step layers .venv/bin/lint-imports
	step architecture $(RUN) pytest tests/architecture
	step definitions env PENSTOCK_HOME="$$home" DAGSTER_HOME="$$home" \
		$(RUN) dagster definitions validate -w workspace.yaml
	if [ -n "$$failed" ]; then echo "check: FAILED:$$failed" >&2; exit 1; fi
	echo "check: all good"

architecture: setup
	@$(RUN) pytest tests/architecture $(ARGS)

format: setup  ## Format the code.
	@$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: setup  ## Run benches: make bench NAME="diff plan" ARGS=--quick
	@for name in $(NAME); do $(PENSTOCK) bench $$name $(ARGS); done

lock: .tools/.uv-$(UV_VERSION)  ## Lock dependencies anew after a change to pyproject.toml.
	@python="$$(cat .tools/.python)"
	$(UV) lock --python "$$python"

clean:  ## Remove what setup and the checks made; data in .penstock stays.
	@rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.penstock/*' -prune -exec rm -rf {} +

.venv/.synced: pyproject.toml uv.lock .tools/.uv-$(UV_VERSION)
	@echo "setup: installing the locked environment into .venv"
	$(UV) sync --frozen --python "$$(cat .tools/.python)"
	printf '%s' '$(CURDIR)' > .venv/.synced

# The pages are tested in a real browser, which pip cannot bring.
.tools/.browser: .tools/.uv-$(UV_VERSION)
	@if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
			echo "test: the pages are tested in Chromium, which is missing. Install it, then try again:" >&2
			echo "    sudo apt-get update && sudo apt-get install -y chromium" >&2
			exit 1
		fi
		echo "test: installing chromium"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
	fi
	touch $@

# The rules for Prometheus are checked by its own tool, which is unpacked and not installed.
.tools/.promtool: .tools/.uv-$(UV_VERSION)
	@if [ ! -x .tools/prometheus/usr/bin/promtool ]; then
		if ! command -v apt-get >/dev/null; then
			echo "test: promtool is missing: put it at .tools/prometheus/usr/bin/promtool, then try again" >&2
			exit 1
		fi
		echo "test: unpacking promtool"
		folder=$$(mktemp -d)
		trap 'rm -rf "$$folder"' EXIT
		(cd "$$folder" && { apt-get download -qq prometheus >/dev/null 2>&1 || { apt-get update -qq; apt-get download -qq prometheus >/dev/null; }; })
		dpkg -x "$$folder"/prometheus_*.deb .tools/prometheus
	fi
	touch $@

# Events are sent through a real broker, which pip cannot bring either. The tests start it themselves.
.tools/.broker: .tools/.uv-$(UV_VERSION)
	@if ! test -x /usr/lib/rabbitmq/bin/rabbitmq-server; then
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
			echo "test: events are sent through RabbitMQ, which is missing. Install it, then try again:" >&2
			echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends rabbitmq-server" >&2
			exit 1
		fi
		echo "test: installing rabbitmq-server"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server >/dev/null
	fi
	touch $@

.tools/.uv-$(UV_VERSION):
	@fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'
	python=
	for name in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do
		if command -v "$$name" >/dev/null && "$$name" -c "$$fits" 2>/dev/null; then
			python="$$("$$name" -c 'import sys; print(sys._base_executable)')"
			break
		fi
	done
	if [ -z "$$python" ]; then
		echo "setup: no Python from 3.11 to 3.13 is on the PATH. Install one:" >&2
		echo "    sudo apt-get update && sudo apt-get install -y python3 python3-venv" >&2
		echo "or name one: make setup PYTHON=/path/to/python3.11" >&2
		exit 1
	fi
	echo "setup: using $$python"
	rm -rf .tools
	if ! "$$python" -m venv .tools >/dev/null 2>&1; then
		package="$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
		rm -rf .tools
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
			echo "setup: $$python cannot make virtual environments. Install what it lacks, then try again:" >&2
			echo "    sudo apt-get update && sudo apt-get install -y $$package" >&2
			exit 1
		fi
		echo "setup: $$python cannot make virtual environments; installing $$package"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$$package" >/dev/null
		"$$python" -m venv .tools
	fi
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	printf '%s' "$$python" > .tools/.python
	touch $@
