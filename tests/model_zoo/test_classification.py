"""The papers' classifiers: counted parameters and multiply-adds compared with the published ones, and the page."""

from typing import Any

import pytest
import torch

from swin_backbone.backbones.mixer import SwinMixer
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.model_zoo.classification import MIXER, TABLE_1, TABLES, measure, table_row
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / 'docs/model_zoo_classification.md'
ROWS = [row for rows in TABLES.values() for row in rows]


@pytest.mark.parametrize('built', sorted({row.network[:3] + row.network[4:] for row in ROWS}))
def test_parameters_equal_the_published_ones(built: tuple[str, str, int, int]) -> None:
    kind, variant, version, window = built
    options: dict[str, Any] = dict(window_size=window, out_indices=(3,))
    with torch.device('meta'):
        backbone = SwinMixer(variant, **options) if kind == MIXER else SwinTransformer(variant, version, **options)
    params = sum(p.numel() for p in backbone.parameters()) + 1000 * (backbone.num_features[-1] + 1)
    for row in ROWS:
        if row.network[:3] + row.network[4:] == built and row.params is not None:
            if row.params == 29:  # Swin-T in the paper; 28M in its release
                assert row.source == TABLE_1 and round(params / 1e6) == 28
            else:
                assert abs(params / 1e6 - row.params) < max(0.015 * row.params, 0.5), row


SMALL = [
    ('SwinTransformer', 'tiny', 1, 224, 7),
    ('SwinTransformer', 'tiny', 2, 256, 16),
    (MIXER, 'tiny_c24', 1, 256, 8),
]


@pytest.mark.parametrize('network', SMALL)
def test_multiply_adds_equal_the_published_ones_and_are_on_the_page(network: tuple[str, str, int, int, int]) -> None:
    rows = [row for row in ROWS if row.network == network]
    cost = measure(rows[0])
    assert any(row.flops for row in rows)
    for row in rows:
        assert row.flops is None or abs(cost.flops / (1e9 * row.flops) - 1) < 0.015
        cells = [cell for cell in table_row(row, cost) if cell != '-']
        assert f'| {" | ".join(cells)} |' in PAGE.read_text()
