"""Wrapped, quantized and hooked layers work as in other networks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer

SIZES: dict[str, Any] = dict(
    variant=None, embed_dim=24, depths=(2, 2), num_heads=(2, 4), window_size=4, out_indices=(0, 1), drop_path_rate=0.0
)
KINDS = [
    dict(version=1),
    dict(version=2),
    dict(version=1, qkv_bias=False),
    dict(version=1, attention_method='shifted-padding'),
    dict(version=1, position_encoding='relative-only'),
    dict(version=2, position_encoding='relative-only'),
]


def build(**options: Any) -> SwinTransformer:
    torch.manual_seed(0)
    model = SwinTransformer(**{**SIZES, **options})
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


class LowRank(nn.Module):
    """A linear layer with a low-rank update (LoRA)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, 2, bias=False)
        self.up = nn.Linear(2, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.up(self.down(x))


def attentions(model: SwinTransformer) -> list[Any]:
    return [block.attn for stage in model.layers for block in stage.blocks]


@pytest.mark.parametrize('options', KINDS, ids=str)
@pytest.mark.parametrize('gradients', [False, True])
def test_wrapped_projections_give_the_same_maps(options: dict[str, Any], gradients: bool) -> None:
    """The second size needs padding and shifts in both stages, and has enough tokens for inference in groups."""
    model = build(**options)
    for size in ((64, 64), (97, 130)):
        x = torch.randn(2, 3, *size)
        with torch.set_grad_enabled(gradients):
            expected = model(x)
            originals = [(attention, attention.qkv) for attention in attentions(model)]
            for attention, qkv in originals:
                attention.qkv = LowRank(qkv)
            wrapped = model(x)
            for attention, qkv in originals:
                attention.qkv = qkv
        for one, other in zip(wrapped, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::UserWarning')
@pytest.mark.parametrize('version', [1, 2])
def test_dynamically_quantized_models_run(version: int) -> None:
    model = build(version=version)
    x = torch.randn(1, 3, 97, 130)
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with torch.no_grad():
        for one, other in zip(quantized(x), model(x), strict=True):
            assert (one - other).norm() < 0.1 * other.norm()


@pytest.mark.parametrize('name', ['attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.act', 'mlp.drop'])
@pytest.mark.parametrize('version', [1, 2])
def test_hooked_layers_are_called_once_on_the_whole_map(name: str, version: int) -> None:
    model = build(version=version)
    calls: list[int] = []
    module = model.layers[0].blocks[1].get_submodule(name)
    module.register_forward_hook(lambda _, inputs, out: calls.append(out.numel() // out.shape[-1]))
    with torch.no_grad():
        model(torch.randn(1, 3, 160, 160))
    assert calls == [1600] * (2 if name == 'mlp.drop' else 1)
