"""Exported models: equal outputs for every image size, and errors for invalid exports."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_backbone import InputError, SwinTransformer
from swin_backbone.attention.kernels.arguments import Arguments
from swin_backbone.attention.kernels.eager import window_attention_eager
from swin_backbone.attention.kernels.exported import window_attention_exported
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.export import compare_onnx, export_onnx, export_program, relative_error

SIZES = [(1, 64, 64), (2, 49, 37), (1, 16, 120), (3, 9, 14), (1, 130, 71), (1, 1, 1)]
"""Batch, height, width: divisible by the window, odd, wide, smaller than a window, large, one pixel."""


def small(version: int = 1, depths: tuple[int, ...] = (2, 1), **options: Any) -> SwinTransformer:
    heads = (1, 2, 4)[: len(depths)]
    sizes: dict[str, Any] = dict(embed_dim=16, depths=depths, num_heads=heads, out_indices=tuple(range(len(depths))))
    model = SwinTransformer(None, version=version, **{**sizes, 'window_size': 4, 'drop_path_rate': 0.0, **options})
    for parameter in model.parameters():  # V2 starts as the identity
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize('cosine', [False, True])
@pytest.mark.parametrize('shifted', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('size', [(7, 7), (14, 9), (5, 3), (1, 1), (16, 20)])
def test_exported_attention_equals_eager(
    size: tuple[int, int], dtype: torch.dtype, shifted: bool, cosine: bool
) -> None:
    qkv, bias = torch.randn(2, *size, 36, dtype=dtype), torch.randn(3, 28, 28)
    for pad_value in (None, torch.randn(36)):
        given = Arguments(qkv, bias, pad_value, 0.5, 3, WindowPlan(*size, (7, 4)), shifted, cosine)
        found, expected = window_attention_exported(given), window_attention_eager(given, 0.0)
        torch.testing.assert_close(found, expected, atol=1e-6 if dtype == torch.float32 else 4e-2, rtol=0)


@pytest.mark.parametrize(
    'options',
    [
        dict(version=1),
        dict(version=2),
        dict(position_encoding='absolute'),
        dict(attention_method='shifted-padding', window_size=(4, 3)),
        dict(shift=False, backend='eager', with_cp=True),
    ],
    ids=str,
)
def test_traced_backbone_supports_every_size(options: dict[str, Any]) -> None:
    model = small(**options)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(model, torch.randn(2, 3, 64, 96), check_trace=False)
    for batch, height, width in SIZES:
        image = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            pairs = list(zip(traced(image), model(image), strict=True))
        assert max(relative_error(found, expected) for found, expected in pairs) < 1e-5, (batch, height, width)


def test_exported_program_supports_every_size() -> None:
    model = small(2).train()
    program = export_program(model, (64, 96)).module()
    assert model.training
    model.eval()
    for batch, height, width in SIZES[:-1]:
        image = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            pairs = list(zip(program(image), model(image), strict=True))
        assert max(relative_error(found, expected) for found, expected in pairs) < 1e-5, (batch, height, width)


def test_onnx_file_supports_every_size(tmp_path: Path) -> None:
    pytest.importorskip('onnxruntime')
    model = small()
    path = export_onnx(model, tmp_path / 'folder' / 'swin.onnx', (64, 96))
    errors = compare_onnx(model, path, SIZES)
    assert max(errors.values()) < 1e-5, errors
    assert [item.name for item in path.parent.iterdir()] == ['swin.onnx']

    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    assert [put.name for put in (*session.get_inputs(), *session.get_outputs())] == ['image', 'stride4', 'stride8']


def test_fixed_onnx_file_has_one_size(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip('onnxruntime')
    model = small(depths=(1,))
    path = export_onnx(model, tmp_path / 'fixed.onnx', (33, 20), dynamic=False)
    assert max(compare_onnx(model, path, [(1, 33, 20)]).values()) < 1e-5
    assert onnxruntime.InferenceSession(str(path)).get_inputs()[0].shape == [1, 3, 33, 20]


class Conditional(nn.Module):
    """A model whose output depends on the values of its image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image) if image.sum() > 0 else image


@pytest.mark.parametrize(
    ('model', 'size', 'message'),
    [
        (None, (224,), 'image_size must be two integers of at least 8'),
        (None, (224, 4), 'image_size must be two integers of at least 8'),
        (None, (224.0, 224), 'image_size must be two integers of at least 8'),
        (Conditional(), (16, 16), 'PyTorch cannot export Conditional'),
    ],
)
def test_invalid_export_raises_input_error_and_writes_nothing(
    tmp_path: Path, model: nn.Module | None, size: Any, message: str
) -> None:
    pytest.importorskip('onnxscript')
    with pytest.raises(InputError, match=message):
        export_onnx(model or small(depths=(1,)), tmp_path / 'no.onnx', size)
    assert list(tmp_path.iterdir()) == []
