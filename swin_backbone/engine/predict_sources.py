"""Sources of `predict` (images, folders, patterns, videos and cameras) and their output paths."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.errors import InputError

VIDEO_ENDINGS = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv'}


def is_camera(source: str) -> bool:
    """Return whether a source is a camera number."""
    return source.isdigit() and not Path(source).exists()


def is_video(path: Path) -> bool:
    """Return whether a file has the suffix of a video."""
    return path.suffix.lower() in VIDEO_ENDINGS


def find_files(sources: Sequence[str]) -> dict[Path, Path]:
    """Find the files of all sources: files, glob patterns, and folders (recursively, without hidden files).

    Returns:
        The output path of each file relative to the output folder, without suffix: its path relative to the common
        folder of all sources. The suffix is kept if two outputs would have the same name.

    Raises:
        InputError: if a source matches no file.
    """
    files: list[Path] = []
    roots: list[str] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            files += visible_files(path)
            roots.append(os.path.abspath(path))
            continue
        found = [path] if path.is_file() else sorted(map(Path, glob.glob(source, recursive=True)))
        found = [one for one in found if one.is_file()]
        if not found:
            raise InputError(
                f'file or folder {source} does not exist: give images, videos, a folder of them, a quoted pattern '
                "such as 'photos/*.jpg', or a camera number."
            )
        files += found
        roots += [os.path.abspath(one.parent) for one in found]
    root = os.path.commonpath(roots) if roots else ''
    files = list(dict.fromkeys(files))
    places = [Path(os.path.relpath(os.path.abspath(path), root)) for path in files]
    stems = [place.with_suffix('') for place in places]
    return {
        path: stem if stems.count(stem) == 1 else place for path, stem, place in zip(files, stems, places, strict=True)
    }


def visible_files(folder: Path) -> list[Path]:
    """Return the files below a folder, without hidden files and folders."""
    files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    return [path for path in files if not any(part.startswith('.') for part in path.relative_to(folder).parts)]


def check_outputs(files: dict[Path, Path], out_dir: Path) -> None:
    """Check that no drawing would overwrite an input image.

    Raises:
        InputError: if one would.
    """
    inputs = {os.path.abspath(path) for path in files}
    for path, place in files.items():
        target = os.path.abspath(f'{out_dir / place}{".mp4" if is_video(path) else ".png"}')
        if target in inputs:
            raise InputError(f'--out-dir {out_dir}: the drawing would overwrite {target}: give another folder.')
