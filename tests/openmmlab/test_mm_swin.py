"""MMSwinTransformer as a replacement of the Swin classes of MMDetection and MMSegmentation."""

import copy
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

import swin_backbone.openmmlab.custom_keys  # noqa: F401  registers the constructor
from swin_backbone import SwinTransformer
from swin_backbone.backbones.mm_swin import MMSwinTransformer
from swin_backbone.model_zoo.toolkit_backbones import Use, compare, find_uses, put_into
from tests.helpers import TINY, randomize

SMALL: dict[str, Any] = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4)
HEAD_CHANNELS, DEEPEST = 4, 2


def shrink(use: Use) -> Use:
    """Reduce width and depth of a backbone; parameter names change only in the number of blocks."""
    arguments = copy.deepcopy(use.arguments)
    heads = arguments.get('num_heads', (3, 6, 12, 24))
    arguments['embed_dims'] = HEAD_CHANNELS * heads[0]
    arguments['depths'] = [min(depth, DEEPEST) for depth in arguments.get('depths', (2, 2, 6, 2))]
    return replace(use, arguments=arguments)


@pytest.mark.parametrize(('toolkit', 'configs', 'backbones'), [('mmdet', 90, 20), ('mmseg', 20, 9)])
def test_backbones_of_installed_configs_equal_the_toolkits(toolkit: str, configs: int, backbones: int) -> None:
    alike: dict[str, list[Use]] = {}
    for use in find_uses(toolkit):
        alike.setdefault(use.key, []).append(shrink(use))
    assert sum(map(len, alike.values())) >= configs and len(alike) >= backbones
    for uses in alike.values():
        comparison = compare(toolkit, tuple(uses))
        assert comparison.passed, comparison


def scalar(maps: Any) -> Tensor:
    return sum((m * torch.linspace(-1, 1, m.numel()).view_as(m)).sum() for m in maps)


@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('options', [dict(), dict(with_cp=True, qk_scale=0.3), dict(patch_norm=False, qkv_bias=False)])
def test_training_equals_the_toolkits_with_the_same_seed(toolkit: str, options: dict[str, Any]) -> None:
    stock_class = pytest.importorskip(f'{toolkit}.models.backbones.swin').SwinTransformer
    reference, ours = stock_class(**SMALL, **options, drop_path_rate=0.5), MMSwinTransformer(
        **SMALL, **options, drop_path_rate=0.5
    )  # fmt: skip
    ours.load_state_dict(randomize(reference).state_dict(), strict=True)
    image, losses, gradients = torch.randn(3, 3, 61, 83, requires_grad=True), [], []
    for model in (reference, ours):
        model.train()
        torch.manual_seed(1)
        loss = scalar(model(image))
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max()), name


@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
def test_frozen_stages_freeze_the_same_parameters(toolkit: str) -> None:
    stock_class = pytest.importorskip(f'{toolkit}.models.backbones.swin').SwinTransformer
    for frozen in range(-1, 4):
        reference, ours = (made(**SMALL, frozen_stages=frozen) for made in (stock_class, MMSwinTransformer))
        reference.train()
        trained = [{n for n, p in model.named_parameters() if p.requires_grad} for model in (reference, ours)]
        assert trained[0] == trained[1]


REPLACE = """
import swin_backbone.mmcv_ops
import mmdet.models
from mmengine.config import Config
config = Config.fromfile({config!r})
import mmseg.models
from mmengine.registry import init_default_scope
for toolkit in ('mmdet', 'mmseg'):
    init_default_scope(toolkit)
    from mmengine.registry import MODELS
    model = MODELS.build(dict(type='SwinTransformer', **{small!r}))
    assert type(model).__name__ == 'MMSwinTransformer', type(model)
    assert type(MODELS.build(dict(type=toolkit + '.SwinTransformer', **{small!r}))) is type(model)
from mmdet.models import SwinTransformer
from mmseg.models.backbones import SwinTransformer as other
assert SwinTransformer is other is type(model)
from mmdet.models.backbones.swin import SwinTransformer as stock
stock(**{small!r}).load_state_dict(model.state_dict(), strict=True)
"""


def test_replace_works_between_imports_of_the_toolkits(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_text("custom_imports = dict(imports=['swin_backbone.replace'], allow_failed_imports=False)\n")
    code = REPLACE.format(config=str(config), small=SMALL)
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LAZY = """
from mmengine.model import PretrainedInit
from swin_backbone.backbones.mm_swin import MMSwinTransformer

backbone = dict(
    type=MMSwinTransformer, embed_dims=16, num_heads=[1, 2, 4, 8], window_size=4, norm_cfg=dict(type='LN'),
    init_cfg=dict(type=PretrainedInit, checkpoint={file!r}))
"""


def test_lazy_config_builds_and_loads_weights(tmp_path: Path) -> None:
    file = MMSwinTransformer(embed_dims=16, num_heads=(1, 2, 4, 8), window_size=4).state_dict()
    torch.save(file, tmp_path / 'swin.pth')
    (tmp_path / 'lazy.py').write_text(LAZY.format(file=str(tmp_path / 'swin.pth')))
    config = Config.fromfile(tmp_path / 'lazy.py', lazy_import=True)
    config.dump(tmp_path / 'dumped.py')
    for path in (tmp_path / 'lazy.py', tmp_path / 'dumped.py'):
        model = MODELS.build(Config.fromfile(path, lazy_import=path.stem == 'lazy').backbone)
        model.init_weights()
        assert model.load_report.complete
        assert all(torch.equal(value, file[name]) for name, value in model.state_dict().items())


class Model(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize(
    ('keys', 'expected'),
    [
        (['relative_position_bias_table', 'absolute_pos_embed', 'backbone', 'norm'], []),
        (['backbone.stages.0.blocks.1.norm'], ['backbone.layers.0.blocks.1.norm', 'swin_backbone.MMSwinTransformer']),
        (['backbone.stagse'], ['backbone.stagse; correct or remove them']),
    ],
)
def test_unmatched_custom_keys_are_warned_about(
    keys: list[str], expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = dict(
        optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        paramwise_cfg=dict(custom_keys={key: dict(decay_mult=0.0) for key in keys}),
    )
    with caplog.at_level(logging.WARNING):
        from mmengine.logging import MMLogger

        logger = MMLogger.get_current_instance()
        logger.addHandler(caplog.handler)
        try:
            build_optim_wrapper(Model(SwinTransformer(**TINY)), copy.deepcopy(config))
            messages = [record.getMessage() for record in caplog.records if 'match no parameter' in record.getMessage()]
            caplog.clear()
            build_optim_wrapper(Model(MMSwinTransformer(**SMALL)), copy.deepcopy(config))
        finally:
            logger.removeHandler(caplog.handler)
    assert 'match no parameter' not in caplog.text
    assert len(messages) == bool(expected)
    assert all(text in messages[0] for text in expected)


def test_put_into_replaces_previous_results() -> None:
    page = put_into('# Page\n\ntext\n\n## Results\n\nold\n', '## Results\n\nnew\n')
    assert page == '# Page\n\ntext\n\n## Results\n\nnew\n'
    assert put_into('# Page\n', '## Results\n') == '# Page\n\n## Results\n'
