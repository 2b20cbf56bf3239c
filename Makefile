# Voice Node. `make run` on a bare Debian or Ubuntu (Python 3.11+, make, git, curl) sets up what is missing and serves a
# conversation at http://localhost:8080. `make test` sets up what the tests need and runs them. `make help` lists the rest.

# Variables, each with its default; set them on the command line: make run EXTRAS=local
PYTHON ?= python3# Python 3.11 or newer that .venv is made from
TLS ?=# make run: 1 serves the page and the WebSocket over HTTPS and WSS; phones give a page no microphone without
PUBLIC_URL ?=# make run: address under which browsers reach the page, such as https://voice.example
HOST ?=# make run: 0.0.0.0 opens it to other machines; set API_KEYS too
NODE_IP ?=# make run: address that clients send media to, where it isn't this machine's own (router, container)
EXTRAS ?=# extras to install as well: local (torch; by itself where a GPU is), postgres; none for no torch
TEST_APT ?=# Debian packages of the tests, instead of: chromium flite sox ffmpeg postgresql libatomic1
ARGS ?=# arguments for what is run: make run ARGS="--combined-logs", make test ARGS="-k barge"
UPGRADE ?=# make lock: 1 takes the newest versions instead of keeping pins

export EXTRAS TEST_APT UPGRADE
# TLS, PUBLIC_URL, HOST and NODE_IP go to the launcher's environment by themselves where they are given; .env may hold
# them, and every other setting, as well.
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-models setup setup-test lint format types doctor audit bench bench-load bench-recovery lock clean

help: ## List the commands and variables
	@$(PYTHON) tools/help.py Makefile

run: setup ## Set up what is missing, start everything, and say which address to open
	@exec $(VENV)/python launcher.py $(ARGS)

test: setup-test ## Set up what the tests need; lint, types, import rules, the page's checks, then all tests
	@exec $(VENV)/python tools/check.py $(ARGS)

test-models: setup-test ## Train the tests' own small models anew, in a folder of their own; takes minutes
	@exec $(VENV)/python -m pytest tests/models $(ARGS)

setup: ## Set up for running only
	@$(PYTHON) tools/setup.py run

setup-test: ## Set up for testing only
	@$(PYTHON) tools/setup.py test

lint: setup-test ## Style and import rules
	@$(VENV)/ruff check . && $(VENV)/ruff format --check . && $(VENV)/lint-imports

format: setup-test ## Put all Python files into the project's format
	@$(VENV)/ruff check --fix . ; $(VENV)/ruff format .

types: setup-test ## Types, strictly
	@$(VENV)/mypy

doctor: setup ## Say what is missing or in the way, and start nothing
	@exec $(VENV)/python launcher.py --check $(ARGS)

audit: setup-test ## Ask PyPI and npm for known vulnerabilities of what is pinned
	@$(VENV)/python tools/audit.py

bench: setup-test ## Measure from the end of speech to the first audible reply, by stage
	@exec $(VENV)/python bench/voice_to_voice.py $(ARGS)

bench-load: setup-test ## Talk as many at once: delays, refusals, processor and memory; ARGS="--conversations 8 --minutes 20"
	@exec $(VENV)/python bench/load.py $(ARGS)

bench-recovery: setup-test ## Kill and freeze each part in a conversation: seconds until the next turn was answered
	@exec $(VENV)/python bench/recovery.py $(ARGS)

lock: setup ## Write requirements/*.txt anew from pyproject.toml
	@$(VENV)/python tools/lock.py

clean: ## Remove all that was set up or built; data/ and .env stay
	rm -rf .venv .tools web/node_modules web/dist test-results bench/out *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
