"""A small run whose data, model and evaluation draw random numbers."""

import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS, TRANSFORMS
from mmengine.runner import Runner
from torch import Tensor, nn

from swin_backbone.engine.hooks import PendingEvaluationHook, PredictionSheetHook
from swin_backbone.engine.train import build_runner

IMAGES, BATCH = 10, 2
EPOCH = IMAGES // BATCH


@TRANSFORMS.register_module(force=True)
class DrawFromEverywhere:
    """Adds random numbers of three generators; returns None, which requests another image, for 10% of the samples."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any] | None:
        if np.random.rand() < 0.1:
            return None
        drawn = [random.random(), np.random.rand(), torch.rand(1).item()]
        return dict(inputs=torch.tensor([data['sample_idx'], *drawn]), data_samples=dict(index=data['sample_idx']))


@DATASETS.register_module(force=True)
class Numbers(BaseDataset):
    """Data set whose images are numbers."""

    loaded: ClassVar[list[int]] = []

    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(number=i, width=1, height=1 + i % 2) for i in range(IMAGES)]

    def prepare_data(self, idx: int) -> Any:
        self.loaded.append(idx)
        return super().prepare_data(idx)


@MODELS.register_module(force=True)
class Noisy(BaseModel):
    """A model whose training steps draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.seen: list[list[float]] = []

    def forward(self, inputs: list[Tensor], data_samples: Any = None, mode: str = 'loss') -> Any:
        if mode != 'loss':
            return [None]
        x = torch.stack(inputs)
        self.seen.append(x.flatten().tolist())
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return dict(loss=(self.backbone(x) - noise).square().mean())


@METRICS.register_module(force=True)
class Draws(BaseMetric):
    """An evaluation that draws random numbers of the main process."""

    default_prefix = 'toy'

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(torch.rand(1).item())

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return dict(score=float(len(results)))


def toy_config(work_dir: Path, by_epoch: bool, workers: int = 0, count: int = 3 * EPOCH, **changes: Any) -> Config:
    """Return a config that trains three epochs and saves every epoch or every four iterations."""
    data = dict(
        dataset=dict(type='Numbers', serialize_data=False, pipeline=[dict(type='DrawFromEverywhere')]),
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True),
    )
    iterations = dict(type='IterBasedTrainLoop', max_iters=count, val_interval=6)
    validation = dict(data, sampler=dict(type='DefaultSampler', shuffle=False), num_workers=0, persistent_workers=False)
    config = dict(
        model=dict(type='Noisy'),
        work_dir=str(work_dir),
        train_dataloader=data,
        val_dataloader=validation,
        val_cfg=dict(),
        val_evaluator=dict(type='Draws'),
        train_cfg=dict(by_epoch=True, max_epochs=count // EPOCH, val_interval=2) if by_epoch else iterations,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False, T_max=3 * EPOCH),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 4, max_keep_ckpts=2)
        ),
        custom_hooks=[dict(type='EMAHook', momentum=0.1)],
        randomness=dict(seed=5),
        visualizer=dict(type='Visualizer', vis_backends=[]),
        experiment_name=str(work_dir),
        default_scope='mmengine',
    )
    config.update(changes)
    return Config(config)


class RaisesAt(Hook):
    """Raises an error during an iteration, like a process that is killed."""

    def __init__(self, iteration: int, error: BaseException) -> None:
        self.iteration, self.error = iteration, error

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.iteration:
            raise self.error


def build(config: Config) -> Any:
    runner = build_runner(config)
    runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, PredictionSheetHook)]  # no images to draw
    runner.register_hook(PendingEvaluationHook())
    return runner


def train(config: Config, killed_at: int | None = None, hook: Hook | None = None) -> Any:
    runner = build(config)
    if killed_at is not None:
        runner.register_hook(RaisesAt(killed_at, KeyboardInterrupt()))
    if hook is not None:
        runner.register_hook(hook)
    try:
        runner.train()
    except KeyboardInterrupt:
        assert killed_at is not None
    return runner


def state(runner: Runner) -> dict[str, Any]:
    scalars = runner.message_hub.log_scalars
    return dict(
        weights=runner.model.state_dict(),
        optimizer=runner.optim_wrapper.state_dict(),
        losses=scalars['train/loss'].data[0].tolist(),
        average=next(hook for hook in runner.hooks if hasattr(hook, 'ema_model')).ema_model.state_dict(),
        iteration=runner.iter,
    )
