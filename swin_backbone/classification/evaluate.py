"""Evaluation of a classifier on image files: accuracy, or the most likely classes of each image."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from swin_backbone.classification.classifier import ImageClassifier
from swin_backbone.classification.preprocessing import ImageFiles, Item, collate
from swin_backbone.errors import InputError
from swin_backbone.files import progress_bar

TOP = 5


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of :func:`evaluate` and :func:`classify`.

    Attributes:
        batch_size: images per batch.
        workers: processes that read images; 0 for the main process.
        device: 'cpu' or 'cuda'.
        bf16: whether the network computes in bfloat16.
        upright: see :class:`.preprocessing.ImageFiles`.
    """

    batch_size: int
    workers: int
    device: str
    bf16: bool
    upright: bool


@dataclass(frozen=True)
class Accuracy:
    """The result of :func:`evaluate`.

    Attributes:
        top1: fraction of images whose most likely class is correct.
        top5: fraction of images whose class is among the five most likely.
        images: number of images.
        seconds: total time, including reading.
    """

    top1: float
    top5: float
    images: int
    seconds: float


@torch.no_grad()
def run(
    classifier: ImageClassifier, items: Sequence[Item], options: EvaluationOptions
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield float32 logits ``[B, classes]`` and labels ``[B]`` of each batch, on the CPU.

    Raises:
        InputError: if a file cannot be read as an image.
    """
    images = ImageFiles(items, classifier.image_size, options.upright)
    loader: DataLoader[tuple[Tensor | str, int]] = DataLoader(
        images, options.batch_size, num_workers=options.workers, collate_fn=collate
    )
    classifier = classifier.to(options.device).eval()
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(options.device, torch.bfloat16, enabled=options.bf16))
        bar = stack.enter_context(progress_bar('images', len(items), leave=False))
        for batch, labels in loader:
            if isinstance(batch, str):
                raise InputError(batch)
            yield classifier(batch.to(options.device)).float().cpu(), labels
            bar.update(len(labels))


def evaluate(classifier: ImageClassifier, items: Sequence[Item], options: EvaluationOptions) -> Accuracy:
    """Compute the accuracy on labelled images.

    Raises:
        InputError: if a file cannot be read as an image.
    """
    started = time.perf_counter()
    hits = torch.zeros(2)
    for logits, labels in run(classifier, items, options):
        found = logits.topk(min(TOP, logits.shape[1])).indices == labels[:, None]
        hits += torch.stack([found[:, 0].sum(), found.any(1).sum()])
    top1, top5 = (hits / len(items)).tolist()
    return Accuracy(top1, top5, len(items), time.perf_counter() - started)


def classify(
    classifier: ImageClassifier, items: Sequence[Item], options: EvaluationOptions
) -> Iterator[tuple[Item, list[tuple[int, float]]]]:
    """Yield each image with its most likely classes and their probabilities, in descending order.

    Raises:
        InputError: if a file cannot be read as an image.
    """
    rest = iter(items)
    for logits, _ in run(classifier, items, options):
        top = logits.softmax(1).topk(min(TOP, logits.shape[1]))
        for shares, classes in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            yield next(rest), list(zip(classes, shares, strict=True))
