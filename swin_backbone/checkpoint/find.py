"""Find the local file behind a published name, a path, a URL, or a name of the Hugging Face Hub or timm."""

import difflib
import hashlib
import os
import urllib.parse
from pathlib import Path, PurePosixPath

from swin_backbone.checkpoint.hub import HUB, cache_dir, find_on_hub, timm_source
from swin_backbone.checkpoint.published import WEIGHTS, Weights
from swin_backbone.errors import InputError
from swin_backbone.files import download

SCHEMES = ('https', 'http', 'file')
SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors', '.pkl', '.json')


def is_remote(source: str) -> bool:
    """Whether a source is a name or a URL, which :func:`find_file` looks up, and not a path."""
    if source in WEIGHTS or '://' in source or source.startswith(HUB):
        return True
    path = Path(source).expanduser()
    return not path.exists() and (is_timm_repository(path) or (len(path.parts) == 1 and path.suffix not in SUFFIXES))


def is_timm_repository(path: Path) -> bool:
    """Whether a path that does not exist is the name of a timm repository on the Hub."""
    return path.parts[:1] == ('timm',) and len(path.parts) == 2 and path.suffix not in SUFFIXES


def find_file(source: str | os.PathLike[str]) -> Path:
    """Return the local file or folder of ``source``, downloaded if necessary.

    Args:
        source: a key of :data:`swin_backbone.checkpoint.published.WEIGHTS`, a path, a URL,
            ``hf-hub:OWNER/NAME[@REVISION]``, ``timm/NAME`` on the same hub, or the name of a timm model.

    Raises:
        InputError: if it is none of these, or the download failed.
    """
    text = os.fspath(source)
    if text in WEIGHTS:
        return fetch(WEIGHTS[text].url, WEIGHTS[text])
    if text.startswith(HUB):
        return find_on_hub(text.removeprefix(HUB))
    scheme, found, _ = text.partition('://')
    if found:
        if scheme not in SCHEMES:
            raise InputError(f'cannot read {text}: use a path, a published name, or a URL with {", ".join(SCHEMES)}.')
        known = next((weights for weights in WEIGHTS.values() if weights.url == text), None)
        return fetch(text, known)
    path = Path(text).expanduser()
    if not is_remote(text):
        return path
    if is_timm_repository(path):
        return find_on_hub(text)
    address = timm_source(text)
    if address is None:
        raise InputError(unknown_name(text))
    return find_file(address)


def unknown_name(name: str) -> str:
    """Return the error message for a name that is neither a file nor published."""
    close = difflib.get_close_matches(name, WEIGHTS, n=3, cutoff=0.5) or list(WEIGHTS)[:3]
    return (
        f'{name!r} is neither a file nor a published name: names are like {", ".join(close)} (all of them: '
        'swin_backbone.checkpoint.published.WEIGHTS).'
    )


def fetch(url: str, known: Weights | None = None) -> Path:
    """Return the file of ``url`` in the cache, downloaded if necessary.

    A published file keeps its name. For any other, a hash of the URL is added to the name, because checkpoints of
    different models often have the same name, such as ``epoch_36.pth``.

    Raises:
        InputError: if it cannot be downloaded or written, or differs from the published file.
    """
    name = PurePosixPath(urllib.parse.urlparse(url).path)
    if known is not None:
        return download(url, cache_dir() / name.name, size=known.size, digest=known.digest)
    key = hashlib.sha256(url.encode()).hexdigest()[:8]
    return download(url, cache_dir() / f'{name.stem or "checkpoint"}-{key}{name.suffix}')
