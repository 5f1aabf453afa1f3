"""Weights exchanged with the installed timm, torchvision and Transformers in both directions; maps are compared."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.checkpoint import read_checkpoint
from swin_backbone.checkpoint.export import convert_file
from tests.checkpoint.peers import PEERS, build_peer, peer_maps
from tests.helpers import randomize, relative_error

# Maps of 32, 16 and 8 tokens: whole windows, and more than one of them in each stage.
SIZES: dict[str, Any] = dict(embed_dim=16, depths=(2, 2, 2), num_heads=(1, 2, 4), window_size=4)
SIDE = 128
CASES = [(library, version) for library in PEERS for version in (1, 2)]
NORMS = {f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')}


def backbone(version: int) -> SwinTransformer:
    return SwinTransformer(None, version, **SIZES, drop_path_rate=0.0, out_indices=(0, 1, 2)).eval()


@torch.no_grad()
def assert_same_maps(ours: SwinTransformer, library: str, peer: nn.Module) -> None:
    image = torch.randn(2, 3, SIDE, SIDE)
    maps = peer_maps(library, peer, image, stages=3)
    for a, b in zip(ours(image), maps, strict=True):
        assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize(('library', 'version'), CASES)
def test_weights_of_a_library_give_its_maps(library: str, version: int) -> None:
    peer, ours = build_peer(library, version, SIZES, SIDE), backbone(version)
    report = load_pretrained(ours, peer.state_dict())
    assert report.dialect.startswith(library) and report.complete and set(report.new) == NORMS
    assert not report.adapted and not report.warnings
    assert_same_maps(ours, library, peer)


def load_exported(library: str, model: nn.Module, path: Path) -> nn.Module:
    """Load an exported file with the library's own loader."""
    state = dict(read_checkpoint(path))
    if library != 'transformers':
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert {name.partition('.')[0] for name in missing} == {'norm', 'head'}
        assert {name.partition('.')[0] for name in unexpected} == {'norm0', 'norm1', 'norm2'}
        return model
    model.config.save_pretrained(path.parent)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        loaded, info = type(model).from_pretrained(path.parent, output_loading_info=True)
    assert all(
        name.startswith(('classifier.', 'swin.layernorm.', 'swinv2.layernorm.')) for name in info['missing_keys']
    )
    return loaded.eval()


@pytest.mark.parametrize(('library', 'version'), CASES)
def test_exported_weights_give_our_maps_in_the_library(library: str, version: int, tmp_path: Path) -> None:
    ours = randomize(backbone(version))
    state: dict[str, Tensor] = dict(ours.state_dict())
    for name in NORMS:  # peer_maps applies norms without weights
        state[name] = torch.ones_like(state[name]) if name.endswith('weight') else torch.zeros_like(state[name])
    ours.load_state_dict(state)
    torch.save(state, tmp_path / 'ours.pth')
    convert_file(str(tmp_path / 'ours.pth'), tmp_path / 'model.safetensors', library, window_size=[4])
    peer = load_exported(library, build_peer(library, version, SIZES, SIDE), tmp_path / 'model.safetensors')
    assert_same_maps(ours, library, peer)
