"""Features and attention in image pixels, compared with the geometry of windows and with the output of blocks."""

import pytest
import torch
from torch import Tensor

from swin_backbone import SwinTransformer
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.errors import InputError
from swin_backbone.inspection.features import (
    attention_of,
    attentions_of,
    feature_energies,
    feature_energy,
    record_calls,
    reshape_transform,
    to_pixels,
)
from tests.helpers import tiny_backbone

SIZE = (61, 75)  # 16 x 19 tokens in stage 0, 8 x 10 in stage 1, which windows of 7 pad differently


@pytest.fixture(params=[1, 2], ids=['v1', 'v2'])
def backbone(request: pytest.FixtureRequest) -> SwinTransformer:
    return tiny_backbone(version=request.param, window_size=7)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, *SIZE)


PLACES = [(0, 0), (60, 74), (30, 40), (0, 74), (60, 0), (33, 73), (59, 20)]


@pytest.mark.parametrize('pixel', PLACES)
@pytest.mark.parametrize('stage', [0, 1, 2])
@pytest.mark.parametrize('block', [0, 1])
def test_weights_sum_to_one_over_real_and_padded_tokens(
    backbone: SwinTransformer, image: Tensor, pixel: tuple[int, int], stage: int, block: int
) -> None:
    view = attention_of(backbone, image, pixel, stage, block)
    torch.testing.assert_close(view.weights.sum(dim=(1, 2)) + view.padded_share, torch.ones(2**stage))
    assert view.window[view.query] and view.stride == 4 * 2**stage
    assert view.weights[:, ~view.window].max() < 1e-6 if (~view.window).any() else True
    assert view.pixels(SIZE).shape == SIZE and view.pixels(SIZE, head=0).shape == SIZE
    row, column = pixel
    assert view.pixels(SIZE, head=0)[row, column] == view.weights[0][view.query]


@pytest.mark.parametrize('pixel', PLACES)
@pytest.mark.parametrize('block', [0, 1])
def test_weighted_values_equal_the_output_of_the_block(
    backbone: SwinTransformer, image: Tensor, pixel: tuple[int, int], block: int
) -> None:
    stage = 1
    view = attention_of(backbone, image, pixel, stage, block)
    attention = backbone.layers[stage].blocks[block].attn
    with record_calls(backbone, [attention]) as records:
        backbone(image)
        features, output = records[attention].inputs[0], records[attention].output
        channels = features.shape[-1]
        if backbone.options.version == 1:
            values, padded = attention.qkv(features)[0, ..., 2 * channels :], attention.qkv.bias[2 * channels :]
        else:
            bias = attention.qkv_bias()
            values = torch.nn.functional.linear(features, attention.qkv.weight, bias)[0, ..., 2 * channels :]
            padded = bias[2 * channels :]
        heads = attention.num_heads
        mixed = torch.einsum('hyx,yxhd->hd', view.weights, values.unflatten(-1, (heads, -1)))
        mixed = mixed + view.padded_share[:, None] * padded.unflatten(-1, (heads, -1))
        expected = output[0, view.query[0], view.query[1]]
        torch.testing.assert_close(attention.proj(mixed.flatten()), expected, atol=1e-4, rtol=1e-4)


def test_windows_are_at_the_expected_tokens() -> None:
    """There are 8 x 10 tokens, padded to 14 x 14 for windows of 7, with a shift of 3."""
    backbone = tiny_backbone(window_size=7)
    image = torch.randn(1, 3, 64, 80)
    assert WindowPlan(8, 10, (7, 7)).padded_size == (14, 14)

    def seen(pixel: tuple[int, int], block: int) -> tuple[int, int, int, int]:
        window = attention_of(backbone, image, pixel, stage=1, block=block).window
        rows, columns = window.any(dim=1).nonzero(), window.any(dim=0).nonzero()
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert window.sum() == area  # a rectangle without holes
        return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())

    assert seen((0, 0), 0) == (0, 6, 0, 6)
    assert seen((0, 79), 0) == (0, 6, 7, 9)
    assert seen((63, 79), 0) == (7, 7, 7, 9)
    # Shifted windows start at token 3; tokens before it are a separate region, which the roll moved to the end.
    assert seen((0, 0), 1) == (0, 2, 0, 2)
    assert seen((24, 24), 1) == (3, 7, 3, 9)
    assert seen((0, 40), 1) == (0, 2, 3, 9)


