"""Reading checkpoint files without running code from them, and errors for broken files."""

import argparse
import io
import json
import os
import pickle
import re
import sys
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from swin_backbone import load_pretrained
from swin_backbone.checkpoint import allowed_globals, read_checkpoint, safe_globals
from swin_backbone.checkpoint.pickles import PlainDtype
from swin_backbone.errors import InputError
from tests.helpers import tiny_backbone

WEIGHTS = {'a': torch.arange(6.0).reshape(2, 3)}


class Call:
    """An object whose pickle calls a function with arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def saved(folder: Path, contents: Any, **options: Any) -> Path:
    path = folder / 'file.pth'
    torch.save(contents, path, **options)
    return path


def error_message(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    message = str(error.value)
    assert message.startswith(str(path)) and '\n' not in message
    return message


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_file_is_reported_and_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / 'mark'
    path = saved(
        tmp_path, {'model': WEIGHTS, 'x': Call(os.system, f'touch {mark}')}, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(InputError, match=r'is rejected: reading it would need (posix|nt)\.system'):
        load_pretrained(tiny_backbone(), path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ('contents', 'named'),
    [
        (Call(eval, '1'), 'eval'),
        (Call(getattr, os, 'system'), 'os'),
        (torch.nn.Linear(1, 1), 'torch.nn.modules.linear.Linear'),
        (np.array([None, {}], dtype=object), 'numpy.dtype(O8)'),
        (np.zeros(1, dtype=[('x', 'f8')]), 'numpy.dtype(V8)'),
    ],
)
def test_disallowed_globals_are_named_in_the_error(tmp_path: Path, contents: Any, named: str) -> None:
    if named == 'os':  # os cannot be pickled, so write the pickle manually
        path = tmp_path / 'file.pth'
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('archive/data.pkl', b'\x80\x02cos\nsystem\n.')
            archive.writestr('archive/version', '3\n')
    else:
        path = saved(tmp_path, {'model': WEIGHTS, 'x': contents})
    assert f'reading it would need {named}' in error_message(path)


def test_plain_dtype_ignores_a_crafted_state() -> None:
    """A dtype's state can declare raw bytes to be objects; only its byte order is used."""
    dtype = PlainDtype('f8', False, True)
    dtype.__setstate__((3, '<', (np.dtype('O'), (1,)), None, None, 8, 1, 0))
    assert dtype.dtype == np.float64 and not dtype.dtype.hasobject


@pytest.fixture
def yacs(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that is pickled like yacs' CfgNode; the module is removed before reading."""
    module = ModuleType('yacs.config')

    class CfgNode(dict):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.__dict__['__immutable__'] = False
            self.__dict__['__deprecated_keys__'] = {'x'}

    CfgNode.__module__, CfgNode.__qualname__ = 'yacs.config', 'CfgNode'
    module.CfgNode = CfgNode
    monkeypatch.setitem(sys.modules, 'yacs', ModuleType('yacs'))
    monkeypatch.setitem(sys.modules, 'yacs.config', module)
    return CfgNode


@pytest.mark.parametrize('zipped', [True, False])
def test_settings_of_training_code_are_read_as_dicts(
    tmp_path: Path, yacs: type, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    config = yacs({'MODEL': yacs({'TYPE': 'swin'}), 'GPUS': [0, 1]})
    arguments = argparse.Namespace(lr=1e-4, output=PosixPath('/tmp/x'), parts=defaultdict(dict, {'a': {}}))
    path = saved(
        tmp_path, {'model': WEIGHTS, 'config': config, 'args': arguments}, _use_new_zipfile_serialization=zipped
    )
    monkeypatch.delitem(sys.modules, 'yacs.config')
    contents = read_checkpoint(path)
    assert torch.equal(contents['model']['a'], WEIGHTS['a'])
    assert contents['config']['MODEL']['TYPE'] == 'swin' and contents['config']['GPUS'] == [0, 1]
    assert type(contents['args']).__name__ == 'OrderedDict' and 'yacs.config' not in sys.modules


@pytest.mark.parametrize(
    'value',
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.random.default_rng(0).normal(size=(3, 2))),
        np.array(['ab', 'c']),
        np.array([True, False]),
        np.arange(3, dtype='>i4'),
        np.float64(1.5),
        np.int64(-3),
        np.float32(2.5),
        np.bool_(True),
        np.str_('text'),
    ],
    ids=lambda value: f'{type(value).__name__}-{value.dtype}',
)
def test_numpy_arrays_and_scalars_are_restored(tmp_path: Path, value: Any) -> None:
    back = read_checkpoint(saved(tmp_path, {'x': value}))['x']
    assert np.array_equal(back, value) and back.dtype == value.dtype.newbyteorder('=')
    again = pickle.dumps(back, protocol=2)
    assert b'swin_backbone' not in again and np.array_equal(pickle.loads(again), value)


