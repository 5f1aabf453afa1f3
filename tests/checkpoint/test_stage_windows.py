"""One window size per stage, as in timm's swin_s3."""

from typing import Any

import pytest
import torch
from torch import nn

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.errors import InputError
from tests.checkpoint.peers import peer_maps
from tests.helpers import TINY, randomize, relative_error, tiny_backbone

S3 = {
    'tiny': dict(depths=(2, 2, 6, 2), window_size=(7, 7, 14, 7)),
    'small': dict(depths=(2, 2, 18, 2), window_size=(14, 14, 14, 7)),
    'base': dict(depths=(2, 2, 30, 2), window_size=(7, 7, 14, 7)),
}
# At this size, every map consists of whole windows, more than one along each axis.
SIDE = 448


@pytest.mark.parametrize('name', S3)
def test_swin_s3_weights_give_the_maps_of_timm(name: str) -> None:
    """With timm's windows and depths, but fewer channels."""
    timm = pytest.importorskip('timm')
    sizes: dict[str, Any] = dict(embed_dim=8, num_heads=(1, 2, 4, 8))
    peer: nn.Module = randomize(
        timm.create_model(f'swin_s3_{name}_224', img_size=SIDE, num_classes=3, drop_path_rate=0.0, **sizes)
    ).eval()
    ours = SwinTransformer(None, **sizes, **S3[name], drop_path_rate=0.0).eval()
    report = load_pretrained(ours, peer.state_dict())
    assert report.complete and not report.adapted and report.dialect == 'timm'
    image = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        for a, b in zip(ours(image), peer_maps('timm', peer, image, stages=4), strict=True):
            assert relative_error(a, b) < 1e-5


def test_tables_are_resized_to_the_window_of_their_stage() -> None:
    source = tiny_backbone(window_size=(3, 3, 4, 2))
    target = tiny_backbone(window_size=(3, (2, 4), 5, 2))
    report = load_pretrained(target, source.state_dict())
    assert {name.split('.')[1]: note for name, note in report.adapted.items()} == {
        '1': 'window 3x3 to 2x4',
        '2': 'window 4x4 to 5x5',
    }


@pytest.mark.parametrize('window', [4, (3, 5)])
def test_one_window_for_all_stages_equals_the_same_window_for_each(window: int | tuple[int, int]) -> None:
    image = torch.randn(1, 3, 50, 70)
    one = tiny_backbone(window_size=window).eval()
    each = SwinTransformer(**TINY, window_size=(window,) * 4).eval()
    load_pretrained(each, one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one(image), each(image), strict=True))


@pytest.mark.parametrize('window', [(7, 7, 14), (7, 7, 14, 7, 7), ((7, 7), (7, 7)), (7, 7, 0, 7), '7777'])
def test_invalid_window_sizes_are_an_error(window: Any) -> None:
    with pytest.raises(InputError, match='window_size must be'):
        SwinTransformer(**TINY, window_size=window)
