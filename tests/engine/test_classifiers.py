"""Classifiers with MMPretrain: configs compared with the recipes, and training, resuming and loading of a small one."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpretrain', reason='MMPretrain is not installed')

from mmengine.registry import MODELS, DefaultScope

from swin_backbone import SwinTransformer, cli, load_classifier, load_pretrained
from swin_backbone.checkpoint.published import WEIGHTS
from swin_backbone.cli import test, train
from swin_backbone.datasets.generated import write_data_set
from swin_backbone.datasets.generated_classes import ShapeClassesSpec
from swin_backbone.engine.config import dicts_in, load_config
from swin_backbone.engine.model_check import build_on_meta
from swin_backbone.files import installed_configs
from swin_backbone.model_zoo.complexity import count
from swin_backbone.model_zoo.page import read_notes

PATHS = {path.stem: path for name, path in installed_configs().items() if name.startswith('classification/')}
RECIPES = [name for name in PATHS if not name.endswith('_demo')]

DROP_PATH = {'swin_s': 0.3, 'swin_b': 0.5, 'swinv2_s': 0.3, 'swinv2_b': 0.5, 'mixer_b': 0.5}
"""Drop path rates of 300 epochs and of fine-tuning; the smallest networks and those with ImageNet-22K use 0.2."""

SCHEDULES = {
    '300e': (300, 20, 1024, 0.001, 0.05),
    '90e': (90, 5, 4096, 0.001, 0.05),
    '30e': (30, 5, 1024, 0.00004, 1e-8),
}
"""Epochs, warm-up epochs, batch size, learning rate and weight decay of the original code."""


def size_of(name: str) -> int:
    return next(
        (int(size) for size in ('384',) if size in name), 256 if name.startswith(('swinv2', 'mixer_t')) else 224
    )


@pytest.mark.parametrize('name', RECIPES)
def test_recipes_equal_the_original_ones(name: str) -> None:
    config, notes = load_config(str(PATHS[name])), read_notes(PATHS[name])
    assert {'Source', 'Original', 'Expected', 'Size'} <= notes.lines.keys() and 'publish' in notes.lines['Expected']
    epochs, warm_up, batch, rate, decay = SCHEDULES[name.rpartition('_')[2]]
    optimizer, schedule = config.optim_wrapper.optimizer, config.param_scheduler
    assert (config.train_cfg.max_epochs, schedule[0].end, schedule[1].end) == (epochs, warm_up, epochs)
    assert schedule[1].T_max == epochs - warm_up and schedule[1].eta_min_ratio == 0.01
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', rate, decay)
    assert config.auto_scale_lr.base_batch_size == batch and config.optim_wrapper.clip_grad.max_norm == 5.0
    backbone, head = config.model.backbone, config.model.head
    expected = 0.2 if '22k' in name else DROP_PATH.get('_'.join(name.split('_')[:2]), 0.2)
    assert (backbone.drop_path_rate, head.loss.label_smooth_val) == (expected, 0.1)
    assert [(one.type, one.alpha) for one in config.model.train_cfg.augments] == [('Mixup', 0.8), ('CutMix', 1.0)]
    steps = {step['type']: step for step in dicts_in(config.train_dataloader.dataset.pipeline) if 'type' in step}
    assert steps['RandomResizedCrop'].scale == size_of(name) and steps['RandomErasing'].erase_prob == 0.25
    assert (steps['RandAugment'].magnitude_level, steps['RandAugment'].magnitude_std) == (9, 0.5)
    source = (backbone.get('init_cfg') or {}).get('checkpoint')
    assert source is None or WEIGHTS[source].variant == backbone.variant
    assert not any('EMA' in str(hook.get('type')) for hook in config.get('custom_hooks') or [])


@pytest.mark.parametrize('name', ['swin_l_22k_90e', 'swinv2_t_w16_300e', 'mixer_t_c24_300e'])
def test_sizes_in_the_docstrings_are_correct(name: str) -> None:
    model = build_on_meta(load_config(str(PATHS[name]))).eval()
    size = size_of(name)
    cost = count(model, lambda image: model.head(model.neck(model.backbone(image))), 3, (size, size))
    expected = f'{cost.params / 1e6:.1f}M parameters, {cost.flops / 1e9:.1f}G multiply-adds at {size}x{size}'
    assert read_notes(PATHS[name]).lines['Size'].startswith(expected)


SMALL = ['model.backbone.embed_dim=16', 'model.backbone.depths=(1,1,1,1)', 'model.head.in_channels=128']
SMALL += ['train_dataloader.batch_size=4', 'default_hooks.checkpoint.max_keep_ckpts=-1']


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the demo for two iterations and resume it for two more."""
    folder = tmp_path_factory.mktemp('classifier')
    write_data_set(folder / 'shapes', ShapeClassesSpec(train_count=12, val_count=6))
    options = ['swin_demo', '--data-root', str(folder / 'shapes'), '--work-dir', str(folder / 'run'), '--cfg-options']
    with pytest.raises(SystemExit) as stop:
        cli.run(train.main, [*options, *SMALL, '--max-iters', '2'])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        cli.run(train.main, [*options, *SMALL, '--max-iters', '4', '--resume'])
    assert stop.value.code == 0
    return folder


@pytest.mark.slow
def test_training_writes_checkpoints_plots_and_a_summary(trained: Path) -> None:
    run = trained / 'run'
    assert {'summary.json', 'curves.png', 'predictions.png', 'iter_2.pth', 'iter_4.pth'} <= {
        p.name for p in run.iterdir()
    }
    summary = json.loads((run / 'summary.json').read_text())
    assert summary['iterations'] == 4 and 0 <= summary['top1'] <= 1


@pytest.mark.slow
def test_the_test_command_reproduces_the_score_of_training(trained: Path, tmp_path: Path) -> None:
    options = ['--data-root', str(trained / 'shapes'), '--work-dir', str(tmp_path), '--cfg-options', *SMALL]
    with pytest.raises(SystemExit) as stop:
        cli.run(test.main, ['swin_demo', str(trained / 'run/iter_4.pth'), *options])
    assert stop.value.code == 0
    scores = [json.loads((folder / 'summary.json').read_text())['top1'] for folder in (tmp_path, trained / 'run')]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_a_classifier_checkpoint_loads_into_backbones_and_classifiers(trained: Path) -> None:
    checkpoint = trained / 'run/iter_4.pth'
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    sizes = dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)
    dense = SwinTransformer(None, **sizes)
    load_pretrained(dense, checkpoint)
    name = 'layers.3.blocks.0.attn.qkv.weight'
    assert torch.equal(dense.state_dict()[name], state[f'backbone.{name}'])
    assert torch.equal(dense.norm3.weight, torch.ones(128)), "a classifier's norm is not loaded into a dense network"

    config = load_config('swin_demo', SMALL)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        reference = MODELS.build(config.model).eval()
    reference.load_state_dict(state)
    ours, image = load_classifier(checkpoint, image_size=64).eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), reference(image))
