"""Find the local file behind a published name, a path or a URL."""

import difflib
import hashlib
import os
import urllib.parse
from pathlib import Path, PurePosixPath

import torch

from swin_backbone.checkpoint.published import WEIGHTS, Weights
from swin_backbone.errors import InputError
from swin_backbone.files import download

SCHEMES = ('https', 'http', 'file')


def find_file(source: str | os.PathLike[str]) -> Path:
    """The local file that ``source`` means, downloaded if need be.

    Args:
        source: a key of :data:`swin_backbone.checkpoint.published.WEIGHTS`, a path, or a URL.

    Raises:
        InputError: it is none of these, or the download failed.
    """
    text = os.fspath(source)
    if text in WEIGHTS:
        return fetch(WEIGHTS[text].url, WEIGHTS[text])
    scheme, found, _ = text.partition('://')
    if found:
        if scheme not in SCHEMES:
            raise InputError(f'cannot read {text}: give a path, a published name, or a URL of {", ".join(SCHEMES)}.')
        known = next((weights for weights in WEIGHTS.values() if weights.url == text), None)
        return fetch(text, known)
    path = Path(text).expanduser()
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        raise InputError(unknown_name(text))
    return path


def unknown_name(name: str) -> str:
    """The error for something that is neither a file nor a published name."""
    close = difflib.get_close_matches(name, WEIGHTS, n=3, cutoff=0.5) or list(WEIGHTS)[:3]
    return (
        f'{name!r} is neither a file nor a published name: names are like {", ".join(close)} (all of them: '
        'swin_backbone.checkpoint.published.WEIGHTS).'
    )


def cache_dir() -> Path:
    """The folder of downloads: PyTorch's own, under ``TORCH_HOME``."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def fetch(url: str, known: Weights | None = None) -> Path:
    """The file behind ``url`` in the cache, downloaded unless it is there.

    A published file keeps its name. Any other is cached under a name with a hash of its URL, because checkpoints of
    different models are often named alike, such as ``epoch_36.pth``.

    Raises:
        InputError: it cannot be downloaded or written, or differs from the published file.
    """
    name = PurePosixPath(urllib.parse.urlparse(url).path)
    if known is not None:
        return download(url, cache_dir() / name.name, size=known.size, digest=known.digest)
    key = hashlib.sha256(url.encode()).hexdigest()[:8]
    return download(url, cache_dir() / f'{name.stem or "checkpoint"}-{key}{name.suffix}')
