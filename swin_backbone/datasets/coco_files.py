"""Check an annotation file in COCO's format together with its images, and remember files without problems."""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swin_backbone.datasets.coco_check import check_annotations
from swin_backbone.datasets.image_check import check_images, check_presence, sampled
from swin_backbone.datasets.problems import Findings
from swin_backbone.files import write_json

SAMPLED_IMAGES = 200
"""Images of a file whose heads are read before a run."""

REMEMBERED = 1 << 20
"""Bytes of an annotation file from which it is worth remembering."""

VERSION = 1
"""Of the checks and of what is remembered: raise it with every change."""


@dataclass
class CocoReport:
    """What is known of an annotation file without fatal problems.

    Attributes:
        images: their number.
        sample: file name, width and height of some.
        height: the longest short side of an image.
        objects: objects to train on, by the name of their category.
        notes: a line for every kind of problem that does not stop a run.
        changed: time of the last change of each folder of images.
    """

    images: int = 0
    sample: list[tuple[str, int, int]] = field(default_factory=list)
    height: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)


def check_coco_files(
    path: Path, folder: str, root: str, masks: bool, labelled: bool = True, turned: bool = True, full: bool = False
) -> tuple[Findings, CocoReport]:
    """Check an annotation file and its images.

    Args:
        path: the annotation file.
        folder: of the images.
        root: the data root, out of which no path may lead.
        masks: whether the masks of the annotations are read.
        labelled: whether the file must have annotations.
        turned: whether photos are turned by their EXIF orientation.
        full: whether to read every image to its end, and not the heads of some.

    Returns:
        The fatal problems and the report.

    Raises:
        InputError: the file cannot be read at all.
    """
    place = cache_file(path, folder, root, masks, labelled)
    known = None if full else recall(place, path)
    if known is None:
        found = check_annotations(path, masks, labelled)
        findings = found.findings
        names = [name for name, _, _ in found.images]
        changed, there = check_presence(findings, names, folder, root) if '://' not in folder else ({}, [])
        kept = found.images if full else sampled(found.images, SAMPLED_IMAGES)
        height = max((min(width, height) for _, width, height in found.images), default=0)
        report = CocoReport(len(found.images), kept, height, found.objects, findings.notes, changed)
        if not findings.sentence and path.stat().st_size >= REMEMBERED and not full:
            remember(place, path, report)
        present = set(there)
    else:
        report, findings, present = known, Findings(str(path)), {name for name, _, _ in known.sample}
    looked_at = Findings(str(path), [finding for finding in findings.found if finding.fatal])
    files = [(os.path.join(folder, name), (width, height)) for name, width, height in report.sample if name in present]
    check_images(looked_at, files, decode=full, turned=turned)
    report.notes += looked_at.notes
    return looked_at, report


def cache_file(path: Path, *options: Any) -> Path:
    """Where the report on a file is remembered, under the user's folder for caches."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    key = hashlib.sha256(repr((VERSION, os.path.abspath(path), *options)).encode()).hexdigest()[:16]
    return Path(base) / 'swin_backbone' / 'data_checks' / f'{path.stem}-{key}.json'


def state_of(path: Path) -> list[int]:
    """What changes with the content of a file: its time and its size."""
    state = path.stat()
    return [state.st_mtime_ns, state.st_size]


def recall(place: Path, path: Path) -> CocoReport | None:
    """The remembered report on a file, if neither it nor the folders of its images have changed."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(place.read_text(encoding='utf-8'))
        report = CocoReport(**content['report'])
        report.sample = [(name, width, height) for name, width, height in report.sample]
        if content['state'] == state_of(path) and all_unchanged(report.changed.items()):
            return report
    return None


def all_unchanged(folders: Iterable[tuple[str, int]]) -> bool:
    """Whether folders are as they were."""
    return all(os.stat(folder).st_mtime_ns == changed for folder, changed in folders)


def remember(place: Path, path: Path, report: CocoReport) -> None:
    """Write down the report on a file; a cache that cannot be written is none."""
    with suppress(OSError):
        write_json(place, dict(state=state_of(path), report=asdict(report)))
