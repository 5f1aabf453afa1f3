"""Run a classifier over image files: accuracy, or the likeliest classes of each."""

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
class Running:
    """How files are read and computed.

    Attributes:
        batch_size: images at a time.
        workers: processes that read images; 0 reads in this one.
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
    """What :func:`evaluate` found.

    Attributes:
        top1: share of the images whose likeliest class is theirs.
        top5: share whose class is among the five likeliest.
        images: how many there were.
        seconds: for all of them, reading included.
    """

    top1: float
    top5: float
    images: int
    seconds: float


@torch.no_grad()
def run(classifier: ImageClassifier, items: Sequence[Item], running: Running) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits ``[B, classes]`` in float32 and labels ``[B]``, both on the CPU, batch by batch.

    Raises:
        InputError: a file is no image that can be read.
    """
    images = ImageFiles(items, classifier.image_size, running.upright)
    loader: DataLoader[tuple[Tensor | str, int]] = DataLoader(
        images, running.batch_size, num_workers=running.workers, collate_fn=collate
    )
    classifier = classifier.to(running.device).eval()
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(running.device, torch.bfloat16, enabled=running.bf16))
        bar = stack.enter_context(progress_bar('images', len(items), leave=False))
        for batch, labels in loader:
            if isinstance(batch, str):
                raise InputError(batch)
            yield classifier(batch.to(running.device)).float().cpu(), labels
            bar.update(len(labels))


def evaluate(classifier: ImageClassifier, items: Sequence[Item], running: Running) -> Accuracy:
    """The accuracy on labelled images.

    Raises:
        InputError: a file is no image that can be read.
    """
    started = time.perf_counter()
    hits = torch.zeros(2)
    for logits, labels in run(classifier, items, running):
        found = logits.topk(min(TOP, logits.shape[1])).indices == labels[:, None]
        hits += torch.stack([found[:, 0].sum(), found.any(1).sum()])
    top1, top5 = (hits / len(items)).tolist()
    return Accuracy(top1, top5, len(items), time.perf_counter() - started)


def classify(
    classifier: ImageClassifier, items: Sequence[Item], running: Running
) -> Iterator[tuple[Item, list[tuple[int, float]]]]:
    """Each image with its likeliest classes and their probabilities, the likeliest first.

    Raises:
        InputError: a file is no image that can be read.
    """
    rest = iter(items)
    for logits, _ in run(classifier, items, running):
        top = logits.softmax(1).topk(min(TOP, logits.shape[1]))
        for shares, classes in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            yield next(rest), list(zip(classes, shares, strict=True))
