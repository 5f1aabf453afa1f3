"""Files that would expand to far more than their size are rejected before memory is allocated."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swin_backbone.checkpoint import read, shards
from swin_backbone.checkpoint.read import read_checkpoint
from swin_backbone.errors import InputError


@pytest.fixture(autouse=True)
def small_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, 'ALLOWANCE', 100_000)


def deflated_zeros(path: Path) -> None:
    torch.save({'weight': torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as source:
        contents = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target:
        for name, content in contents.items():
            target.writestr(name, content)


def compressed_array(path: Path) -> None:
    with path.open('wb') as file:
        np.savez_compressed(file, weight=np.zeros(1 << 20))


def wrong_shape_in_header(path: Path) -> None:
    array = path.with_suffix('.npy')
    np.save(array, np.zeros(3))
    shape, wrong = b"'shape': (3,), }" + 15 * b' ', b"'shape': (3000000000000000,), }"
    assert shape in array.read_bytes()
    with zipfile.ZipFile(path, 'w') as target:
        target.writestr('weight.npy', array.read_bytes().replace(shape, wrong))


def expanded(path: Path) -> None:
    torch.save({'state_dict': {'weight': torch.ones(1).expand(1000, 1000)}}, path)


def nested(path: Path) -> None:
    torch.save({'optimizer': {'state': [{'mean': torch.ones(1).expand(10**6, 10**6)}]}}, path)


@pytest.mark.parametrize('write', [deflated_zeros, compressed_array, expanded, nested])
def test_files_that_would_expand_too_much_are_rejected(write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path / 'weights.pth')
    with pytest.raises(InputError, match=r'weights\.pth is rejected: its [\d,]+ bytes would expand to [\d,]+') as error:
        read_checkpoint(tmp_path / 'weights.pth')
    assert '\n' not in str(error.value)


def test_an_array_with_an_impossible_shape_is_rejected(tmp_path: Path) -> None:
    wrong_shape_in_header(tmp_path / 'weights.pth')
    with pytest.raises(InputError, match='is damaged, or contains more than numbers'):
        read_checkpoint(tmp_path / 'weights.pth')


def test_a_huge_text_file_is_not_read_as_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, 'MAX_INDEX', 10)
    (tmp_path / 'weights.json').write_text('{"weight_map": {}}')
    with pytest.raises(InputError, match='is a text file'):
        read_checkpoint(tmp_path / 'weights.json')


def test_tied_weights_are_read(tmp_path: Path) -> None:
    shared = torch.ones(1000)
    torch.save({str(i): shared for i in range(90)}, tmp_path / 'tied.pth')
    assert len(read_checkpoint(tmp_path / 'tied.pth')) == 90
