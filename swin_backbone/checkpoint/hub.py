"""Weights on the Hugging Face Hub, and pretrained weights of timm."""

import json
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

from swin_backbone.errors import InputError

HUB = 'hf-hub:'
SHARDED = ('model.safetensors.index.json', 'pytorch_model.bin.index.json')
FILES = ('model.safetensors', 'pytorch_model.bin', *SHARDED)
"""Usual names of the weights in a repository, in order of preference."""


def cache_dir() -> Path:
    """Return the folder of downloads, which is PyTorch's, under ``TORCH_HOME``."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def find_on_hub(name: str) -> Path:
    """Return the local copy of the weights in a repository of the Hugging Face Hub, downloaded if necessary.

    Args:
        name: ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.

    Returns:
        The file of weights, or the index of its shards in the same folder; or a folder ``OWNER--NAME`` or
        ``OWNER--NAME@REVISION`` in :func:`cache_dir`, which needs neither a network nor ``huggingface_hub``.

    Raises:
        InputError: if the name is invalid, the repository has no weights, or they cannot be downloaded.
    """
    repository, _, revision = name.partition('@')
    if not re.fullmatch(r'[\w.-]+/[\w.-]+', repository):
        raise InputError(f'{HUB}{name} is no repository of the Hugging Face Hub: write {HUB}OWNER/NAME[@REVISION].')
    placed = cache_dir() / name.replace('/', '--')
    if placed.is_dir():
        return placed
    url = f'https://huggingface.co/{repository}/resolve/{revision or "main"}/{FILES[0]}'
    remedy = f'download {url} elsewhere (or {", ".join(FILES[1:])}) and put it into {placed}.'
    if find_spec('huggingface_hub') is None:
        raise InputError(f'{HUB}{name} needs the package huggingface_hub: run pip install huggingface_hub, or {remedy}')
    return download_from_hub(repository, revision or None, remedy)


def download_from_hub(repository: str, revision: str | None, remedy: str) -> Path:
    """Download the first of :data:`FILES` that a repository has, with its shards, to the ``huggingface_hub`` cache.

    A cached file is used without contacting the Hub.

    Raises:
        InputError: if the repository has none of them, or cannot be reached; the message ends with ``remedy``.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for cached in (True, False):
        for file in FILES:
            try:
                path = Path(hf_hub_download(repository, file, revision=revision, local_files_only=cached))
                if file in SHARDED:
                    for shard in sorted(set(json.loads(path.read_text())['weight_map'].values())):
                        hf_hub_download(repository, shard, revision=revision, local_files_only=cached)
                return path
            except LocalEntryNotFoundError as error:
                if not cached:
                    raise cannot_download(repository, error, remedy) from error
            except EntryNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise cannot_download(repository, error, remedy) from error
    raise InputError(f'{HUB}{repository} has no weights: expected one of {", ".join(FILES)}; or use the URL of a file.')


def cannot_download(repository: str, error: Exception, remedy: str) -> InputError:
    """Return the error for a repository that cannot be reached or denies access."""
    lines = [line.strip().rstrip('.') for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return InputError(f'cannot download {HUB}{repository} ({lines[0]}): check name and connection, or {remedy}')


def timm_source(name: str) -> str | None:
    """Return the Hub repository or URL of timm's pretrained weights for ``name``; None if timm has no such model.

    Raises:
        InputError: if timm has the model, but no such weights for it.
    """
    if find_spec('timm') is None:
        return None
    timm = import_module('timm')

    if not timm.is_model(name):
        return None
    try:
        weights = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise InputError(
            f'timm has no weights {name!r} ({str(error).rstrip(".")}): see timm.list_pretrained().'
        ) from error
    if weights is None or not (weights.hf_hub_id or weights.url):
        raise InputError(f'timm publishes no weights for its model {name!r}: see timm.list_pretrained().')
    return f'{HUB}{weights.hf_hub_id}' if weights.hf_hub_id else str(weights.url)
