"""Turn a published name, a path or an address into a file on this machine."""

import difflib
import hashlib
import logging
import os
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import IO

import torch

from swin_backbone.checkpoint.published import WEIGHTS, Weights
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
SCHEMES = ('https', 'http', 'file')
CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte


def find_file(source: str | os.PathLike[str]) -> Path:
    """The local file that ``source`` means, downloaded if need be.

    Args:
        source: a key of :data:`swin_backbone.checkpoint.published.WEIGHTS`, a path, or an address.

    Raises:
        InputError: it is none of these, or the download failed.
    """
    text = os.fspath(source)
    if text in WEIGHTS:
        return fetch(WEIGHTS[text].url, WEIGHTS[text])
    scheme, found, _ = text.partition('://')
    if found:
        if scheme not in SCHEMES:
            raise InputError(
                f'cannot read {text}: give a path, a published name, or an address in {", ".join(SCHEMES)}.'
            )
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
    """Where downloads are kept: PyTorch's own folder, under ``TORCH_HOME``."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def fetch(url: str, known: Weights | None = None) -> Path:
    """The file behind ``url`` in the cache, downloaded if it is not there yet.

    A download has another name until it is whole and as large as announced.

    Raises:
        InputError: it cannot be downloaded or written, or is not the file that was published.
    """
    target = cache_dir() / (os.path.basename(urllib.parse.urlparse(url).path) or 'checkpoint')
    if target.is_file():
        if known is not None and known.size and target.stat().st_size != known.size:
            raise InputError(
                f'{target} has {target.stat().st_size:,} bytes where the published file has {known.size:,}: delete it, '
                'and it will be downloaded again.'
            )
        return target
    LOGGER.info('downloading %s to %s', url, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=f'{target.name}.', suffix='.part')
        try:
            with open(handle, 'wb') as file:
                receive(url, file, known)
            os.chmod(part, 0o644)
            os.replace(part, target)
        finally:
            Path(part).unlink(missing_ok=True)
    except InputError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, 'reason', None) or error
        raise InputError(
            f'cannot download {url} ({reason}): download it elsewhere and put it at {target}, or give its path.'
        ) from error
    return target


def receive(url: str, part: IO[bytes], known: Weights | None) -> None:
    """Write what ``url`` answers into ``part`` and check that it is whole."""
    request = urllib.request.Request(url, headers={'User-Agent': 'swin-backbone'})
    algorithm, _, expected = known.digest.partition(':') if known is not None else ('', '', '')
    digest = hashlib.new(algorithm) if algorithm else None
    received = 0
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        announced = int(answer.headers.get('Content-Length') or 0)
        while chunk := answer.read(CHUNK):
            part.write(chunk)
            received += len(chunk)
            if digest is not None:
                digest.update(chunk)
    for whole in (announced, known.size if known is not None else 0):
        if whole and received != whole:
            raise InputError(f'{url} broke off after {received:,} of {whole:,} bytes and was not kept: try again.')
    if digest is not None and digest.hexdigest() != expected:
        raise InputError(
            f'{url} has not the {algorithm} hash of the published file and was not kept: something between here and '
            'there changed it; try again from another network.'
        )