def test_mmengine_history_buffers_are_restored(tmp_path: Path) -> None:
    logging = pytest.importorskip('mmengine.logging')
    history = logging.HistoryBuffer([3.0, 1.0, 2.0], [1, 1, 1])
    hub = {'log_scalars': {'train/loss': history}, 'runtime_info': {'best': np.float64(1)}, 'resumed_keys': {}}
    path = saved(tmp_path, {'state_dict': WEIGHTS, 'message_hub': hub, 'optimizer': {'state': {0: {'step': 1}}}})
    back = read_checkpoint(path)['message_hub']['log_scalars']['train/loss']
    assert isinstance(back, logging.HistoryBuffer)
    assert (back.mean(), back.statistics('min'), back.current()) == (2.0, 1.0, 2.0)
    back.update(6.0)
    assert back.max() == 6.0 and b'swin_backbone' not in pickle.dumps(back)


def test_a_checkpoint_of_mmengine_is_read_without_mmengine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging = pytest.importorskip('mmengine.logging')
    path = saved(tmp_path, {'state_dict': WEIGHTS, 'message_hub': {'loss': logging.HistoryBuffer([3.0], [1])}})
    monkeypatch.delitem(sys.modules, 'mmengine.logging.history_buffer')
    assert torch.equal(read_checkpoint(path)['state_dict']['a'], WEIGHTS['a'])
    assert 'mmengine.logging.history_buffer' not in sys.modules


def test_safe_globals_restores_the_previous_list() -> None:
    entry = (PlainDtype, 'some.module.name')
    torch.serialization.add_safe_globals([entry, np.dtype])
    try:
        before = set(torch.serialization.get_safe_globals())
        with safe_globals():
            inside = set(torch.serialization.get_safe_globals())
            assert set(allowed_globals()) <= inside and entry in inside and np.dtype not in inside
        assert set(torch.serialization.get_safe_globals()) == before
    finally:
        torch.serialization.clear_safe_globals()


@pytest.mark.parametrize('part', [0.3, 0.9, 0.999])
@pytest.mark.parametrize('form', ['zip', 'pickle', 'safetensors'])
def test_incomplete_files_are_reported(tmp_path: Path, form: str, part: float) -> None:
    path = tmp_path / ('file.safetensors' if form == 'safetensors' else 'file.pth')
    if form == 'safetensors':
        save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path, _use_new_zipfile_serialization=form == 'zip')
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert 'incomplete' in error_message(path)


@pytest.mark.parametrize(
    ('contents', 'description'),
    [
        (b'', 'is empty'),
        (b'\n  <!DOCTYPE html>\n<html><body>404', 'a web page, not weights'),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'a web page, not weights'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n', 'Git LFS pointer'),
        ('Not Found: 见 '.encode() * 50, "a text file (it starts with 'Not Found"),
        (b'{"message": "Not Found"}', 'a text file'),
        (b'\x1f\x8b\x08\x00' + bytes(20), 'a gzip archive'),
        (bytes(4096), 'filled with zeros'),
        (bytes(range(1, 256)), 'not a checkpoint'),
        (b'\x05\x00\x00', 'not a checkpoint'),
    ],
)
def test_files_that_are_not_checkpoints_are_described(tmp_path: Path, contents: bytes, description: str) -> None:
    path = tmp_path / 'file.pth'
    path.write_bytes(contents)
    message = error_message(path)
    assert description in message and 'expected a .pth or .safetensors checkpoint' in message


