"""Maps and gradients equal those of the Swin classes of MMDetection and MMSegmentation with the same weights."""

import random

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer
from tests.helpers import randomize, relative_error

CASES = 28  # per toolkit
RENAMES = [
    ('patch_embed.proj', 'patch_embed.projection'),
    ('layers.', 'stages.'),
    ('attn.', 'attn.w_msa.'),
    ('mlp.fc1', 'ffn.layers.0.0'),
    ('mlp.fc2', 'ffn.layers.1'),
]


def to_unfold_order(value: Tensor) -> Tensor:
    """Reorder channels of a merging layer as in ``nn.Unfold``: four neighbours in each channel, columns first."""
    return value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :].transpose(-2, -1).flatten(-2)


def stock_state(ours: SwinTransformer) -> dict[str, Tensor]:
    """Convert our weights to the names and the order of the stock backbone."""
    state = {}
    for name, value in ours.state_dict().items():
        if 'downsample' in name:
            value = to_unfold_order(value)
        for old, new in RENAMES:
            name = name.replace(old, new)
        state[name] = value
    return state


def build_stock(toolkit: str, options: dict) -> nn.Module:
    module = pytest.importorskip(f'{toolkit}.models.backbones')
    heads = options['num_heads']
    stock = module.SwinTransformer(
        embed_dims=options['embed_dim'],
        depths=options['depths'],
        num_heads=heads,
        strides=(4,) + (2,) * (len(heads) - 1),
        window_size=options['window_size'],
        mlp_ratio=options['mlp_ratio'],
        qkv_bias=options['qkv_bias'],
        in_channels=options['in_channels'],
        drop_path_rate=0.0,
        out_indices=options['out_indices'],
    )
    stock.eval()  # not chained, as it returns None
    return stock


def random_case(seed: int) -> tuple[dict, tuple[int, int, int]]:
    """Draw the sizes of a small network and of an image from a seed."""
    draw = random.Random(seed)
    stages = draw.choice([2, 3, 4])
    heads = draw.choice([1, 2, 3])
    options = dict(
        embed_dim=8 * heads,
        depths=tuple(draw.choice([1, 2, 3]) for _ in range(stages)),
        num_heads=tuple(heads * 2**i for i in range(stages)),
        window_size=draw.choice([2, 3, 4, 5, 7, 8]),
        mlp_ratio=draw.choice([2, 4]),
        qkv_bias=draw.random() < 0.8,
        in_channels=draw.choice([1, 3, 3, 5]),
        out_indices=tuple(range(stages)),
    )
    return options, (draw.choice([1, 2]), draw.randrange(9, 150), draw.randrange(9, 150))


@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
def test_maps_equal_the_stock_backbone_over_random_cases(toolkit: str) -> None:
    worst = 0.0
    for seed in range(CASES):
        options, (batch, height, width) = random_case(seed + 1000 * (toolkit == 'mmseg'))
        ours = randomize(SwinTransformer(variant=None, **options, drop_path_rate=0.0)).eval()
        reference = build_stock(toolkit, options)
        missing, unexpected = reference.load_state_dict(stock_state(ours), strict=False)
        assert not unexpected and all(key.endswith('relative_position_index') for key in missing)
        image = torch.randn(batch, options['in_channels'], height, width)
        with torch.no_grad():
            for backend in ('eager', 'sdpa'):
                set_backend(ours, backend)
                for a, b in zip(ours(image), reference(image), strict=True):
                    worst = max(worst, relative_error(a, b))
    print(f'worst relative error against {toolkit} over {CASES} cases and both backends: {worst:.2e}')
    assert worst < 1e-5


def set_backend(model: nn.Module, backend: str) -> None:
    for module in model.modules():
        if hasattr(module, 'backend'):
            module.backend = backend


@pytest.mark.parametrize('toolkit', ['mmdet', 'mmseg'])
def test_gradients_equal_the_stock_backbone(toolkit: str) -> None:
    options, _ = random_case(3)
    ours = randomize(SwinTransformer(variant=None, **options, drop_path_rate=0.0)).eval()
    reference = build_stock(toolkit, options)
    reference.load_state_dict(stock_state(ours), strict=False)
    image = torch.randn(2, options['in_channels'], 61, 83)
    for model in (ours, reference):
        sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in model(image)).backward()
    expected = dict(reference.named_parameters())
    for name, parameter in ours.named_parameters():
        value = to_unfold_order(parameter.grad) if 'downsample' in name else parameter.grad
        for old, new in RENAMES:
            name = name.replace(old, new)
        assert relative_error(value, expected[name].grad) < 1e-4, name
