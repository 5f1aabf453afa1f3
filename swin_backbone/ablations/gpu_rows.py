"""Table 5 for ``benchmark gpu``: every attention method in each stage and in a whole network."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from swin_backbone import SwinTransformer
from swin_backbone.ablations.paper_v1 import METHODS, Method
from swin_backbone.ablations.speed import STAGES, SelfAttention
from swin_backbone.benchmark import gpu_rows
from swin_backbone.benchmark.implementations import forward_step, stage_input

BATCH, SHAPE = 64, (224, 224)
TITLE = (
    f'Table 5 of the Swin paper: tiny network, {BATCH} x {SHAPE[0]} x {SHAPE[1]}, float32; V100: the printed numbers'
)


def table5() -> Iterator[gpu_rows.Row]:
    """Yield a row for each method."""
    for method in METHODS:
        yield gpu_rows.Row(TITLE, dict(method=method.title), 9, 15, partial(time_method, method))


def time_method(method: Method) -> dict[str, Any]:
    """Measure milliseconds of the self-attention in each stage, and images per second of the network."""
    model = SwinTransformer('tiny', drop_path_rate=0.0, attention_method=method.name).to(gpu_rows.DEVICE).eval()
    cells: dict[str, Any] = {}
    for stage in range(STAGES):
        x = stage_input(BATCH, SHAPE, 'tiny', 1, stage).to(gpu_rows.DEVICE)
        step = forward_step(SelfAttention(model.layers[stage]), x, torch.float32, lambda model, x: model(x))
        cells[f'S{stage + 1} ms'] = gpu_rows.milliseconds(step)
        cells[f'S{stage + 1} V100'] = method.stage_ms[stage]
    image = torch.randn(BATCH, 3, *SHAPE, device=gpu_rows.DEVICE)
    step = forward_step(model, image, torch.float32)
    return {**cells, 'images/s': 1000 * BATCH / gpu_rows.milliseconds(step), 'images/s V100': method.fps[0]}
