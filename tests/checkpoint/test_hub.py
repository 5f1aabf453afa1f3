"""Weights on the Hugging Face Hub and pretrained weights of timm, with a local HTTP server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from swin_backbone import load_pretrained
from swin_backbone.checkpoint import hub
from swin_backbone.checkpoint.find import find_file, is_remote
from swin_backbone.errors import InputError
from tests.helpers import tiny_backbone

COMMIT = '0123456789' * 4


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    return tmp_path / 'home' / 'hub' / 'checkpoints'


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A server of repositories: ``files`` by path, and the paths that were ``requested``."""
    constants = pytest.importorskip('huggingface_hub.constants')
    known = SimpleNamespace(files={}, requested=[])

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            known.requested.append(self.path)
            content = known.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header('X-Repo-Commit', COMMIT)
            if content is None:
                self.send_header('X-Error-Code', 'EntryNotFound')
            self.send_header('ETag', f'"{abs(hash(self.path))}"')
            self.send_header('Content-Length', str(len(content or b'')))
            self.end_headers()
            if body and content is not None:
                self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{httpd.server_port}'
    monkeypatch.setattr(constants, 'ENDPOINT', address)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', address + '/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hf'))
    yield known
    httpd.shutdown()
    httpd.server_close()


def safetensors(state: dict[str, Tensor], folder: Path) -> bytes:
    save_file(state, folder / 'made.safetensors')
    return (folder / 'made.safetensors').read_bytes()


@pytest.mark.parametrize(
    ('source', 'address'),
    [
        ('hf-hub:owner/swin', '/owner/swin/resolve/main/model.safetensors'),
        ('hf-hub:owner/swin@v2', '/owner/swin/resolve/v2/model.safetensors'),
        ('timm/swin_x', '/timm/swin_x/resolve/main/model.safetensors'),
        ('hf-hub:owner/old', '/owner/old/resolve/main/pytorch_model.bin'),
    ],
)
def test_weights_are_downloaded_once(source: str, address: str, server: SimpleNamespace, tmp_path: Path) -> None:
    made, model = tiny_backbone(), tiny_backbone()
    if address.endswith('.bin'):
        torch.save(made.state_dict(), tmp_path / 'made.bin')
        server.files[address] = (tmp_path / 'made.bin').read_bytes()
    else:
        server.files[address] = safetensors(made.state_dict(), tmp_path)
    assert load_pretrained(model, source).complete and torch.equal(model.norm0.bias, made.norm0.bias)
    assert address in server.requested
    server.requested.clear()
    assert load_pretrained(tiny_backbone(), source).complete and not server.requested


def test_all_shards_are_downloaded(server: SimpleNamespace, tmp_path: Path) -> None:
    state, start = tiny_backbone().state_dict(), '/owner/large/resolve/main/'
    names = list(state)
    halves = {'model-00001-of-00002.safetensors': names[:50], 'model-00002-of-00002.safetensors': names[50:]}
    for file, part in halves.items():
        server.files[start + file] = safetensors({name: state[name] for name in part}, tmp_path)
    listed = {name: file for file, part in halves.items() for name in part}
    server.files[f'{start}model.safetensors.index.json'] = json.dumps({'weight_map': listed}).encode()
    model = tiny_backbone()
    assert load_pretrained(model, 'hf-hub:owner/large').complete
    assert torch.equal(model.norm3.bias, state['norm3.bias'])


def test_weights_can_be_copied_to_the_folder_named_in_the_offline_error(
    server: SimpleNamespace, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    made, place = tiny_backbone(), cache / 'owner--swin@v2'
    with pytest.raises(InputError, match='cannot download hf-hub:owner/swin') as error:
        load_pretrained(tiny_backbone(), 'hf-hub:owner/swin@v2')
    url = 'https://huggingface.co/owner/swin/resolve/v2/model.safetensors'
    assert f'download {url} elsewhere' in str(error.value) and str(error.value).endswith(f'put it into {place}.')
    assert '\n' not in str(error.value)
    place.mkdir(parents=True)
    (place / 'model.safetensors').write_bytes(safetensors(made.state_dict(), tmp_path))
    assert load_pretrained(tiny_backbone(), 'hf-hub:owner/swin@v2').complete


def test_repositories_without_weights_are_reported(server: SimpleNamespace) -> None:
    with pytest.raises(InputError, match=r'hf-hub:owner/empty has no weights: expected one of model\.safetensors'):
        find_file('hf-hub:owner/empty')
    with pytest.raises(InputError, match=r'hf-hub:swin is no repository .*write hf-hub:OWNER/NAME\[@REVISION\]'):
        find_file('hf-hub:swin')


def test_missing_huggingface_hub_is_reported_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, 'find_spec', lambda name: None)
    with pytest.raises(
        InputError, match=r'needs the package huggingface_hub: run pip install huggingface_hub, or down'
    ):
        find_file('hf-hub:owner/swin')
    with pytest.raises(InputError, match='is neither a file nor a published name'):
        find_file('swin_tiny_patch4_window7_224')


def test_timm_model_names_are_resolved_to_its_weights(server: SimpleNamespace, tmp_path: Path) -> None:
    pytest.importorskip('timm')
    address = '/timm/swin_tiny_patch4_window7_224.ms_in1k/resolve/main/model.safetensors'
    server.files[address] = safetensors(tiny_backbone().state_dict(), tmp_path)
    assert find_file('swin_tiny_patch4_window7_224.ms_in1k').name == 'model.safetensors'
    with pytest.raises(InputError, match=r"timm has no weights 'swin_tiny_patch4_window7_224\.none'"):
        find_file('swin_tiny_patch4_window7_224.none')


@pytest.mark.parametrize(
    ('source', 'remote'),
    [
        ('swin_t_in1k', True),
        ('https://host/swin.pth', True),
        ('hf-hub:owner/swin', True),
        ('timm/swin_x', True),
        ('swin_tiny_patch4_window7_224.ms_in1k', True),
        ('swin.pth', False),
        ('folder/swin', False),
        ('timm/swin.pth', False),
    ],
)
def test_is_remote_distinguishes_names_from_paths(source: str, remote: bool) -> None:
    assert is_remote(source) is remote


def test_an_existing_folder_takes_priority_over_a_timm_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'timm' / 'swin_x').mkdir(parents=True)
    assert not is_remote('timm/swin_x') and find_file('timm/swin_x') == Path('timm/swin_x')
