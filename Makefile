# Set-up, checks and the demo. Everything runs in .venv, which builds itself from the pinned versions in constraints.txt.

PYTHON ?= python3
LEROBOT_PYTHON ?= python3.12
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python -m

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lerobot matrix lint format docs clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
	@echo 'PYTHON=python3.12 chooses the interpreter that builds .venv (3.11 or newer).'

demo: $(VENV)/ready-core  ## learn a world model of real Doom, train an agent in it, report (ARGS="--fresh" starts over)
	$(VENV)/bin/videogen-dream demo $(ARGS)

# One process per core, since a test computes with one thread (tests/conftest.py). Their files, some 50,000, are kept in
# memory where it has 8 GB to spare, and deleted after each test that passes: some disks take minutes to delete them.
SPARE := $(shell df -k --output=avail /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 8000000')
PYTEST := PYTHONDONTWRITEBYTECODE= $(if $(SPARE),TMPDIR=/dev/shm) $(RUN) pytest -n auto --dist loadfile --durations=15 \
	$(if $(SPARE),-o tmp_path_retention_policy=failed)

test: $(VENV)/ready-test  ## the whole suite but the slow tests (ARGS="-k name -n 0" chooses, in one process)
	$(PYTEST) -m "not slow and not gpu and not network" $(ARGS)

test-slow: $(VENV)/ready-test  ## the slow tests: minutes each
	$(PYTEST) -m "slow and not gpu and not network" $(ARGS)

# LeRobot's versions of torch and huggingface-hub exclude ours, so it gets an environment of its own (4 GB).
test-lerobot: $(VENV)/ready-test  ## LeRobot itself reads our exports (LEROBOT_PYTHON=python3.12, the version it needs)
	test -x .venv-lerobot/bin/pip || $(LEROBOT_PYTHON) -m venv .venv-lerobot
	.venv-lerobot/bin/pip install --disable-pip-version-check --quiet 'lerobot[dataset,av-dep]==0.6.1'
	LEROBOT_PYTHON=.venv-lerobot/bin/python $(RUN) pytest tests/data/lerobot/test_with_lerobot.py $(ARGS)

# Interpreters of pyenv and uv, which need not be in the PATH.
PYTHONS := $(wildcard $(HOME)/.pyenv/versions/3.1[1-9]*/bin/python $(HOME)/.local/share/uv/python/*/bin/python)

matrix: $(VENV)/ready-dev  ## the suite on Python 3.11 to 3.14, those that are here (ARGS="tests/test_packaging.py" chooses)
	$(RUN) tox run $(if $(PYTHONS),--discover $(PYTHONS)) $(if $(ARGS),-- $(ARGS))
	@echo 'SKIP means that this interpreter is not here. It comes with the system (python3.14 python3.14-venv),'
	@echo 'by "pyenv install 3.14" or by "uv python install 3.14"; then run this again.'

lint: $(VENV)/ready-dev  ## ruff and mypy
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	@# mypy cannot follow package-dir's renaming, so it reads the installed layout made of links
	@rm -rf .typed && mkdir -p .typed/worldmodel
	@cd .typed/worldmodel && ln -s ../../worldmodel/* ../../envs ../../agents ../../training .
	MYPYPATH=.typed $(RUN) mypy -p worldmodel

format: $(VENV)/ready-dev  ## sort imports, fix what ruff can, format
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

docs: $(VENV)/ready-docs  ## build docs/_build/index.html
	$(RUN) sphinx -W --keep-going docs docs/_build

clean:  ## remove what building and checking left; .venv and runs/ stay
	rm -rf build dist .tox *.egg-info docs/_build docs/jupyter_execute .typed .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# Stamps: set up once, and again when the versions change. A richer set-up (dev) also counts as the plainer ones.
EXTRAS_core :=
EXTRAS_test := [test]
EXTRAS_dev := [test,dev]
EXTRAS_docs := [docs]

$(VENV)/ready-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install --disable-pip-version-check -c constraints.txt -e '.$(EXTRAS_$*)'
	@touch $@ $(VENV)/ready-core $(if $(filter dev,$*),$(VENV)/ready-test)
