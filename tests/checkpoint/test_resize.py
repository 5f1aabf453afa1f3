"""Resizing weights for another window, image size or number of image channels."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.attention.position_encoding import log_spaced_offsets, relative_position_index
from swin_backbone.checkpoint.resize import (
    MisfitError,
    fit_channels,
    fit_embedding,
    fit_table,
    trained_window,
    window_of_index,
    window_of_table,
)
from swin_backbone.errors import InputError
from tests.checkpoint.layouts import coordinates, index
from tests.helpers import TINY, relative_error, tiny_backbone

TABLES = 'attn.relative_position_bias_table'


def original_resize(table: Tensor, side: int) -> Tensor:
    """Resize a table like the original detection code."""
    length, heads = table.shape
    square = int(length**0.5)
    maps = table.permute(1, 0).view(1, heads, square, square)
    return F.interpolate(maps, size=(side, side), mode='bicubic').view(heads, side * side).permute(1, 0)


@pytest.mark.parametrize(('source', 'target'), [(7, 12), (12, 7), (4, 5), (7, 8), (2, 16)])
def test_square_tables_are_resized_like_in_the_original_code(source: int, target: int) -> None:
    table = torch.randn((2 * source - 1) ** 2, 3)
    out, note = fit_table(table, None, (target, target), heads=3)
    assert torch.equal(out, original_resize(table, 2 * target - 1))
    assert note == f'window {source}x{source} to {target}x{target}'


def test_a_table_for_the_same_window_is_unchanged() -> None:
    table = torch.randn(169, 2)
    for known in (None, index(7)):
        out, note = fit_table(table, known, (7, 7), heads=2)
        assert out is table and not note


@pytest.mark.parametrize('window', [(7, 7), (4, 9), (9, 4), (2, 3), (1, 5), (12, 12)])
def test_window_of_index_returns_the_window(window: tuple[int, int]) -> None:
    flat = relative_position_index(window)
    assert window_of_index(flat) == window
    assert window_of_index(flat.reshape(math.prod(window), -1)) == window


def test_the_index_distinguishes_oblong_windows() -> None:
    table = torch.randn(7 * 17, 2)
    kept, note = fit_table(table, relative_position_index((4, 9)), (4, 9), heads=2)
    assert kept is table and not note
    turned, note = fit_table(table, relative_position_index((4, 9)), (9, 4), heads=2)
    assert note == 'window 4x9 to 9x4'
    assert torch.equal(
        turned, F.interpolate(table.t().view(1, 2, 7, 17), size=(17, 7), mode='bicubic').flatten(2)[0].t()
    )
    same_length, note = fit_table(table, None, (9, 4), heads=2)
    assert same_length is table and not note  # without an index, an equal length is assumed to be the same window
    with pytest.raises(MisfitError, match='fit no square window'):
        fit_table(table, None, (5, 5), heads=2)


def test_another_number_of_heads_is_an_error() -> None:
    with pytest.raises(MisfitError, match=r'\(169, 3\) in the file, \(169, 4\) in the backbone'):
        fit_table(torch.randn(169, 3), None, (7, 7), heads=4)
    assert window_of_table(torch.empty(168, 3)) is None and window_of_table(torch.empty(4, 3)) is None


def test_half_precision_tables_are_resized_in_float32() -> None:
    table = torch.randn(49, 2).half()
    out, _ = fit_table(table, None, (7, 7), heads=2)
    assert out.dtype == torch.float16
    assert torch.equal(out, original_resize(table.float(), 13).half())


@pytest.mark.parametrize('window', [6, (4, 9), (9, 4), (5, 2)])
def test_all_tables_are_resized_for_a_backbone_with_another_window(window: object) -> None:
    source = tiny_backbone(window_size=4)
    target = tiny_backbone(window_size=window)
    report = load_pretrained(target, source.state_dict())
    assert report.complete and len(report.adapted) == 8 and all(TABLES in name for name in report.adapted)
    rows, columns = target.layers[0].blocks[0].attn.window
    table = dict(source.named_parameters())[f'layers.1.blocks.1.{TABLES}']
    expected = F.interpolate(table.t().reshape(1, 2, 7, 7), size=(2 * rows - 1, 2 * columns - 1), mode='bicubic')
    assert torch.equal(dict(target.named_parameters())[f'layers.1.blocks.1.{TABLES}'], expected.flatten(2)[0].t())
    assert target(torch.randn(1, 3, 50, 70))[0].isfinite().all()


def test_flat_embeddings_are_reshaped_to_the_grid() -> None:
    flat = torch.randn(1, 6, 16)
    out, note = fit_embedding(flat, torch.Size([1, 16, 2, 3]))
    assert not note and torch.equal(out[0, :, 1, 2], flat[0, 5]) and torch.equal(out[0, :, 0, 1], flat[0, 1])


def test_embeddings_are_resized_for_another_grid() -> None:
    flat = torch.randn(1, 16, 8)
    out, note = fit_embedding(flat, torch.Size([1, 8, 6, 5]))
    expected = F.interpolate(flat.transpose(1, 2).reshape(1, 8, 4, 4), size=(6, 5), mode='bicubic')
    assert note == 'grid 4x4 to 6x5' and torch.equal(out, expected)
    again, note = fit_embedding(out, torch.Size([1, 8, 3, 3]))
    assert note == 'grid 6x5 to 3x3' and again.shape == (1, 8, 3, 3)


def test_the_position_of_a_class_token_is_dropped() -> None:
    flat = torch.randn(1, 17, 8)
    out, _ = fit_embedding(flat, torch.Size([1, 8, 4, 4]))
    assert torch.equal(out.flatten(2).transpose(1, 2), flat[:, 1:])


@pytest.mark.parametrize('shape', [(1, 15, 8), (1, 16, 4), (2, 16, 8), (16, 8)])
def test_embeddings_of_other_shapes_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(MisfitError):
        fit_embedding(torch.randn(shape), torch.Size([1, 8, 3, 3]))


def test_the_embedding_of_an_oblong_image_is_reported() -> None:
    model = tiny_backbone(position_encoding='absolute', pretrain_img_size=64)
    state = {**model.state_dict(), 'absolute_pos_embed': torch.randn(1, 15, 16)}
    with pytest.raises(InputError, match=r'absolute_pos_embed \(15 positions .* set pretrain_img_size'):
        load_pretrained(model, state)


@pytest.mark.parametrize(('have', 'want'), [(3, 4), (3, 6), (3, 2), (1, 3), (4, 3)])
def test_image_channels_are_repeated_cyclically(have: int, want: int) -> None:
    weight = torch.randn(8, have, 4, 4)
    out, note = fit_channels(weight, torch.Size([8, want, 4, 4]))
    assert f'{have} channels repeated as {want}' in note
    for channel in range(want):
        assert torch.equal(out[:, channel], weight[:, channel % have] * (have / want))


def test_one_channel_gives_the_maps_of_three_equal_channels() -> None:
    colour, grey = tiny_backbone().eval(), tiny_backbone(in_channels=1).eval()
    load_pretrained(grey, colour.state_dict())
    image = torch.randn(1, 1, 40, 40)
    for a, b in zip(grey(image), colour(image.expand(1, 3, 40, 40)), strict=True):
        assert relative_error(a, b) < 1e-5


@pytest.mark.parametrize('shape', [(8, 3, 2, 2), (4, 3, 4, 4), (8, 3, 2, 4, 4)])
def test_patch_embeddings_of_other_shapes_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(MisfitError):
        fit_channels(torch.randn(shape), torch.Size([8, 3, 4, 4]))


@pytest.mark.parametrize(('window', 'pretrained'), [(8, 0), (16, 8), (12, 16), (2, 0), (24, 12)])
def test_trained_window_is_determined_from_v2_coordinates(window: int, pretrained: int) -> None:
    assert trained_window(coordinates(window, pretrained)) == (pretrained or window)
    ours = log_spaced_offsets((window, window), (pretrained, pretrained)).reshape(1, 2 * window - 1, 2 * window - 1, 2)
    assert torch.allclose(ours, coordinates(window, pretrained), atol=1e-6)


def with_coordinates(model: SwinTransformer, window: int, pretrained: int = 0) -> dict[str, Tensor]:
    blocks = {name.rpartition('.attn.')[0] for name, _ in model.named_parameters() if '.attn.' in name}
    tables = {f'{block}.attn.relative_coords_table': coordinates(window, pretrained) for block in blocks}
    return {**model.state_dict(), **tables}


def test_v2_warns_if_the_position_bias_was_trained_for_another_window() -> None:
    options = dict(TINY, version=2)
    state = with_coordinates(SwinTransformer(**options, window_size=4), window=4)
    same = SwinTransformer(**options, window_size=4)
    matching = SwinTransformer(**options, window_size=8, pretrained_window_sizes=(4, 4, 4, 4))
    mismatched = SwinTransformer(**options, window_size=8)
    assert not load_pretrained(same, state).warnings and not load_pretrained(matching, state).warnings
    report = load_pretrained(mismatched, state)
    assert report.complete and not report.adapted
    assert 'pretrained_window_sizes=[4, 4, 4, 4]' in report.warnings[0]


def test_v2_files_fine_tuned_with_another_window_need_the_pretraining_window() -> None:
    options = dict(TINY, version=2, window_size=8)
    state = with_coordinates(SwinTransformer(**options), window=8, pretrained=6)
    assert load_pretrained(SwinTransformer(**options), state).warnings
    assert not load_pretrained(SwinTransformer(**options, pretrained_window_sizes=(6, 6, 6, 6)), state).warnings
