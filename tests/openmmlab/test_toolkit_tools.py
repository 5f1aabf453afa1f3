"""The toolkits' own tools load their checkpoints of our models, and reject checkpoints that run code."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.engine.config import load_config, move_data_root
from tests.conftest import REPOSITORY
from tests.engine.kill_table import BACKBONE, DEMOS, HEADS

CONFIG = """
_base_ = '{base}'
model = dict(backbone={backbone}, {heads})
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1, val_interval=9)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1, save_best=None))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)
test_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001))
work_dir = '{work_dir}'
"""

TOOLS = """
import pathlib, runpy, sys
import torch
from mmengine.config import config as config_module
from mmengine.runner import runner
runner.collect_env, config_module.FormatCode = dict, lambda text, **options: (text, True)  # slow, and not needed
tools, config, work_dir = sys.argv[1:]
def call(name, *args):
    sys.argv = [name, config, *args]
    runpy.run_path(tools + '/' + name, run_name='__main__')
call('train.py')
listed = set(torch.serialization.get_safe_globals())
call('train.py', '--resume', '--cfg-options', 'train_cfg.max_iters=2')
call('test.py', work_dir + '/iter_2.pth')
print('listed', set(torch.serialization.get_safe_globals()) == listed)

class Payload:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(work_dir, 'owned'),)

content = torch.load(work_dir + '/iter_2.pth', weights_only=False)
content['meta']['payload'] = Payload()
torch.save(content, work_dir + '/evil.pth')
try:
    call('test.py', work_dir + '/evil.pth')
except Exception as error:
    print('refused', type(error).__name__, pathlib.Path(work_dir, 'owned').exists())
"""

INFERENCE = """
import sys
config, checkpoint, image = sys.argv[1:]
import swin_backbone.registry  # provides mmcv's operators
from mmdet.apis import DetInferencer, init_detector
print('first', len(DetInferencer(config, checkpoint, device='cpu')(image)['predictions']))
print('second', type(init_detector(config, checkpoint, device='cpu').backbone).__name__)
"""


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, '-W', 'ignore', '-c', code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ('toolkit', 'task'), [('mmdet', 'detection'), pytest.param('mmseg', 'segmentation', marks=pytest.mark.slow)]
)
def test_train_resume_test_and_inference(toolkit: str, task: str, tmp_path: Path) -> None:
    found = find_spec(toolkit)
    tools = Path(str(found.origin)).parent / '.mim/tools' if found else None
    if tools is None or not tools.is_dir():
        pytest.skip(f'{toolkit} is not installed with its tools')
    write_shapes(tmp_path / 'shapes', ShapesSpec(train_count=2, val_count=1))
    config, work_dir = tmp_path / 'config.py', tmp_path / 'run'
    base = REPOSITORY / 'configs' / task / f'{DEMOS[task]}.py'
    text = CONFIG.format(base=base, backbone=BACKBONE, heads=HEADS[task], work_dir=work_dir)
    config.write_text(text)
    moved = load_config(str(config))
    move_data_root(moved, str(tmp_path / 'shapes'))
    moved.dump(tmp_path / 'moved.py')
    output = run(TOOLS, tools, tmp_path / 'moved.py', work_dir)
    assert 'listed True' in output and 'refused UnpicklingError False' in output
    if toolkit == 'mmdet':
        image = next((tmp_path / 'shapes').rglob('*.jpg'))
        output = run(INFERENCE, tmp_path / 'moved.py', work_dir / 'iter_2.pth', image)
        assert 'first 1' in output and 'second SwinTransformer' in output
