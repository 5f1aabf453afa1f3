"""Downloads from a local server: they are resumed, checked, and stored only when complete."""

import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from swin_backbone.errors import InputError
from swin_backbone.files import download


class Server:
    """A server of one file, which can interrupt responses or ignore ranges.

    Attributes:
        content: the file.
        ranges: whether range requests are supported.
        breaks_after: number of bytes after which the connection is closed, or None.
        requests: the requested ranges, None for the whole file.
    """

    def __init__(self) -> None:
        self.content = bytes(range(256)) * 20_000
        self.ranges = True
        self.breaks_after: int | None = None
        self.requests: list[str | None] = []
        state = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                state.respond(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.http.server_address[1]}/some/set.zip'

    def fetch(self, target: Path) -> bytes:
        return download(self.url, target, digest=f'md5:{hashlib.md5(self.content).hexdigest()}').read_bytes()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get('Range')
        self.requests.append(wanted)
        found = re.match(r'bytes=(\d+)-$', wanted or '') if self.ranges else None
        start = int(found[1]) if found else 0
        if start and start >= len(self.content):
            request.send_error(416)
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        request.send_header('Content-Length', str(len(body)))
        request.end_headers()
        request.wfile.write(body if self.breaks_after is None else body[: self.breaks_after])


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    yield state
    state.http.shutdown()
    state.http.server_close()


def test_download_shows_progress_and_runs_once(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert server.fetch(tmp_path / 'set.zip') == server.content and server.requests == [None]
    shown = capsys.readouterr().err
    assert 'set.zip: 100%|' in shown and '5.12M/5.12M' in shown and 'checking set.zip' in shown
    assert server.fetch(tmp_path / 'set.zip') == server.content and server.requests == [None]
    assert [entry.name for entry in tmp_path.iterdir()] == ['set.zip']


def test_downloads_need_no_tqdm(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    assert server.fetch(tmp_path / 'set.zip') == server.content
    assert capsys.readouterr().err == ''


def test_interrupted_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 3_000_000
    with pytest.raises(
        InputError, match=r'\(received 3,000,000 of 5,120,000 bytes\): try again to resume after 3\.0 MB'
    ):
        server.fetch(tmp_path / 'set.zip')
    assert (tmp_path / 'set.zip.part').stat().st_size == 3_000_000 and not (tmp_path / 'set.zip').exists()
    server.breaks_after = None
    assert server.fetch(tmp_path / 'set.zip') == server.content
    assert server.requests == [None, 'bytes=3000000-']


def test_server_without_ranges_restarts_the_download(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'set.zip.part').write_bytes(server.content[:1000])
    server.ranges = False
    assert server.fetch(tmp_path / 'set.zip') == server.content


def test_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'set.zip.part').write_bytes(server.content)
    assert server.fetch(tmp_path / 'set.zip') == server.content and server.requests == ['bytes=5120000-']
    (tmp_path / 'other.zip.part').write_bytes(server.content)
    assert (
        download(server.url, tmp_path / 'other.zip', size=len(server.content)).is_file() and len(server.requests) == 1
    )


def test_concurrent_downloads_wait_for_the_first(server: Server, tmp_path: Path) -> None:
    target = tmp_path / 'set.zip'
    calls = [threading.Thread(target=download, args=(server.url, target)) for _ in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert server.requests == [None] and target.read_bytes() == server.content
    assert [entry.name for entry in tmp_path.iterdir()] == ['set.zip']


def test_wrong_hash_or_size_raises_input_error_and_deletes_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='does not have the sha1 hash of the published file, and was deleted'):
        download(server.url, tmp_path / 'set.zip', digest='sha1:' + '0' * 40)
    with pytest.raises(InputError, match=r'has 5,120,000 bytes, but the published file has 7, and was deleted'):
        download(server.url, tmp_path / 'set.zip', size=7)
    assert list(tmp_path.iterdir()) == []


def test_unreachable_server_raises_input_error(server: Server, tmp_path: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(InputError, match=r'cannot download http://\S+ \(.*refused\): try again, or'):
        download(server.url, tmp_path / 'set.zip')
    assert list(tmp_path.iterdir()) == []
