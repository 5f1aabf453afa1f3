"""Check an annotation file in COCO's format together with its images, and cache the results of valid files."""

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
"""Number of images per file whose headers are read before a run."""

MIN_CACHED_SIZE = 1 << 20
"""Results are cached for annotation files of at least this many bytes."""

VERSION = 1
"""Version of the checks and of the cache format; increase it with every change."""


@dataclass
class CocoReport:
    """The result of checking an annotation file; cached if there are no fatal problems.

    Attributes:
        images: number of images.
        sample: file name, width and height of the images to read.
        height: the largest short side of an image.
        objects: number of objects to train on, by category name.
        notes: a line for every kind of problem that does not prevent a run.
        changed: modification time of each folder of images.
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
        folder: folder of the images.
        root: the data root, which must contain all paths.
        masks: whether to check the masks of the annotations.
        labelled: whether the file must have annotations.
        turned: whether the pipeline rotates photos by their EXIF orientation.
        full: whether to read every image completely, instead of the headers of some.

    Returns:
        The fatal problems and the report.

    Raises:
        InputError: if the annotation file cannot be read at all.
    """
    place = cache_file(path, folder, root, masks, labelled)
    known = None if full else read_cache(place, path)
    if known is None:
        found = check_annotations(path, masks, labelled)
        findings = found.findings
        names = [name for name, _, _ in found.images]
        changed, there = check_presence(findings, names, folder, root) if '://' not in folder else ({}, [])
        kept = found.images if full else sampled(found.images, SAMPLED_IMAGES)
        height = max((min(width, height) for _, width, height in found.images), default=0)
        report = CocoReport(len(found.images), kept, height, found.objects, findings.notes, changed)
        if not findings.sentence and path.stat().st_size >= MIN_CACHED_SIZE and not full:
            write_cache(place, path, report)
        present = set(there)
    else:
        report, findings, present = known, Findings(str(path)), {name for name, _, _ in known.sample}
    checked = Findings(str(path), [finding for finding in findings.found if finding.fatal])
    files = [(os.path.join(folder, name), (width, height)) for name, width, height in report.sample if name in present]
    check_images(checked, files, decode=full, turned=turned)
    report.notes += checked.notes
    return checked, report


def cache_file(path: Path, *options: Any) -> Path:
    """Return the path of the cached report on a file, in the user's cache folder."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    key = hashlib.sha256(repr((VERSION, os.path.abspath(path), *options)).encode()).hexdigest()[:16]
    return Path(base) / 'swin_backbone' / 'data_checks' / f'{path.stem}-{key}.json'


def state_of(path: Path) -> list[int]:
    """Return modification time and size of a file, which identify its content."""
    state = path.stat()
    return [state.st_mtime_ns, state.st_size]


def read_cache(place: Path, path: Path) -> CocoReport | None:
    """Return the cached report on a file; None if the file or the folders of its images have changed."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(place.read_text(encoding='utf-8'))
        report = CocoReport(**content['report'])
        report.sample = [(name, width, height) for name, width, height in report.sample]
        if content['state'] == state_of(path) and all_unchanged(report.changed.items()):
            return report
    return None


def all_unchanged(folders: Iterable[tuple[str, int]]) -> bool:
    """Whether folders have the given modification times."""
    return all(os.stat(folder).st_mtime_ns == changed for folder, changed in folders)


def write_cache(place: Path, path: Path, report: CocoReport) -> None:
    """Cache the report on a file; errors are ignored."""
    with suppress(OSError):
        write_json(place, dict(state=state_of(path), report=asdict(report)))