def test_the_format_is_recognised_from_the_contents(tmp_path: Path) -> None:
    first, second = tmp_path / 'a.pth', tmp_path / 'b.safetensors'
    save_file(WEIGHTS, first)
    torch.save(WEIGHTS, second)
    assert torch.equal(read_checkpoint(first)['a'], WEIGHTS['a'])
    assert torch.equal(read_checkpoint(second)['a'], WEIGHTS['a'])


def test_damaged_safetensors_headers_are_reported(tmp_path: Path) -> None:
    path = tmp_path / 'file.safetensors'
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes().replace(b'"data_offsets"', b'"data_ofsets!"'))
    assert 'damaged safetensors file' in error_message(path)
    path.write_bytes(b'\x05\x00\x00\x00')
    assert 'incomplete' in error_message(path)


def test_other_zip_archives_are_described(tmp_path: Path) -> None:
    path = tmp_path / 'file.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('swin.pth', b'')
    assert 'zip archive, not a checkpoint' in error_message(path)
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1)), path)
    assert 'TorchScript' in error_message(path)


@pytest.mark.parametrize(('contents', 'kind'), [([1], 'list'), (torch.ones(1), 'Tensor'), (3, 'int')])
def test_files_without_a_dict_are_an_error(tmp_path: Path, contents: Any, kind: str) -> None:
    assert f'contains a {kind}, not a dict' in error_message(saved(tmp_path, contents))


def plain_pickle(folder: Path, contents: Any, protocol: int = 4) -> Path:
    path = folder / 'file.pkl'
    path.write_bytes(contents if isinstance(contents, bytes) else pickle.dumps(contents, protocol))
    return path


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    np.array([True, False]),
    np.arange(3, dtype='>i4'),
    np.float32(2.5),
    np.ones((), np.float16),
]


@pytest.mark.parametrize('protocol', range(2, 6))
@pytest.mark.parametrize('value', ARRAYS, ids=lambda value: f'{type(value).__name__}-{value.dtype}-{value.shape}')
def test_pickles_of_numpy_are_read(tmp_path: Path, value: Any, protocol: int) -> None:
    contents = {'model': OrderedDict(x=value), '__author__': 'someone', 'matching_heuristics': True}
    back = read_checkpoint(plain_pickle(tmp_path, contents, protocol))
    assert back['__author__'] == 'someone' and np.array_equal(back['model']['x'], value)


@pytest.mark.parametrize('protocol', [2, 3])
def test_pickles_of_numpy_1_are_read(tmp_path: Path, protocol: int) -> None:
    contents = pickle.dumps({'model': {'x': ARRAYS[0], 'y': ARRAYS[5]}}, protocol)
    assert b'numpy._core' in contents
    back = read_checkpoint(plain_pickle(tmp_path, contents.replace(b'numpy._core', b'numpy.core')))['model']
    assert np.array_equal(back['x'], ARRAYS[0]) and back['y'] == 2.5


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_pickled_tensors_are_read(tmp_path: Path, protocol: int) -> None:
    """As written by Mask2Former's conversion script, including views into a larger storage."""
    values = {'x': torch.arange(6.0).view(2, 3).t(), 'y': nn.Parameter(torch.ones(2)), 'z': torch.arange(5)[2:4]}
    back = read_checkpoint(plain_pickle(tmp_path, {'model': values}, protocol))['model']
    assert all(torch.equal(back[name], value) for name, value in values.items())


