"""Finding checkpoints by name, path or URL, and downloads, which are complete and verified or deleted."""

import hashlib
import io
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_backbone import VARIANTS, load_pretrained
from swin_backbone.checkpoint import find as download
from swin_backbone.checkpoint import published as weights
from swin_backbone.checkpoint.published import WEIGHTS, Weights
from swin_backbone.errors import InputError
from swin_backbone.files import installed_configs
from swin_backbone.variants import MIXERS, VIDEOS
from tests.conftest import REPOSITORY
from tests.helpers import tiny_backbone


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    return tmp_path / 'home' / 'hub' / 'checkpoints'


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that adds a file to the published weights."""

    def publish(contents: bytes, **known: Any) -> str:
        (tmp_path / 'v9').mkdir(exist_ok=True)
        (tmp_path / 'v9' / 'swin.pth').write_bytes(contents)
        monkeypatch.setattr(weights, 'RELEASES', f'file://{tmp_path}')
        monkeypatch.setitem(WEIGHTS, 'swin_x', Weights('v9/swin.pth', 'tiny', **known))
        return 'swin_x'

    return publish


def test_a_published_name_is_downloaded_once(published: Callable[..., str], cache: Path, tmp_path: Path) -> None:
    source, model = tiny_backbone(), tiny_backbone()
    buffer = io.BytesIO()
    torch.save(source.state_dict(), buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    name = published(buffer.getvalue(), size=len(buffer.getvalue()), digest=f'sha256:{digest}')
    report = load_pretrained(model, name)
    assert report.source == str(cache / 'swin.pth') and [path.name for path in cache.iterdir()] == ['swin.pth']
    assert torch.equal(model.norm0.bias, source.norm0.bias)
    (tmp_path / 'v9' / 'swin.pth').unlink()
    load_pretrained(tiny_backbone(), name)


@pytest.mark.parametrize(
    ('known', 'message'),
    [
        (dict(size=99), r'has 5 bytes, but the published file has 99, and was deleted'),
        (dict(digest='sha384:00'), r'does not have the sha384 hash of the published file, and was deleted'),
    ],
)
def test_a_download_with_wrong_size_or_hash_is_deleted(
    published: Callable[..., str], cache: Path, known: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        download.find_file(published(b'12345', **known))
    assert not list(cache.iterdir())


class ShortResponse(io.BytesIO):
    """A response that ends before its Content-Length."""

    headers = {'Content-Length': '1000'}  # noqa: RUF012


def test_a_truncated_download_is_kept_as_a_part_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, 'urlopen', lambda *_, **__: ShortResponse(b'short'))
    with pytest.raises(InputError, match='received 5 of 1,000 bytes'):
        download.find_file('https://host/swin.pth')
    assert [path.suffix for path in cache.iterdir()] == ['.part']


@pytest.mark.parametrize('error', [urllib.error.URLError('no route'), TimeoutError('timed out'), KeyboardInterrupt()])
def test_a_download_interrupted_before_the_first_byte_leaves_no_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    class Response(ShortResponse):
        def read(self, *_: Any) -> bytes:
            raise error

    monkeypatch.setattr(urllib.request, 'urlopen', lambda *_, **__: Response())
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        download.find_file('https://host/swin.pth')
    assert not list(cache.iterdir())


def test_files_of_the_same_name_are_cached_separately(cache: Path, tmp_path: Path) -> None:
    found = []
    for run in ('first', 'second'):
        (tmp_path / run).mkdir()
        (tmp_path / run / 'epoch_36.pth').write_text(run)
        found.append(download.find_file(f'file://{tmp_path}/{run}/epoch_36.pth'))
    assert [path.read_text() for path in found] == ['first', 'second']
    assert all(path.parent == cache and re.fullmatch(r'epoch_36-[0-9a-f]{8}\.pth', path.name) for path in found)
    assert download.find_file(f'file://{tmp_path}/first/epoch_36.pth') == found[0]


def test_the_offline_error_names_the_url_and_the_cache_path(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError('Name or service not known')

    monkeypatch.setattr(urllib.request, 'urlopen', offline)
    with pytest.raises(InputError) as error:
        load_pretrained(tiny_backbone(), 'swin_t_in1k')
    url = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
    assert str(error.value) == (
        f'cannot download {url} (Name or service not known): try again, or download it elsewhere and put it at '
        f'{cache / "swin_tiny_patch4_window7_224.pth"}.'
    )


def test_a_cached_file_of_the_wrong_size_is_an_error(cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / 'swin_tiny_patch4_window7_224.pth').write_bytes(b'half')
    with pytest.raises(InputError, match='has 4 bytes, but the published file has 114,342,173: delete it'):
        download.find_file('swin_t_in1k')


def test_unknown_sources_are_reported() -> None:
    with pytest.raises(
        InputError, match="'swin_t_in21k' is neither a file nor a published name: names are like swin_t_in"
    ):
        load_pretrained(tiny_backbone(), 'swin_t_in21k')
    with pytest.raises(InputError, match='use a path, a published name, or a URL'):
        load_pretrained(tiny_backbone(), 'open-mmlab://swin')
    with pytest.raises(InputError, match='does not exist'):
        load_pretrained(tiny_backbone(), 'folder/swin_t_in1k')


def test_a_tilde_in_a_path_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(tiny_backbone().state_dict(), tmp_path / 'swin.pth')
    assert load_pretrained(tiny_backbone(), '~/swin.pth').source == str(tmp_path / 'swin.pth')
    assert load_pretrained(tiny_backbone(), tmp_path / 'swin.pth').complete


def test_published_weights_are_consistent_with_their_file_names() -> None:
    assert len({entry.url for entry in WEIGHTS.values()}) == len(WEIGHTS)
    images = {name: entry for name, entry in WEIGHTS.items() if entry.network == 'SwinTransformer'}
    for name, entry in images.items():
        file = entry.release.rpartition('/')[2]
        known = entry.version in VARIANTS[entry.variant].versions and entry.variant.replace('-', '_') in file
        assert known or 'moby_swin_t' in file
        assert f'window{entry.window}' in file or f'to{entry.window}_' in file or 'moby_swin_t' in file
        assert ('swinv2' in name) == (entry.version == 2) == any(entry.pretrained_window_sizes)
        assert '_t' in name if entry.variant == 'tiny' else f'_{entry.variant[0]}_' in f'{name}_'
        assert not entry.image_size or entry.image_size == 512 or f'{entry.image_size}' in file or 'moby' in name


def test_published_mixer_and_video_weights_are_consistent_with_their_file_names() -> None:
    sizes = {'SwinMixer': MIXERS, 'VideoSwinTransformer': VIDEOS}
    others = [entry for entry in WEIGHTS.values() if entry.network != 'SwinTransformer']
    assert len(others) == 10
    for entry in others:
        file, known = entry.release.rpartition('/')[2], sizes[entry.network][entry.variant]
        assert entry.variant in file and str(entry.image_size if entry.network == 'SwinMixer' else 'patch244') in file
        assert f'window{entry.window}' in file if known.window else 'window877' in file or 'window1677' in file


def test_published_whole_models_have_a_config_and_scores() -> None:
    whole = {name: entry for name, entry in WEIGHTS.items() if entry.scores}
    assert len(whole) == 17 and [name for name in whole if not whole[name].config] == ['mask_reppoints_v2_swin_t_3x']
    configs = {name.partition('/')[2] for name in installed_configs()}
    for name, entry in whole.items():
        assert not entry.config or entry.config in configs & {name, name.removeprefix('moby_')}
        assert entry.images == (5000 if 'bbox_mAP' in entry.scores else 2000)
        assert ('segm_mAP' in entry.scores) == ('rcnn' in entry.release or 'mask' in name)
        assert bool(entry.tta_scores) == ('upernet' in name)
    assert WEIGHTS['cascade_swin_t_3x'].fractions(views=1) == {'bbox_mAP': 0.504, 'segm_mAP': 0.437}
    assert WEIGHTS['cascade_swin_t_3x'].fractions(views=8) == {}
    assert WEIGHTS['upernet_swin_s_160k'].fractions(views=12) == {'mIoU': 0.4947}


def test_released_for_finds_the_weights_of_a_config() -> None:
    for config in ('cascade_swin_t_3x', 'configs/detection/cascade_swin_t_3x.py'):
        assert weights.released_for(config) == 'cascade_swin_t_3x'
    for config in ('atss_swin_t_3x', 'moby_cascade_swin_t_3x', 'mask_reppoints_v2_swin_t_3x'):
        with pytest.raises(
            InputError, match=rf'no whole model for {config}; they did for mask_rcnn_swin_t_1x, .*160k\.$'
        ):
            weights.released_for(config)


def test_the_documentation_lists_every_published_name() -> None:
    text = (REPOSITORY / 'docs' / 'published_weights.md').read_text()
    for name, entry in WEIGHTS.items():
        assert f'| `{name}` |' in text and entry.url in text
