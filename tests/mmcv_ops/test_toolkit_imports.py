"""MMDetection and MMPretrain with Transformers 5, with which MMPretrain cannot import its multimodal models."""

import os
import subprocess
import sys

import pytest

from swin_backbone.toolkit_imports import transformers_version

BUILD = """
import swin_backbone.registry
import mmpretrain.models, mmdet.models
"""


@pytest.mark.skipif(transformers_version() < 5, reason='Transformers 5 is not installed')
def test_mmpretrain_and_mmdet_can_be_imported() -> None:
    pytest.importorskip('mmpretrain')
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run([sys.executable, '-c', BUILD], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