def malicious_storage() -> bytes:
    """The storage of a pickled tensor with a command instead of numbers."""
    file = io.BytesIO()
    torch.save(Call(os.system, 'touch MARK'), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize('protocol', [2, 4, 5])
@pytest.mark.parametrize(
    ('contents', 'named'),
    [
        (Call(os.system, 'touch MARK'), r'(posix|nt)\.system'),
        (Call(eval, '1'), r'(builtins|__builtin__)\.eval'),
        (Call(getattr, 'x', 'upper'), r'(builtins|__builtin__)\.getattr'),
        (Call(np.load, 'x'), r'numpy\.load'),
        (np.array([None, {}], dtype=object), r'numpy\.dtype\(O8\)'),
        (np.zeros(1, dtype=[('x', 'f8')]), r'numpy\.dtype\(V8\)'),
        (argparse.Namespace(lr=1), r'argparse\.Namespace'),
        (torch.ones(2, dtype=torch.int8).to_sparse(), r'torch\._utils\._rebuild_sparse_tensor'),
        (Call(torch.storage._load_from_bytes, malicious_storage()), r'(posix|nt)\.system'),
    ],
)
def test_other_globals_in_pickles_are_named_in_the_error(
    tmp_path: Path, contents: Any, named: str, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = plain_pickle(tmp_path, {'model': {'a': ARRAYS[0], 'x': contents}}, protocol)
    assert re.search(f'is rejected: reading it would need {named}, ', error_message(path))
    assert os.listdir(tmp_path) == ['file.pkl']


def test_a_pickle_cannot_modify_the_replacement_classes(tmp_path: Path) -> None:
    """A pickle can set attributes of any object that it names, here of the replacement for numpy.dtype."""
    for name in (b'numpy\ndtype', b'numpy\nndarray', b'numpy._core.multiarray\n_reconstruct', b'_codecs\nencode'):
        code = b'\x80\x02c' + name + b'\nN}X\x0c\x00\x00\x00__setstate__Ns\x86b.'
        error_message(plain_pickle(tmp_path, code))
    assert PlainDtype.__setstate__ is not None
    assert np.array_equal(read_checkpoint(plain_pickle(tmp_path, {'a': ARRAYS[4]}))['a'], ARRAYS[4])


@pytest.mark.parametrize('part', [0.1, 0.9, 0.999])
def test_incomplete_pickles_are_reported(tmp_path: Path, part: float) -> None:
    whole = pickle.dumps({'a': np.ones(500)})
    assert 'damaged or incomplete' in error_message(plain_pickle(tmp_path, whole[: int(len(whole) * part)]))


def test_npz_files_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / 'a.npz', x=ARRAYS[0])
    assert np.array_equal(read_checkpoint(tmp_path / 'a.npz')['x'], ARRAYS[0])
    np.savez(tmp_path / 'b.npz', x=np.array([None, {}], dtype=object))
    assert 'contains more than numbers' in error_message(tmp_path / 'b.npz')


def shard(folder: Path, number: int, name: str) -> str:
    file = f'model-{number:05}-of-00002.safetensors'
    save_file({name: torch.ones(1)}, folder / file)
    return file


def index_of(folder: Path, weight_map: Any) -> Path:
    path = folder / 'model.safetensors.index.json'
    path.write_text(json.dumps({'weight_map': weight_map}))
    return path


def test_missing_and_incomplete_shards_are_reported(tmp_path: Path) -> None:
    first = shard(tmp_path, 1, 'a')
    second = first.replace('00001', '00002')
    assert f'needs 2 files, and 1 of them are missing: {second}' in error_message(tmp_path)
    assert f'is one of 2 shards: give the folder {tmp_path}' in error_message(tmp_path / first)
    index = index_of(tmp_path, {'a': first, 'b': second})
    assert second in error_message(index)
    shard(tmp_path, 2, 'c')
    message = 'does not contain 1 tensors that the index lists for it, such as b'
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path)
    shard(tmp_path, 2, 'b')
    assert set(read_checkpoint(index)) == set(read_checkpoint(tmp_path)) == {'a', 'b'}


@pytest.mark.parametrize('place', ['../a.safetensors', '/etc/passwd'])
def test_shards_outside_the_folder_of_the_index_are_an_error(tmp_path: Path, place: str) -> None:
    assert 'expected names of files in the same folder' in error_message(index_of(tmp_path, {'a': place}))


@pytest.mark.parametrize('weight_map', [[], {'a': 1}, 'x'])
def test_json_files_that_are_not_an_index_are_described_as_text(tmp_path: Path, weight_map: Any) -> None:
    assert 'a text file' in error_message(index_of(tmp_path, weight_map))


def test_folders_without_weights_and_missing_files_are_reported(tmp_path: Path) -> None:
    assert 'is a folder: expected a .pth' in error_message(tmp_path)
    saved(tmp_path, WEIGHTS)
    assert f'give a file in it, such as {tmp_path / "file.pth"}' in error_message(tmp_path)
    assert 'does not exist' in error_message(tmp_path / 'none.pth')
