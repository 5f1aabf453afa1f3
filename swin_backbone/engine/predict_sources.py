"""What `predict` is pointed at: images, folders, patterns, videos and cameras, and where their outputs go."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from swin_backbone.errors import InputError

VIDEO_ENDINGS = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv'}


def is_camera(source: str) -> bool:
    """Whether a source is the number of a camera."""
    return source.isdigit() and not Path(source).exists()


def is_video(path: Path) -> bool:
    """Whether the name of a file is that of a video."""
    return path.suffix.lower() in VIDEO_ENDINGS


def find_files(sources: Sequence[str]) -> dict[Path, Path]:
    """All files that sources mean: files, patterns, and folders with their folders, hidden ones left out.

    Returns:
        For each file the place of its outputs relative to the output folder, without an ending: its own place below
        the folder that all sources have in common, with its ending if two would collide.

    Raises:
        InputError: a source means nothing.
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
                f'there is no file or folder {source}: give images, videos, a folder with them, a pattern in quotes '
                "such as 'photos/*.jpg', or the number of a camera."
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
    """The files in a folder and its folders, hidden ones left out."""
    files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    return [path for path in files if not any(part.startswith('.') for part in path.relative_to(folder).parts)]


def check_outputs(files: dict[Path, Path], out_dir: Path) -> None:
    """Refuse an output folder where a drawing would take the place of an image that is predicted.

    Raises:
        InputError: it would.
    """
    inputs = {os.path.abspath(path) for path in files}
    for path, place in files.items():
        target = os.path.abspath(f'{out_dir / place}{".mp4" if is_video(path) else ".png"}')
        if target in inputs:
            raise InputError(f'--out-dir {out_dir}: the drawing would overwrite {target}: name another folder.')
