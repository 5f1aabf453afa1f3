"""V2's changes to a block, one at a time: order of norms, similarity, kind of position bias."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.attention.position_encoding import gather_bias, linear_offsets, log_spaced_offsets
from swin_backbone.attention.window import CosineWindowAttention, WindowAttention
from swin_backbone.backbones.blocks import ResPostNormBlock, SwinBlock
from tests.helpers import TINY, relative_error, tiny_backbone

CHOICES = list(itertools.product(('pre', 'post'), ('dot', 'cosine'), ('table', 'linear', 'log')))


@pytest.mark.parametrize(('norm_order', 'similarity', 'position_bias'), CHOICES)
def test_every_combination_of_v2_options_trains(norm_order: str, similarity: str, position_bias: str) -> None:
    options = dict(norm_order=norm_order, similarity=similarity, position_bias=position_bias, window_size=4)
    for version in (1, 2):
        model = tiny_backbone(version=version, **options)
        block = model.layers[0].blocks[0]
        assert type(block) is (SwinBlock if norm_order == 'pre' else ResPostNormBlock)
        assert type(block.attn) is (WindowAttention if similarity == 'dot' else CosineWindowAttention)
        names = {name.partition('attn.')[2] for name in model.state_dict() if 'attn.' in name}
        assert ('relative_position_bias_table' in names) == (position_bias == 'table')
        assert ('cpb_mlp.2.weight' in names) == (position_bias != 'table')
        assert ('logit_scale' in names) == (similarity == 'cosine')
        sum((out**2).sum() for out in model(torch.randn(1, 3, 40, 36))).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('version', [1, 2])
def test_default_options_are_those_of_the_version(version: int) -> None:
    stated = dict(norm_order=('pre', 'post'), similarity=('dot', 'cosine'), position_bias=('table', 'log'))
    torch.manual_seed(0)
    usual = SwinTransformer(**TINY, version=version)
    torch.manual_seed(0)
    written = SwinTransformer(**TINY, version=version, **{name: both[version - 1] for name, both in stated.items()})
    assert list(usual.state_dict()) == list(written.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), written.parameters(), strict=True))


def test_linear_offsets_are_fractions_of_the_largest_offset_in_training() -> None:
    offsets = linear_offsets((4, 4), (0, 0))
    assert offsets[0].tolist() == [-1.0, -1.0] and offsets[-1].tolist() == [1.0, 1.0]
    assert linear_offsets((7, 7), (4, 4))[-1].tolist() == [2.0, 2.0]
    assert log_spaced_offsets((7, 7), (4, 4))[-1, 0] == pytest.approx(torch.log2(torch.tensor(17.0)).item() / 3)


@pytest.mark.parametrize('position_bias', ['table', 'linear', 'log'])
def test_position_biases_transfer_to_larger_windows(position_bias: str, tmp_path: Path) -> None:
    """A continuous bias is the same for shared offsets; a table is resized bicubically."""
    options: dict[str, Any] = dict(version=2, position_bias=position_bias, pretrained_window_sizes=(8, 8, 8, 8))
    small = tiny_backbone(**options, window_size=8)
    torch.save(small.state_dict(), tmp_path / 'w8.pth')
    for window in (12, 16, 24):
        large = SwinTransformer(**TINY, **options, window_size=window)
        load_pretrained(large, tmp_path / 'w8.pth')
        ours, reference = (net.layers[0].blocks[0].attn.position_table() for net in (large, small))
        side = 2 * window - 1
        maps = ours.t().reshape(1, -1, side, side)
        if position_bias == 'table':
            expected = torch.nn.functional.interpolate(
                reference.t().reshape(1, -1, 15, 15), size=(side, side), mode='bicubic', align_corners=False
            )
            assert relative_error(maps, expected) < 1e-5
        else:
            centre = maps[..., window - 8 : window + 7, window - 8 : window + 7]
            assert relative_error(centre, reference.t().reshape(1, -1, 15, 15)) < 1e-5
        assert gather_bias(ours, (window, window)).shape == (1, window**2, window**2)
