"""Downloads from a server on this machine: resumed, checked, unpacked as a whole."""

import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from swin_backbone.datasets.download import Archive, download, unpack
from swin_backbone.errors import InputError
from swin_backbone.progress import Progress, in_bytes


class Server:
    """Serves one file, and can be told to break off or to know no ranges.

    Attributes:
        content: the file.
        ranges: whether parts of it can be asked for.
        breaks_after: bytes of an answer after which the connection ends, or None.
        asked: the ranges asked for, None for the whole file.
    """

    def __init__(self) -> None:
        self.content = bytes(range(256)) * 20_000
        self.ranges = True
        self.breaks_after: int | None = None
        self.asked: list[str | None] = []
        state = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                state.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.http.server_address[1]}/some/set.zip'

    def archive(self, strip: int = 0) -> Archive:
        return Archive(self.url, f'md5:{hashlib.md5(self.content).hexdigest()}', strip)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get('Range')
        self.asked.append(wanted)
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


def test_a_file_is_fetched_once_with_progress(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = download(server.archive(), tmp_path)
    assert path.read_bytes() == server.content and server.asked == [None]
    shown = capsys.readouterr().err
    assert 'set.zip [##############################] 5.1 MB of 5.1 MB' in shown and 'checking set.zip' in shown
    assert download(server.archive(), tmp_path) == path and server.asked == [None]
    assert [entry.name for entry in tmp_path.iterdir()] == ['set.zip']


def test_a_broken_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 3_000_000
    with pytest.raises(InputError, match=r'run the same command again, it goes on from 3\.0 MB'):
        download(server.archive(), tmp_path)
    assert (tmp_path / 'set.zip.part').stat().st_size == 3_000_000 and not (tmp_path / 'set.zip').exists()
    server.breaks_after = None
    assert download(server.archive(), tmp_path).read_bytes() == server.content
    assert server.asked == [None, 'bytes=3000000-']


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'set.zip.part').write_bytes(server.content[:1000])
    server.ranges = False
    assert download(server.archive(), tmp_path).read_bytes() == server.content


def test_a_part_that_is_whole_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / 'set.zip.part').write_bytes(server.content)
    assert download(server.archive(), tmp_path).read_bytes() == server.content


def test_a_wrong_checksum_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match='another sha1 checksum than published'):
        download(Archive(server.url, 'sha1:' + '0' * 40), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_server_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(InputError, match='cannot be reached'):
        download(server.archive(), tmp_path)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_archives_unpack_into_what_is_there_and_nowhere_else(tmp_path: Path) -> None:
    root, path = tmp_path / 'root', tmp_path / 'set.zip'
    (root / 'images').mkdir(parents=True)
    (root / 'images' / 'old.jpg').write_bytes(b'old')
    path.write_bytes(
        zipped({'top/images/new.jpg': b'new', 'top/list.txt': b'x', '../../out.txt': b'bad', '/abs': b'bad'})
    )
    unpack(path, root, strip=1)
    files = sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob('*') if entry.is_file())
    assert files == ['root/images/new.jpg', 'root/images/old.jpg', 'root/list.txt', 'set.zip']


def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    root, path = tmp_path / 'root', tmp_path / 'set.zip'
    content = zipped({'a.txt': b'first' * 100, 'b.txt': b'second' * 100})
    path.write_bytes(content.replace(b'second', b'secomd', 1))
    with pytest.raises(InputError, match='is damaged'):
        unpack(path, root)
    assert not root.exists() or list(root.iterdir()) == []


def test_progress_says_how_much_is_done() -> None:
    stream = io.StringIO()
    with Progress('work', 4, unit=in_bytes, stream=stream) as progress:
        progress.advance(2)
        assert progress.line() == 'work [###############               ] 2 B of 4 B'
        progress.advance(2)
    assert stream.getvalue().count('\n') == 2
    assert [in_bytes(count) for count in (999, 1500, 2.5e6, 19.3e9)] == ['999 B', '1.5 kB', '2.5 MB', '19.3 GB']
    assert Progress('work', 0, stream=stream).line() == 'work  0'
