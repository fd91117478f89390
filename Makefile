# Two commands to know: `make run` and `make test`. The first of them makes .venv and installs what it needs.
SHELL := /bin/sh
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13 python,$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
# --no-compile: what is never imported need not be compiled, which halves the time. --no-deps: the pins are complete.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps
CODE := bot channels knowledge jobs admin app.py run.py

.PHONY: run test lint bench eval clean

run: $(VENV)/run.stamp
	@exec $(BIN)/python run.py

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . || { echo "ruff: run $(BIN)/ruff format . and mend what it names"; exit 1; }
	@$(BIN)/mypy $(CODE)

bench: $(VENV)/dev.stamp
	@$(BIN)/python -m bench $(ARGS)

eval: $(VENV)/dev.stamp
	@$(BIN)/python -m bench.eval $(ARGS)

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found. Install it, or name it: make PYTHON=/path/to/python3 run"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make $(VENV). On Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/run.stamp: requirements.txt | $(BIN)/python
	@echo "Installing what it needs, once (about a minute) …"
	@$(INSTALL) -r requirements.txt || { echo "Installing failed; the lines above say why. Without network: set a mirror in pip's configuration. Without a C compiler: install gcc."; exit 1; }
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	@$(INSTALL) -r requirements-dev.txt || { echo "Installing the test packages failed; the lines above say why."; exit 1; }
	@touch $@
