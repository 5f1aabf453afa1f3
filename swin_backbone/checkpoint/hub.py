"""Weights on the Hugging Face Hub, and those that timm names."""

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
"""What libraries call the weights in a repository, in the order in which they are preferred."""


def cache_dir() -> Path:
    """The folder of downloads: PyTorch's own, under ``TORCH_HOME``."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def find_on_hub(name: str) -> Path:
    """The local copy of the weights in a repository of the Hugging Face Hub, downloaded if need be.

    Args:
        name: ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.

    Returns:
        The file of weights, or the index of its shards, which lie beside it; or a folder ``OWNER--NAME`` or
        ``OWNER--NAME@REVISION`` among the downloads, for which neither network nor ``huggingface_hub`` is needed.

    Raises:
        InputError: it is no such name, there are no weights, or they cannot be downloaded.
    """
    repository, _, revision = name.partition('@')
    if not re.fullmatch(r'[\w.-]+/[\w.-]+', repository):
        raise InputError(f'{HUB}{name} names no repository of the Hugging Face Hub: write {HUB}OWNER/NAME[@REVISION].')
    placed = cache_dir() / name.replace('/', '--')
    if placed.is_dir():
        return placed
    url = f'https://huggingface.co/{repository}/resolve/{revision or "main"}/{FILES[0]}'
    remedy = f'download {url} elsewhere (or {", ".join(FILES[1:])}) and put it into {placed}.'
    if find_spec('huggingface_hub') is None:
        raise InputError(f'{HUB}{name} needs the package huggingface_hub: run pip install huggingface_hub, or {remedy}')
    return download_from_hub(repository, revision or None, remedy)


def download_from_hub(repository: str, revision: str | None, remedy: str) -> Path:
    """The first file of :data:`FILES` that a repository has, in the cache of ``huggingface_hub``; with its shards.

    What is in the cache is used without asking the hub, as other downloads are.

    Raises:
        InputError: it has none, or cannot be reached; ``remedy`` says what to do then.
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
    raise InputError(f'{HUB}{repository} has no weights: expected one of {", ".join(FILES)}; give the URL of a file.')


def cannot_download(repository: str, error: Exception, remedy: str) -> InputError:
    """The error for a repository that does not answer, or refuses."""
    lines = [line.strip().rstrip('.') for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return InputError(f'cannot download {HUB}{repository} ({lines[0]}): check name and connection, or {remedy}')


def timm_source(name: str) -> str | None:
    """Where timm's pre-trained weights for its model ``name`` are: a repository or a URL; None without such a model.

    Raises:
        InputError: timm knows the model, but not these weights of it, or none.
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
