"""Feature maps with weights in the files of other codebases, compared with timm's."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from swin_backbone import SwinTransformer, load_pretrained
from tests.checkpoint.foreign import (
    FILES,
    SIDE,
    SIZES,
    State,
    distilled,
    prefixed,
    random_norms,
    reference,
    simmim,
    wrapped,
)
from tests.helpers import randomize, relative_error


@torch.no_grad()
def error_of(
    path: Path, version: int, image: Tensor, maps: list[Tensor], norms: State, ignored: tuple[str, ...]
) -> float:
    """Load ``path``, which must load completely, and return the largest relative error of the maps."""
    model = randomize(SwinTransformer(None, version, **SIZES, drop_path_rate=0.0, out_indices=(0, 1, 2))).eval()
    initial = SwinTransformer(None, version, **SIZES, out_indices=(0, 1, 2))
    for stage in range(3):  # norms that are not in the file keep their initial values
        model.get_submodule(f'norm{stage}').load_state_dict(initial.get_submodule(f'norm{stage}').state_dict())
    report = load_pretrained(model, path)
    assert report.complete and not report.adapted and not report.warnings
    assert len(report.new) == (0 if norms else 6) and report.ignored == ignored
    for stage in range(3 if norms else 0):
        weight, bias = (norms[f'norm{stage}.{kind}'][:, None, None] for kind in ('weight', 'bias'))
        maps = [m * weight + bias if i == stage else m for i, m in enumerate(maps)]
    return max(relative_error(ours, expected) for ours, expected in zip(model(image), maps, strict=True))


@pytest.mark.parametrize('with_norms', [False, True])
@pytest.mark.parametrize('name', FILES)
def test_files_give_the_same_maps_as_timm(name: str, with_norms: bool, tmp_path: Path) -> None:
    version, write, ignored = FILES[name]
    state, image, maps = reference(version, shared=name == 'Feature Distillation')
    norms = random_norms() if with_norms else {}
    assert error_of(write(tmp_path, {**state, **norms}), version, image, maps, norms, ignored) < 1e-5


@pytest.mark.parametrize('name', ['SimMIM V2', 'Feature Distillation', 'wrapped modules'])
def test_load_state_dict_equals_load_pretrained(name: str) -> None:
    version = FILES[name][0]
    build = {'SimMIM V2': simmim, 'Feature Distillation': distilled, 'wrapped modules': wrapped}[name]
    state = build({**reference(version, shared=name == 'Feature Distillation')[0], **random_norms()})
    ours, expected = (SwinTransformer(None, version, **SIZES, out_indices=(0, 1, 2)) for _ in range(2))
    assert not ours.load_state_dict(state.get('model', state), strict=False).missing_keys
    load_pretrained(expected, state)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), expected.parameters(), strict=True))


@torch.no_grad()
def test_maskformer_weights_give_the_maps_of_transformers(tmp_path: Path) -> None:
    """The output norms are a list outside the network in this class of Transformers."""
    module = pytest.importorskip('transformers.models.maskformer.modeling_maskformer_swin')
    sizes = {**SIZES, 'depths': list(SIZES['depths']), 'num_heads': list(SIZES['num_heads'])}
    outputs = [f'stage{stage + 1}' for stage in range(3)]
    config = module.MaskFormerSwinConfig(image_size=SIDE, drop_path_rate=0.0, out_features=outputs, **sizes)
    peer: nn.Module = randomize(module.MaskFormerSwinBackbone(config)).eval()
    path = tmp_path / 'model.safetensors'
    save_file(prefixed('model.pixel_level_module.encoder.', dict(peer.state_dict())), path)
    ours = SwinTransformer(None, **SIZES, drop_path_rate=0.0, out_indices=(0, 1, 2)).eval()
    report = load_pretrained(ours, path)
    assert report.complete and not report.new and not report.adapted
    image = torch.randn(2, 3, SIDE, SIDE)
    for a, b in zip(ours(image), peer(image).feature_maps, strict=True):
        assert relative_error(a, b) < 1e-5


def test_main_branch_norms_named_enorm_are_loaded() -> None:
    """``enorm`` in Feature Distillation is ``norm3`` here and in MMPretrain."""
    options = dict(embed_dim=16, depths=(6, 2), num_heads=(1, 2), out_indices=(0, 1), window_size=4)
    ours, source = (randomize(SwinTransformer('huge', 2, **options)).eval() for _ in range(2))
    state = {
        name.replace('.norm3.', '.enorm.').replace('.cpb_mlp.', '.rpe_mlp.'): value
        for name, value in source.state_dict().items()
    }
    assert 'layers.0.blocks.5.enorm.weight' in state
    assert load_pretrained(ours, {'model': state}).complete
    image = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(ours(image), source(image), strict=True))