def test_uniform_attention_has_equal_weights_including_padding() -> None:
    """Without queries and biases, all keys of a region have equal weights, including padding."""
    backbone = tiny_backbone(window_size=7, position_encoding='none')
    for stage in backbone.layers:
        for block in stage.blocks:
            torch.nn.init.zeros_(block.attn.qkv.weight)
            torch.nn.init.zeros_(block.attn.qkv.bias)
    image = torch.randn(1, 3, 64, 80)
    corner = attention_of(backbone, image, (63, 79), stage=1, block=0)
    torch.testing.assert_close(corner.padded_share, torch.full((2,), (49 - 3) / 49))
    torch.testing.assert_close(corner.weights[:, corner.window], torch.full((2, 3), 1 / 49))
    # The shifted window has rows 3 to 9 and columns 3 to 9, of which rows 3 to 7 are real.
    inner = attention_of(backbone, image, (40, 40), stage=1, block=1)
    torch.testing.assert_close(inner.padded_share, torch.full((2,), 14 / 49))
    # The region at the corner has 3 x 3 tokens, none of them padding.
    first = attention_of(backbone, image, (0, 0), stage=1, block=1)
    torch.testing.assert_close(first.padded_share, torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(first.weights[:, first.window], torch.full((2, 9), 1 / 9))


def test_feature_energy_is_computed_before_the_output_norm(backbone: SwinTransformer, image: Tensor) -> None:
    backbone.train()
    energy = feature_energy(backbone, image, stage=2)
    assert energy.shape == SIZE and backbone.training and not energy.requires_grad
    with record_calls(backbone, [backbone.layers[2]]) as records:
        backbone(image)
    expected = records[backbone.layers[2]].output[0].pow(2).mean(dim=-1).sqrt()
    assert expected.shape == (4, 5)
    torch.testing.assert_close(energy[0:16, 0:16], expected[0, 0].expand(16, 16))
    torch.testing.assert_close(energy[48:, 64:], expected[3, 4].expand(13, 11))
    assert energy.std() > 1e-3


def test_several_stages_or_blocks_equal_single_calls(backbone: SwinTransformer, image: Tensor) -> None:
    for energy, stage in zip(feature_energies(backbone, image, [3, 0, 3]), [3, 0, 3], strict=True):
        assert torch.equal(energy, feature_energy(backbone, image, stage))
    for view, block in zip(attentions_of(backbone, image, (9, 9), 1, [1, 0]), [1, 0], strict=True):
        assert torch.equal(view.weights, attention_of(backbone, image, (9, 9), 1, block).weights)
        assert view.shifted == (block == 1)


def test_to_pixels_crops_to_the_image() -> None:
    tokens = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert to_pixels(tokens, 2, (3, 3)).tolist() == [[1, 1, 2], [1, 1, 2], [3, 3, 4]]
    assert reshape_transform(torch.zeros(1, 2, 3, 4)).shape == (1, 4, 2, 3)


@pytest.mark.parametrize(
    ('request_', 'message'),
    [
        (dict(pixel=(61, 0)), r'rows 0 to 60 and columns 0 to 74, there is no pixel \(61, 0\)'),
        (dict(stage=4), 'stages 0 to 3, there is no stage 4'),
        (dict(block=2), 'blocks 0 to 1, there is no block 2'),
        (dict(image=torch.zeros(2, 3, 8, 8)), r'expected one image \[1, C, H, W\], got \(2, 3, 8, 8\)'),
    ],
)
def test_missing_pixel_stage_or_block_raises_input_error(
    backbone: SwinTransformer, image: Tensor, request_: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        attention_of(backbone, **{'image': image, 'pixel': (0, 0), 'stage': 0, 'block': 0, **request_})
