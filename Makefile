# Every target makes the environment first, if it is not there. `STACK=onedl make TARGET` works in .venv-onedl, with
# the maintained forks of the toolkits, instead of in .venv.
STACK ?= openmmlab
VENV ?= $(if $(filter onedl,$(STACK)),.venv-onedl,.venv)
PY := $(VENV)/bin/python
STAMP := $(VENV)/.setup-done

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-seg demo-reppoints ablate-demo test check lint types format bench mmcv-parity model-zoo docs wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(STAMP)  ## the environment with torch, mmcv, the toolkits and this project; nothing to do once it is there

$(STAMP): pyproject.toml scripts/setup.sh
	STACK=$(STACK) VENV=$(VENV) scripts/setup.sh
	touch $@

demo: $(STAMP)  ## train and evaluate a small Cascade Mask R-CNN on generated images (work_dirs/demo)
	$(PY) tools/prepare_data.py shapes --root data/shapes
	$(PY) tools/train.py configs/detection/cascade_swin_demo.py --work-dir work_dirs/demo --data-root data/shapes

demo-seg: $(STAMP)  ## the same with UPerNet, for semantic segmentation (work_dirs/demo-seg)
	$(PY) tools/prepare_data.py shapes --root data/shapes
	$(PY) tools/train.py configs/segmentation/upernet_swin_demo.py --work-dir work_dirs/demo-seg --data-root data/shapes

demo-reppoints: $(STAMP)  ## the same with RepPoints V2, for boxes alone (work_dirs/demo-reppoints)
	$(PY) tools/prepare_data.py shapes --root data/shapes
	$(PY) tools/train.py configs/detection/reppoints_v2_swin_demo.py --work-dir work_dirs/demo-reppoints --data-root data/shapes

ablate-demo: $(STAMP)  ## the paper's Tables 4, 5 and 6 on the embedded data (work_dirs/ablate-demo)
	$(PY) tools/ablate.py table5 --demo
	$(PY) tools/ablate.py table4 --demo --task segmentation --jobs 2
	$(PY) tools/ablate.py table6 --demo --task segmentation --jobs 2

test: $(STAMP)  ## every test, files side by side on all cores; ARGS='-k geometry' chooses among them
	$(PY) -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

check: lint types test  ## what a change must pass: lint, types, test

lint: $(STAMP)  ## style and format
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(STAMP)  ## the package's annotations
	$(PY) -m mypy

format: $(STAMP)  ## mend what lint can mend by itself
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: $(STAMP)  ## speed of the backbone on this machine
	$(PY) tools/benchmark.py backbone

mmcv-parity: $(STAMP)  ## compare the operators that torchvision serves with a compiled mmcv (.venv-compiled; needs a C++ compiler)
	VENV=.venv-compiled MMCV=compiled scripts/setup.sh
	.venv-compiled/bin/python scripts/mmcv_parity.py save .venv-compiled/parity.pt
	$(PY) scripts/mmcv_parity.py check .venv-compiled/parity.pt

model-zoo: $(STAMP)  ## write the pages of the model zoo from the configs
	$(PY) tools/complexity.py --markdown docs/model_zoo.md
	$(PY) tools/complexity.py --classification --markdown docs/model_zoo_classification.md

docs: $(STAMP)  ## build the documentation as a site (build/site)
	$(PY) -m pip install --quiet --editable ".[docs]"
	$(PY) -m mkdocs build

wheel: $(STAMP)  ## build the wheel into dist/ and try it in a new environment beside torch alone
	PYTHON=$(PY) scripts/check_wheel.sh

clean:  ## remove what builds and tests leave behind; environments, data and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . \( -name .git -o -name '.venv*' \) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
