#!/usr/bin/env bash
# Build the source archive and the wheel into dist/, then test the wheel in a new environment with torch and without
# OpenMMLab. TORCH and TORCH_INDEX_URL are the same as in setup.sh; PYTHON needs the package 'build'.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-.venv/bin/python}
TORCH=${TORCH:-torch==2.14.1}
TORCH_INDEX_URL=${TORCH_INDEX_URL:-}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

rm -rf dist
"$PYTHON" -m build --outdir dist >"$scratch/build.log" 2>&1 || {
    cat "$scratch/build.log" >&2
    exit 1
}
"$PYTHON" - dist/*.whl <<'PROBE'
import sys
import zipfile

names = sys.argv[1:]
assert len(names) == 1 and names[0].endswith('-py3-none-any.whl'), f'expected one pure-Python wheel, got {names}'
entries = zipfile.ZipFile(names[0]).namelist()
unexpected = {entry.split('/')[0] for entry in entries if not entry.startswith(('swin_backbone/', 'swin_backbone-'))}
assert not unexpected, f'the wheel contains files outside the package: {sorted(unexpected)}'
binaries = [entry for entry in entries if entry.endswith(('.so', '.pyd', '.pth', '.pt', '.safetensors'))]
assert not binaries, f'the wheel contains binaries: {binaries}'
wanted = {'swin_backbone/evaluation/page.html', 'swin_backbone/configs/detection/cascade_swin_t_3x.py', 'swin_backbone/configs/segmentation/_base_/upernet.py'}
assert wanted <= set(entries), f'files are missing: {sorted(wanted - set(entries))}'
print(f'{names[0]}: {len(entries)} files')
PROBE

"$PYTHON" -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH"
"$python" -m pip install --quiet dist/*.whl
cd "$scratch"  # otherwise the checkout would be imported instead of the wheel
# Commands that require only torch.
"$scratch/venv/bin/swin-backbone" configs >/dev/null
"$scratch/venv/bin/swin-backbone" complexity --variant tiny
"$python" - <<'PROBE'
import sys

import torch

import swin_backbone

assert swin_backbone.__file__.startswith(sys.prefix), f'imported {swin_backbone.__file__}, not the wheel'
model = swin_backbone.SwinTransformer(variant='tiny').eval()
with torch.no_grad():
    maps = model(torch.zeros(1, 3, 64, 96))
shapes = [tuple(level.shape) for level in maps]
assert shapes == [(1, 96 * 2**i, 16 >> i, 24 >> i) for i in range(4)], shapes
toolkits = {'mmcv', 'mmdet', 'mmengine', 'mmseg'} & set(sys.modules)
assert not toolkits, f'importing swin_backbone loaded {sorted(toolkits)}'
from swin_backbone.files import find_config

assert find_config('cascade_swin_t_3x').is_file()
print(f'swin_backbone {swin_backbone.__version__} with torch {torch.__version__} alone: {shapes}')
PROBE
