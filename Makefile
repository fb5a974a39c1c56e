# Everything a person or a CI machine types. Needs Python 3.11 or 3.12, make and git; installs the rest itself.
#
#   make setup        .venv from uv.lock, hashes checked (EXTRAS="gpu kaggle" adds extras)
#   make quickstart   setup, a small study on synthetic faces, one prediction from its export
#   make test         setup with the developers' tools, a browser, an SSH server, then every test
#   make check        lint and types
#   make docs         the documentation as a site, in site/
#   make bench        searches beside other tools on recorded learning curves; hours (SEEDS="3" for a look)

SHELL := /bin/bash
PYTHON ?= python3
EXTRAS ?=

export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
export PYTHONDONTWRITEBYTECODE :=  # where it is set, every process compiles TensorFlow anew, for 11 s

BIN := .venv/bin
TWO_AT_ONCE := --numprocesses 2 --dist loadfile --no-loadscope-reorder  # a study waits a third of its time
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
LOCKED := pyproject.toml uv.lock
SYNC = $(UV) sync --locked --python "$(PYTHON)" $(addprefix --extra ,$(EXTRAS))
empty :=
EXTRAS_TAG := $(subst $(empty) $(empty),-,$(strip $(EXTRAS)))
RUNTIME := .venv/.runtime$(addprefix -,$(EXTRAS_TAG))
DEVELOPMENT := .venv/.development$(addprefix -,$(EXTRAS_TAG))

.PHONY: setup develop quickstart test test-fast test-gpu lint types check docs bench clean

setup: $(RUNTIME)
develop: $(DEVELOPMENT)

quickstart: setup
	$(BIN)/emotune run studies/quickstart.yaml || test $$? -eq 3  # on a slow machine its time is over first
	$(BIN)/emotune predict runs/quickstart/export studies/happy.png

test: develop
	bash tests/support/install_browser.sh
	bash tests/support/install_servers.sh
	$(BIN)/pytest $(TWO_AT_ONCE)

test-fast: develop
	$(BIN)/pytest $(TWO_AT_ONCE) -m "not slow and not browser"

test-gpu: develop
	$(BIN)/pytest -m gpu

lint: develop
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: develop
	$(BIN)/mypy

check: lint types

docs: develop
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open site/index.html, or with its search: python3 -m http.server --directory site"

SEEDS ?= 50
bench: develop
	$(UV) sync --locked --inexact --python "$(PYTHON)" --group bench
	$(BIN)/python -m benchmarks.search --seeds $(SEEDS)

clean:
	rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache

# --inexact: a developer's tools survive `make quickstart`.
$(RUNTIME): $(LOCKED) | $(UV)
	@$(PYTHON) .ci/python_version.py
	$(SYNC) --no-dev --inexact
	@touch $@

$(DEVELOPMENT): $(LOCKED) | $(UV)
	@$(PYTHON) .ci/python_version.py
	$(SYNC) --inexact
	@touch $@ $(RUNTIME)

.tools/bin/uv: .ci/uv.txt
	@$(PYTHON) .ci/python_version.py
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r .ci/uv.txt
	@touch $@
