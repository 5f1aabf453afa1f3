"""Trials of configs: choice of data, failures, and the page."""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

from swin_backbone.model_zoo import config_trials
from swin_backbone.model_zoo.config_trials import Trial, as_markdown

DETECTION, SEGMENTATION, OWN = 'configs/detection/a.py', 'configs/segmentation/b.py', 'elsewhere/c.py'


@pytest.fixture
def roots(tmp_path: Path) -> tuple[str, str]:
    """A folder in COCO's layout, and one in ADE20K's."""
    (tmp_path / 'coco/annotations').mkdir(parents=True)
    (tmp_path / 'coco/annotations/instances_val2017.json').touch()
    (tmp_path / 'ade/annotations/validation').mkdir(parents=True)
    return str(tmp_path / 'coco'), str(tmp_path / 'ade')


def test_a_config_is_tried_on_suitable_data(roots: tuple[str, str]) -> None:
    coco, ade = roots
    assert config_trials.plan([DETECTION, SEGMENTATION, OWN], roots, 64) == [
        (DETECTION, coco, 64),
        (OWN, coco, 64),
        (SEGMENTATION, ade, 64),
        (OWN, ade, 64),
    ]


def test_a_config_without_suitable_data_is_not_skipped(roots: tuple[str, str]) -> None:
    coco, _ = roots
    assert config_trials.plan([SEGMENTATION, DETECTION], [coco], 64) == [
        (DETECTION, coco, 64),
        (SEGMENTATION, coco, 64),
    ]
    assert config_trials.plan([SEGMENTATION], [], 64) == [(SEGMENTATION, None, 64)]


def test_errors_are_recorded_and_not_raised() -> None:
    trial = config_trials.try_one(('absent.py', None, 64))
    assert trial.failure.startswith('InputError: there is no config')
    assert 'FAILED' in trial.row()


@pytest.mark.parametrize(
    ('trial', 'failure'),
    [
        (Trial('a', loss=1.0, metrics=dict(mAP=0.0)), ''),
        (Trial('a', loss=float('inf'), metrics=dict(mAP=0.0)), 'the loss is not finite'),
        (Trial('a', loss=1.0, unreached=('x.y',)), '1 parameters without a finite gradient, such as x.y'),
        (Trial('a', loss=1.0), 'the evaluation returned no metrics'),
    ],
)
def test_failure_describes_the_problem(trial: Trial, failure: str) -> None:
    assert trial.failure == failure


class Preprocessor(torch.nn.Module):
    def forward(self, batch: dict, training: bool) -> dict:
        return dict(x=batch['x'][0])


class Model(torch.nn.Module):
    """A model with used, unused, frozen parameters and one with an infinite gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.data_preprocessor = Preprocessor()
        self.used, self.unused, self.broken = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
        self.frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: torch.Tensor, mode: str) -> torch.Tensor:
        return self.used * x + self.broken.abs().sqrt()  # the gradient of a square root at 0 is infinite

    def parse_losses(self, losses: torch.Tensor) -> tuple[torch.Tensor, dict]:
        return losses.sum(), {}


def test_missing_and_infinite_gradients_are_found() -> None:
    loss, unreached = config_trials.step(Model(), [dict(x=torch.ones(1))])
    assert loss == 0
    assert unreached == ('unused', 'broken')


def test_the_page_lists_all_trials() -> None:
    found = [
        Trial('a', 'photographs', 1.5, (), {'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_50': 0.5}, 12.34, 3 * 2**20, ('so',)),
        Trial('b', 'photographs', error='ValueError: no'),
        Trial('a', 'shapes', 2.0, (), {'mIoU': 1.0}),
    ]
    page = as_markdown(found, 96, 'tools/x.py --side 96')
    assert '    tools/x.py --side 96\n' in page and 'about 96 pixels' in page and f'torch {torch.__version__}' in page
    assert '## On photographs: 1 of 2 passed' in page and '## On shapes: 1 of 1 passed' in page
    assert '| a | 1.500 | 12.3 | 3 | bbox_mAP 0.250 | passed, so |' in page
    assert '| b | nan | 0.0 | 0 | none | FAILED: ValueError: no |' in page
    assert max(map(len, page.splitlines())) <= 120
