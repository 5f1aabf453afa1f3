# Every target creates the environment first if it does not exist. `STACK=onedl make TARGET` uses .venv-onedl, with the
# maintained forks of the toolkits, instead of .venv.
STACK ?= openmmlab
VENV ?= $(if $(filter onedl,$(STACK)),.venv-onedl,.venv)
PY := $(VENV)/bin/python
STAMP := $(VENV)/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-seg demo-reppoints ablate-demo test check lint types format bench mmcv-parity model-zoo docs wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(STAMP)  ## create the environment with torch, mmcv, the toolkits and this project

$(STAMP): pyproject.toml scripts/setup.sh
	STACK=$(STACK) VENV=$(VENV) scripts/setup.sh
	touch $@

demo: $(STAMP)  ## train and evaluate a small Cascade Mask R-CNN on generated images (work_dirs/demo)
	$(PY) tools/prepare_data.py shapes --root data/shapes
	$(PY) tools/train.py configs/detection/cascade_swin_demo.py --work-dir work_dirs/demo --data-root data/shapes

demo-seg: $(STAMP)  ## train and evaluate a small UPerNet for semantic segmentation (work_dirs/demo-seg)
	$(PY) tools/prepare_data.py shapes --root data/shapes
	$(PY) tools/train.py configs/segmentation/upernet_swin_demo.py --work-dir work_dirs/demo-seg --data-root data/shapes

demo-reppoints: $(STAMP)  ## train and evaluate a small RepPoints V2 for boxes only (work_dirs/demo-reppoints)
	$(PY) tools/prepare_data.py shapes --root data/shapes
	$(PY) tools/train.py configs/detection/reppoints_v2_swin_demo.py --work-dir work_dirs/demo-reppoints --data-root data/shapes

ablate-demo: $(STAMP)  ## run the paper's Tables 4, 5 and 6 on generated data (work_dirs/ablate-demo)
	$(PY) tools/ablate.py table5 --demo
	$(PY) tools/ablate.py table4 --demo --task segmentation --jobs 2
	$(PY) tools/ablate.py table6 --demo --task segmentation --jobs 2

test: $(STAMP)  ## run all tests in parallel; ARGS='-k window_plan' selects tests
	$(PY) -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

check: lint types test  ## run lint, types and test, which every change must pass

lint: $(STAMP)  ## check style and format
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(STAMP)  ## check types
	$(PY) -m mypy

format: $(STAMP)  ## format the code and apply automatic lint fixes
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: $(STAMP)  ## measure the speed of the backbone on this machine
	$(PY) tools/benchmark.py backbone

mmcv-parity: $(STAMP)  ## compare torchvision's replacements with a compiled mmcv (.venv-compiled; needs a C++ compiler)
	VENV=.venv-compiled MMCV=compiled scripts/setup.sh
	.venv-compiled/bin/python scripts/mmcv_parity.py save .venv-compiled/parity.pt
	$(PY) scripts/mmcv_parity.py check .venv-compiled/parity.pt

model-zoo: $(STAMP)  ## generate the model zoo pages from the configs
	$(PY) tools/complexity.py --markdown docs/model_zoo.md
	$(PY) tools/complexity.py --classification --markdown docs/model_zoo_classification.md

docs: $(STAMP)  ## build the documentation site (build/site)
	$(PY) -m pip install --quiet --editable ".[docs]"
	$(PY) -m mkdocs build

wheel: $(STAMP)  ## build the wheel into dist/ and test it in a new environment with only torch
	PYTHON=$(PY) scripts/check_wheel.sh

clean:  ## remove build and test artifacts; environments, data and runs are kept
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . \( -name .git -o -name '.venv*' \) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
