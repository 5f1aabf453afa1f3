"""Training in several processes, without GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from tests.conftest import REPOSITORY

pytest.importorskip('mmseg', reason='MMSegmentation is not installed')


def test_two_gloo_processes_train_a_segmenter(tmp_path: Path) -> None:
    write_shapes(tmp_path / 'shapes', ShapesSpec(train_count=4, val_count=2))
    options = ['--data-root', str(tmp_path / 'shapes'), '--work-dir', str(tmp_path / 'run'), '--max-iters', '2']
    sizes = ['train_dataloader.batch_size=2', 'model.backbone.embed_dim=16', 'model.auxiliary_head.in_channels=64']
    sizes += ['model.decode_head.in_channels=[16,32,64,128]']
    for loader in ('train_dataloader', 'val_dataloader'):
        sizes += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
    config = REPOSITORY / 'configs/segmentation/upernet_swin_demo.py'
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2', REPOSITORY / 'tools/train.py']
    done = subprocess.run(
        [sys.executable, *launch, config, '--launcher', 'pytorch', *options, '--cfg-options', *sizes],
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'batch      4 = 2 process(es) x 2 images' in done.stdout + done.stderr
    summary = json.loads((tmp_path / 'run/summary.json').read_text())
    assert summary['iterations'] == 2 and 0 <= summary['mIoU'] <= 1
