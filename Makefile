VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help quickstart test test-slow lint docs studies bench clean

help:  ## list what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

$(READY): setup.cfg constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,docs,mini,optimisers,report,ray,slurm,desk]'
	touch $(READY)

quickstart: $(READY)  ## train a watercolour LoRA on the embedded base: CPU, offline, minutes
	$(PYTHON) cli.py fit --config configs/quickstart.yaml

test: $(READY)  ## fast tests
	$(PYTHON) -m pytest -n auto --dist loadfile

test-slow: $(READY)  ## whole runs, two processes, notebooks, every block of the manual
	$(PYTHON) -m pytest -m slow

lint: $(READY)  ## style
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

docs: $(READY)  ## the manual as a site: build/site/index.html, which needs no network
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet

studies: $(READY)  ## all studies on the embedded base, hours of work: what has no result yet is run
	$(PYTHON) -m benchmarks.mini.untuned
	for file in configs/ablations/*/study.yaml; do $(PYTHON) cli.py study $$file || exit 1; done

bench: $(READY)  ## time training and sampling beside public scripts: build/speed.json and its table
	$(PYTHON) -m benchmarks.speed

clean:  ## remove what was made, except trained runs
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .cache/stylelora
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
