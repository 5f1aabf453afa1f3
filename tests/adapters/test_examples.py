"""Every example of docs/adapters.md halves its loss in a short training on eight images.

The page trains for 200 steps; here fewer steps are enough.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

BLOCKS = re.findall(r'```python\n(.*?)```', (REPOSITORY / 'docs' / 'adapters.md').read_text(), re.DOTALL)


def run(numbers: list[int], coco: Path, steps: int) -> dict[str, Any]:
    """Run blocks of the page in order, with another data set and number of steps."""
    names: dict[str, Any] = {}
    for number in numbers:
        code = BLOCKS[number].replace("'data/coco'", repr(str(coco))).replace('steps=200', f'steps={steps}')
        exec(compile(code, f'docs/adapters.md, block {number}', 'exec'), names)
    return names


@pytest.mark.slow
@pytest.mark.parametrize(
    ('block', 'package', 'steps'),
    [
        pytest.param(1, 'torchvision', 20, id='mask-rcnn'),
        pytest.param(2, 'transformers', 100, id='upernet'),
        pytest.param(3, 'transformers', 200, id='detr'),
        pytest.param(4, 'transformers', 60, id='mask2former'),
        pytest.param(5, 'segmentation_models_pytorch', 40, id='unet'),
        pytest.param(6, 'torchvision', 40, id='detectron2'),
    ],
)
def test_loss_halves(block: int, package: str, steps: int, coco: Path) -> None:
    for needed in (package, 'torchvision', 'pycocotools'):
        pytest.importorskip(needed)
    losses = run([0, block], coco, steps)['losses']
    assert len(losses) == steps
    assert sum(losses[-3:]) / 3 < losses[0] / 2
