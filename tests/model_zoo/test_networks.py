"""The cost of Swin-Mixer and Video Swin compared with the published numbers."""

import pytest

from swin_backbone import InputError
from swin_backbone.cli import complexity
from swin_backbone.model_zoo.complexity import measure_backbone


@pytest.mark.parametrize(
    ('network', 'variant', 'side', 'params', 'flops'),
    [
        ('mixer', 'tiny_c24', 256, 19_618_976, 4.0e9),
        ('mixer', 'tiny_c12', 256, 20_384_416, 4.0e9),
        ('mixer', 'tiny_c6', 256, 21_915_296, 4.0e9),
        ('mixer', 'base', 224, 59_636_208, 10.4e9),
        ('video', 'tiny', 224, None, 87.9e9),
        ('video', 'small', 224, None, 165.9e9),
        ('video', 'base', 224, None, 281.6e9),
        ('video', 'large', 224, None, 604e9),
    ],
)
def test_costs_equal_the_published_ones(
    network: str, variant: str, side: int, params: int | None, flops: float
) -> None:
    cost = measure_backbone(variant, 1, (side, side), network=network)
    assert cost.params == (params or cost.params)
    assert cost.flops == pytest.approx(flops, rel=0.01)
    assert cost.shape == (side, side)


def test_the_command_counts_other_networks(capsys: pytest.CaptureFixture) -> None:
    complexity.main(['--variant', 'tiny', '--network', 'video'])
    assert capsys.readouterr().out == '27.85M parameters, 87.76G multiply-adds at 32x224x224\n'
    with pytest.raises(InputError, match='--network needs --variant'):
        complexity.main(['--variant', 'base', '--network', 'mixer', '--memory'])
