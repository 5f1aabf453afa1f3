"""Estimates of training memory compared with manual counts."""

import json

import pytest
import torch

from swin_backbone import SwinTransformer
from swin_backbone.cli import complexity
from swin_backbone.errors import InputError
from swin_backbone.model_zoo.complexity import attention_in_windows, global_attention
from swin_backbone.model_zoo.memory import as_markdown, estimate, saved_bytes

SMALL = dict(variant=None, embed_dim=32, depths=(2, 2), num_heads=(1, 2), out_indices=(0, 1), window_size=4)


def test_attention_formulas_for_a_map_of_112() -> None:
    """Equations 1 and 2 for a map of 112 x 112, 128 channels and windows of 7 x 7."""
    saved = global_attention(112, 112, 128) - attention_in_windows(112, 112, 128, 7)
    assert saved == 2 * (112 * 112) ** 2 * 128 - 2 * 7**2 * 112 * 112 * 128 == 40_124_743_680


@pytest.mark.parametrize('version', [1, 2])
def test_checkpointing_saves_activation_memory(version: int) -> None:
    found = estimate(dict(SMALL, version=version, depths=(2, 6)), (64, 64))
    assert found.params == sum(
        p.numel() for p in SwinTransformer(**dict(SMALL, version=version, depths=(2, 6))).parameters()
    )
    assert 0 < found.checkpointed < found.activations / 2


def test_activations_of_a_block_equal_a_manual_count() -> None:
    """One more block adds its map, norms, projections, attention output and MLP."""
    options = dict(SMALL, depths=(1,), num_heads=(1,), out_indices=(0,))
    one, two = (estimate(dict(options, depths=(depth,)), (64, 64)).activations for depth in (1, 2))
    tokens, channels, pairs = 16 * 16, 32, 16 * 16
    # norm1's input and output, QKV, attention output, norm2's input and output, and 4C before and after GELU
    maps = tokens * channels * (1 + 1 + 3 + 1 + 1 + 1 + 4 + 4)
    statistics, pad = 2 * 2 * tokens, 0
    assert two - one == pytest.approx(4 * (maps + statistics + pairs + pad), rel=0.02)


def test_sequential_attention_limits_the_attention_weights() -> None:
    found = estimate(dict(variant='large', version=2, window_size=32), (1536, 1536))
    assert found.weights == 4 * 6 * 144 * 1024**2 and found.sequential == 4 * 48 * 1024**2


def test_parameters_gradients_and_adamw_states_of_swin_v2_g_need_48_gb() -> None:
    """AdamW in float32: 16 bytes per parameter (Swin V2 paper, section 3.4)."""
    found = estimate(dict(variant='giant', version=2), (64, 64))
    lines = as_markdown(found, 16).splitlines()
    assert next(line for line in lines if 'subtotal' in line) == '| subtotal | 47.97 | 25.48 |'


def test_saved_bytes_counts_a_tensor_once() -> None:
    layer = torch.nn.Linear(4, 8)
    x = torch.randn(3, 4, requires_grad=True)
    assert saved_bytes(layer, lambda: layer(x) * layer(x)) == 4 * (3 * 4 + 2 * 3 * 8)


def test_the_command_prints_memory_as_markdown_and_json(capsys: pytest.CaptureFixture) -> None:
    complexity.main(['--variant', 'tiny', '--memory', '--gpus', '4'])
    assert '| gradients | 0.11 | 0.11 |' in capsys.readouterr().out
    complexity.main(['--variant', 'tiny', '--version', '2', '--window', '16', '--memory', '--json'])
    assert json.loads(capsys.readouterr().out)['tiny']['shape'] == [224, 224]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--memory'], '--memory needs a CONFIG or --variant'),
        (['--variant', 'tiny', '--gpus', '2'], '--gpus is the number of GPUs for --memory'),
        (['atss_swin_t_3x', '--window', '8'], '--window is for a single backbone'),
        (['cascade_r50_3x', '--memory'], 'is not swin_backbone.SwinTransformer'),
    ],
)
def test_bad_input_is_reported(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        complexity.main(arguments)


@pytest.mark.parametrize('options', [dict(attention_method='performer'), dict(position_encoding='relative-only')])
def test_unsupported_attention_is_an_error(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match='is not supported'):
        estimate(dict(SMALL, **options), (64, 64))
