"""Large archives from the network: resumed after a break, checked, and unpacked only as a whole."""

import hashlib
import os
import shutil
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from swin_backbone.errors import InputError
from swin_backbone.progress import Progress, in_bytes

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
HTTP_PARTIAL = 206
HTTP_BEYOND_END = 416


@dataclass(frozen=True)
class Archive:
    """A zip file that is published.

    Attributes:
        url: where.
        digest: algorithm and hexadecimal value, ``md5:…``, as others have published it; empty where nobody has, and
            only the archive's own checksums tell, while it is unpacked.
        strip: leading folders of its members that are left out.
    """

    url: str
    digest: str
    strip: int = 0

    @property
    def name(self) -> str:
        """Its file name."""
        return PurePosixPath(self.url).name


def download(archive: Archive, folder: Path) -> Path:
    """Fetch an archive into ``folder``, going on where an earlier call broke off.

    The file is called ``….part`` until it is whole and its checksum is right.

    Raises:
        InputError: the server cannot be reached, or what came is not what was published.
    """
    target = folder / archive.name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + '.part')
    try:
        receive(archive.url, part)
    except (OSError, HTTPException) as error:
        reason = getattr(error, 'reason', None) or error
        raise InputError(
            f'{archive.url} broke off or cannot be reached ({reason}): run the same command again, it goes on from '
            f'{in_bytes(size_of(part))}, or fetch the file by other means and put it at {target}.'
        ) from error
    check_digest(part, archive)
    os.replace(part, target)
    return target


def size_of(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def receive(url: str, part: Path) -> None:
    """Append what is missing of ``url`` to ``part``."""
    have = size_of(part)
    headers = {'User-Agent': 'swin-backbone', **({'Range': f'bytes={have}-'} if have else {})}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if have and error.code == HTTP_BEYOND_END:
            return
        raise
    with answer:
        # A server that knows no ranges sends everything again.
        have = have if answer.status == HTTP_PARTIAL else 0
        whole = have + int(answer.headers.get('Content-Length') or 0)
        with part.open('ab' if have else 'wb') as file:
            copy_with_progress(answer, file, Progress(PurePosixPath(url).name, whole, have, in_bytes))
    if whole > have and size_of(part) < whole:
        raise OSError(f'{size_of(part):,} of {whole:,} bytes came')


def copy_with_progress(source: Any, target: Any, progress: Progress) -> None:
    """Copy a stream to its end."""
    with progress:
        while chunk := source.read(CHUNK):
            target.write(chunk)
            progress.advance(len(chunk))


def check_digest(part: Path, archive: Archive) -> None:
    """Refuse, and remove, a file that is not the one published."""
    if not archive.digest:
        return
    algorithm, _, expected = archive.digest.partition(':')
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with part.open('rb') as file, Progress(f'checking {archive.name}', size_of(part), 0, in_bytes) as progress:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            progress.advance(len(chunk))
    if digest.hexdigest() != expected:
        part.unlink()
        raise InputError(
            f'{archive.url} came with another {algorithm} checksum than published ({digest.hexdigest()} in place of '
            f'{expected}) and was removed: run the same command again, from another network if it happens twice.'
        )


def unpack(path: Path, root: Path, strip: int = 0) -> None:
    """Unpack a zip file under ``root``: beside it first, then each file or folder that is new to its place.

    Args:
        path: the archive.
        root: where its members go.
        strip: leading folders of the members that are left out.

    Raises:
        InputError: the archive is damaged.
    """
    scratch = root / f'.unpacking-{path.stem}'
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            with Progress(f'unpacking {path.name}', len(members)) as progress:
                for member in members:
                    extract(archive, member, scratch, strip)
                    progress.advance()
        move_into(scratch, root)
    except zipfile.BadZipFile as error:
        raise InputError(f'{path} is damaged ({error}): delete it and run the same command again.') from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, strip: int) -> None:
    """Write one member under ``folder``; a name that leads out of it, or that is stripped away, is passed over."""
    name = PurePosixPath(member.filename)
    parts = name.parts[strip:]
    if not parts or name.is_absolute() or '..' in name.parts:
        return
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open('wb') as file:
        shutil.copyfileobj(source, file, CHUNK)


def move_into(source: Path, target: Path) -> None:
    """Move what lies in ``source`` to ``target``; folders that both have are merged, files are replaced."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        place = target / path.name
        if path.is_dir() and place.is_dir():
            move_into(path, place)
        else:
            os.replace(path, place)
