"""Whole models of the toolkits' configs with either backbone, and the round trip of a checkpoint between them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint, save_checkpoint

from swin_backbone.model_zoo import toolkit_models
from swin_backbone.model_zoo.toolkit_backbones import Use, config_folder, uses_in
from swin_backbone.model_zoo.toolkit_models import Pair, build, compare_family, missing_part

OURS = 'swin_backbone.MMSwinTransformer'


def use_of(toolkit: str, config: str) -> Use:
    read = Config.fromfile(config_folder(toolkit) / config, import_custom_modules=False, format_python_code=False)
    return uses_in(read, config)[0]


@pytest.mark.parametrize(
    ('toolkit', 'config'),
    [
        ('mmdet', 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'),
        ('mmdet', 'mask2former/mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic.py'),
        ('mmseg', 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'),
    ],
)
def test_training_step_and_prediction_equal_the_toolkits(toolkit: str, config: str) -> None:
    """`swin-backbone check-configs --toolkits` checks this for a model of every family."""
    pair = compare_family(toolkit, 'family', use_of(toolkit, config))
    assert pair.outcome == 'equal', pair
    assert pair.passed and pair.loss > 0 and 'equal' in pair.row()


@pytest.mark.parametrize(
    ('pair', 'passed', 'outcome'),
    [
        (Pair('a', 'b.py', 1.0, 1e-6, 1e-6), True, 'equal'),
        (Pair('a', 'b.py', 1.0, 1e-6, float('inf')), False, 'DIFFERENT'),
        (Pair('a', 'b.py', failure='ValueError: no'), False, 'ValueError: no'),
        (Pair('a', 'b.py', failure='needs mmdet', missing=True), True, 'needs mmdet'),
    ],
)
def test_pair_outcomes(pair: Pair, passed: bool, outcome: str) -> None:
    assert (pair.passed, pair.outcome) == (passed, outcome)
    assert outcome in toolkit_models.as_markdown([pair])


def test_missing_language_model_is_named() -> None:
    model = Config(dict(model=dict(type='GroundingDINO', language_model=dict(type='BertModel', name='no/such-model'))))
    assert missing_part(model.model) == 'needs the language model no/such-model, which was not found'
    assert missing_part(Config(dict(model=dict(type='DINO'))).model) == ''


def train_step(model: Any) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    maps = model.train().extract_feat(torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(0)))
    sum(one.square().mean() for one in maps).backward()
    optimizer.step()
    return optimizer


def test_checkpoint_round_trip_between_backbones_is_exact(tmp_path: Path) -> None:
    """Weights and the state of the optimizer are loaded strictly and are equal after each conversion."""
    config = 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
    use = replace(use_of('mmdet', config))
    model = Config.fromfile(config_folder('mmdet') / config, import_custom_modules=False).model
    toolkit_models.shrink(model)
    files = [tmp_path / name for name in ('stock.pth', 'ours.pth', 'back.pth')]
    with DefaultScope.overwrite_default_scope('mmdet'):
        for file, before, kind in zip(files, [None, *files], [None, OURS, None], strict=False):
            torch.manual_seed(0)
            one = build(model, use, kind)
            optimizer = torch.optim.AdamW(one.parameters(), lr=1e-3)
            if before is None:
                one.init_weights()
                optimizer = train_step(one)
            else:
                content = load_checkpoint(one, str(before), strict=True)
                optimizer.load_state_dict(content['optimizer'])
            state = dict(state_dict=one.state_dict(), optimizer=optimizer.state_dict(), meta={})
            save_checkpoint(state, str(file))
    stock, ours, back = (torch.load(file, weights_only=True) for file in files)
    for other in (ours, back):
        assert list(other['state_dict']) == list(stock['state_dict'])
        assert all(torch.equal(value, other['state_dict'][name]) for name, value in stock['state_dict'].items())
        for number, moments in stock['optimizer']['state'].items():
            assert all(torch.equal(value, other['optimizer']['state'][number][key]) for key, value in moments.items())
