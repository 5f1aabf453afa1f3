"""FAVOR+: its linear form compared with a loop, and its estimate with the softmax."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from swin_backbone.attention.performer import default_features, orthogonal_features, performer_attention

HEADS, DIM = 2, 4
CHANNELS = HEADS * DIM


def token_by_token(qkv: Tensor, directions: Tensor, scale: float) -> Tensor:
    """Compute the weight of each pair of tokens separately from the same features."""
    batch, height, width, _ = qkv.shape
    out = torch.zeros(batch, height * width, HEADS, DIM, dtype=qkv.dtype)
    for image in range(batch):
        for head in range(HEADS):
            tokens = qkv[image].reshape(-1, 3, HEADS, DIM)[:, :, head]
            q, k, v = tokens[:, 0] * scale**0.5, tokens[:, 1] * scale**0.5, tokens[:, 2]
            for number, query in enumerate(q):
                weights = torch.stack(
                    [sum(((w @ query - query @ query / 2) + (w @ x - x @ x / 2)).exp() for w in directions) for x in k]
                )
                out[image, number, head] = weights / weights.sum() @ v
    return out.reshape(batch, height, width, CHANNELS)


@pytest.mark.parametrize('size', [(1, 1), (3, 5)])
def test_linear_form_equals_pairwise_loops(size: tuple[int, int]) -> None:
    qkv = torch.randn(2, *size, 3 * CHANNELS, dtype=torch.float64, requires_grad=True)
    directions = orthogonal_features(6, DIM, seed=1).double()
    expected, actual = token_by_token(qkv, directions, 0.5), performer_attention(qkv, directions, HEADS, 0.5)
    weight = torch.randn_like(actual)
    reference, ours = (torch.autograd.grad((out * weight).sum(), qkv)[0] for out in (expected, actual))
    assert (actual - expected).abs().max() < 1e-12 and (ours - reference).abs().max() < 1e-12


def softmax_attention(qkv: Tensor, scale: float) -> Tensor:
    q, k, v = qkv.flatten(1, 2).unflatten(-1, (3, HEADS, DIM)).permute(2, 0, 3, 1, 4)
    out = (q @ k.transpose(-2, -1) * scale).softmax(-1) @ v
    return out.permute(0, 2, 1, 3).reshape(*qkv.shape[:3], -1)


def test_converges_to_the_softmax_with_many_features() -> None:
    qkv = 0.5 * torch.randn(1, 9, 11, 3 * CHANNELS, dtype=torch.float64)  # the estimate varies with exp(|q + k|^2)
    expected = softmax_attention(qkv, DIM**-0.5)
    errors = []
    for count in (8, 128, 2048, 32768):
        runs = [
            performer_attention(qkv, orthogonal_features(count, DIM, seed).double(), HEADS, DIM**-0.5)
            for seed in range(4)
        ]
        errors.append(sum(((run - expected) ** 2).mean().item() for run in runs) ** 0.5 / 2)
    print('root mean square error with 8, 128, 2048, 32768 features:', [f'{error:.1e}' for error in errors])
    # Monte Carlo error decreases by 4 for 16 times as many features.
    assert all(later < earlier / 2.5 for earlier, later in pairwise(errors))
    assert errors[-1] < 0.02 * expected.square().mean().sqrt()


def test_directions_are_orthogonal_in_blocks_with_lengths_of_gaussian_vectors() -> None:
    directions = orthogonal_features(1000, 8, seed=3)
    assert directions.shape == (1000, 8)
    blocks = torch.nn.functional.normalize(directions, dim=1).view(-1, 8, 8)
    assert (blocks @ blocks.transpose(1, 2) - torch.eye(8)).abs().max() < 1e-5
    assert abs(directions.square().sum(1).mean() - 8) < 0.5
    assert directions.mean(0).abs().max() < 0.15
    assert torch.equal(directions, orthogonal_features(1000, 8, seed=3))
    assert not torch.equal(directions, orthogonal_features(1000, 8, seed=4))


def test_drawing_features_keeps_the_global_random_state() -> None:
    state = torch.get_rng_state()
    orthogonal_features(10, 4, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_default_number_of_features() -> None:
    assert (default_features(32), default_features(1), default_features(8)) == (111, 1, 17)


def test_extreme_inputs_stay_finite() -> None:
    qkv = torch.randn(1, 7, 9, 3 * CHANNELS) * torch.logspace(-3, 3, 63).view(1, 7, 9, 1)
    qkv.requires_grad_()
    out = performer_attention(qkv, orthogonal_features(16, DIM, seed=0), HEADS, 0.5)
    out.sum().backward()
    assert out.isfinite().all() and qkv.grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_stays_finite(dtype: torch.dtype) -> None:
    qkv = 20 * torch.randn(1, 7, 9, 3 * CHANNELS)
    directions = orthogonal_features(16, DIM, seed=0)
    expected = performer_attention(qkv.to(dtype).float(), directions, HEADS, 0.5)
    actual = performer_attention(qkv.to(dtype), directions, HEADS, 0.5)
    assert actual.dtype == dtype and actual.isfinite().all()
    assert torch.equal(actual, expected.to(dtype))
