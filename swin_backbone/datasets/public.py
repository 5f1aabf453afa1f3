"""COCO 2017 and ADE20K: check a folder against the published data set, and download missing files.

The hashes are those listed by several public projects for these files.
"""

import shlex
import shutil
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from swin_backbone.datasets.coco_check import check_annotations
from swin_backbone.datasets.coco_files import SAMPLED_IMAGES
from swin_backbone.datasets.image_check import check_images, sampled
from swin_backbone.datasets.label_map_check import check_maps
from swin_backbone.datasets.problems import Findings
from swin_backbone.errors import InputError
from swin_backbone.files import CHUNK, download, progress_bar

DOWNLOADS = '.downloads'
NAMED = 5  # number of missing files of a piece that are listed by name
SUBMISSION = 'swin-backbone test --format-only'
ADE20K_CLASSES = 150
SAMPLE = 50  # number of images and label maps of a folder that are opened without --check


@dataclass(frozen=True)
class Archive:
    """A published zip file.

    Attributes:
        url: URL of the file.
        digest: hash as ``algorithm:hexadecimal``; empty if none is published.
        folder: folder to unpack into, relative to the root of the data set.
        strip: number of leading folders to remove from the names of its members.
    """

    url: str
    digest: str = ''
    folder: str = ''
    strip: int = 0

    @property
    def name(self) -> str:
        """File name."""
        return PurePosixPath(self.url).name


COCO_SERVER = 'http://images.cocodataset.org'
COCO_ARCHIVES = {
    'train2017': Archive(f'{COCO_SERVER}/zips/train2017.zip', 'md5:cced6f7f71b7629ddf16f17bbcfab6b2'),
    'val2017': Archive(f'{COCO_SERVER}/zips/val2017.zip', 'md5:442b8da7639aecaf257c1dceb8ba8c80'),
    'annotations': Archive(
        f'{COCO_SERVER}/annotations/annotations_trainval2017.zip', 'md5:f4bbac642086de4f52a3fdda2de5fa2c'
    ),
    'test2017': Archive(f'{COCO_SERVER}/zips/test2017.zip', 'md5:77ad2c53ac5d0aea611d422c0938fb35'),
    'test_info': Archive(f'{COCO_SERVER}/annotations/image_info_test2017.zip', 'md5:85da7065e5e600ebfee8af1edb634eb5'),
    'stuff': Archive(
        'http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip',
        folder='stuffthingmaps',
    ),
}
ADE20K_SERVER = 'http://data.csail.mit.edu/places/ADEchallenge'
ADE20K_ARCHIVES = {
    'trainval': Archive(f'{ADE20K_SERVER}/ADEChallengeData2016.zip', 'md5:7328b3957e407ddae1d3cbf487f149ef', strip=1),
    # Its members are release_test/testing/*.jpg.
    'test': Archive(
        f'{ADE20K_SERVER}/release_test.zip', 'sha1:e05747892219d10e9243933371a497e905a4860c', 'images', strip=1
    ),
}


@dataclass
class Piece:
    """A folder or an annotation file of a data set, with the result of its check.

    Attributes:
        path: path relative to the root.
        purpose: what it is needed for.
        archive: the archive that contains it.
        published: numbers of entries in the published data set, such as 'images'.
        part: the optional part of the data set; empty if training and validation need it.
        present: whether it exists.
        counts: numbers of entries found.
        missing: names of missing files.
        wrong: other problems, a clause each.
        notes: remarks that may be intended, a line each.
    """

    path: str
    purpose: str
    archive: Archive
    published: dict[str, int]
    part: str = ''
    present: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing of it is missing or wrong."""
        return self.present and not self.missing and not self.wrong

    def report(self) -> list[str]:
        """Return a line for its contents and one for each problem."""
        if not self.present:
            state = ', '.join(f'WRONG: {clause}' for clause in self.wrong)
            return [f'  {self.path}: {state or ("absent" if self.part else "MISSING")}, for {self.purpose}']
        less = [f'{count:,} {name}' for name, count in self.published.items() if self.counts.get(name, 0) < count]
        note = f' (a subset: the published one has {", ".join(less)})' if less else ''
        lines = [f'  {self.path}: {", ".join(f"{count:,} {name}" for name, count in self.counts.items())}{note}']
        lines += [f'    WRONG: {clause}' for clause in self.wrong]
        lines += [f'    note: {note}' for note in self.notes]
        if self.missing:
            more = f' and {len(self.missing) - NAMED:,} more' if len(self.missing) > NAMED else ''
            lines.append(f'    MISSING: {", ".join(self.missing[:NAMED])}{more}')
        return lines

    def problems(self) -> list[str]:
        """Return the problems that prevent the use of the data set, a clause each."""
        if self.part and not self.present:
            return []
        clauses = [f'{self.path} {clause}' for clause in self.wrong]
        if self.missing:
            clauses.insert(0, f'{self.path} is missing {len(self.missing):,} files, the first is {self.missing[0]}')
        return clauses if self.present or clauses else [f'{self.path} is missing']


def check_coco(root: Path, full: bool = False) -> list[Piece]:
    """Check the annotations, images and counts of COCO 2017; with ``full``, read all images completely."""
    pieces = []
    for split, purpose, images, instances in (
        ('train', 'training', 118_287, 860_001),
        ('val', 'validation', 5_000, 36_781),
    ):
        counts = {'images': images, 'instances': instances}
        file = Piece(f'annotations/instances_{split}2017.json', purpose, COCO_ARCHIVES['annotations'], counts)
        folder = Piece(f'{split}2017', purpose, COCO_ARCHIVES[f'{split}2017'], {'images': images})
        pieces += check_annotated_images(root, file, folder, full)
    stuff = Piece(
        'stuffthingmaps/train2017', 'the HTC configs', COCO_ARCHIVES['stuff'], {'label maps': 118_287}, 'stuff'
    )
    list_files(root, stuff, '.png')
    info, test = 'annotations/image_info_test-dev2017.json', 'test2017'
    file = Piece(info, SUBMISSION, COCO_ARCHIVES['test_info'], {'images': 20_288}, 'test')
    folder = Piece(test, SUBMISSION, COCO_ARCHIVES[test], {'images': 40_670}, 'test')
    return [*pieces, stuff, *check_annotated_images(root, file, folder, full)]


def check_annotated_images(root: Path, file: Piece, folder: Piece, full: bool) -> list[Piece]:
    """Check an annotation file in COCO's format and some of its images, or all of them if ``full``."""
    files_there, path = list_files(root, folder), root / file.path
    file.present = path.is_file()
    if file.present:
        try:
            found = check_annotations(path, masks=True, labelled=not file.part)
        except InputError as error:
            file.wrong.append(f'cannot be read as COCO annotations: {str(error).removesuffix(".")}')
            return [file, folder]
        file.counts = {'images': len(found.images), **({'instances': found.annotations} if found.annotations else {})}
        file.wrong += found.findings.clauses
        file.notes += found.findings.notes
        if folder.present:
            folder.missing = sorted({name for name, _, _ in found.images} - files_there)
            there = [one for one in found.images if one[0] in files_there]
            sample = there if full else sampled(there, SAMPLED_IMAGES)
            images = Findings(str(root / folder.path))
            files = [(str(root / folder.path / name), (width, height)) for name, width, height in sample]
            check_images(images, files, decode=full)
            folder.wrong += images.clauses
            folder.notes += images.notes
    return [file, folder]


def check_ade20k(root: Path, full: bool = False) -> list[Piece]:
    """Check ADE20K in the layout of the scene parsing challenge; with ``full``, read all images and label maps."""
    pieces, archive = [], ADE20K_ARCHIVES['trainval']
    for split, count in (('training', 20_210), ('validation', 2_000)):
        images = Piece(f'images/{split}', split, archive, {'images': count})
        maps = Piece(f'annotations/{split}', split, archive, {'label maps': count})
        image_stems = {Path(name).stem for name in list_files(root, images)}
        map_names = list_files(root, maps, '.png')
        if images.present and maps.present:
            map_stems = {Path(name).stem for name in map_names}
            maps.missing = sorted(f'{stem}.png' for stem in image_stems - map_stems)
            images.missing = sorted(f'{stem}.jpg' for stem in map_stems - image_stems)
            stems = sorted(image_stems & map_stems)
            check_labels(root, images, maps, stems if full else sampled(stems, SAMPLE), full)
        pieces += [images, maps]
    test = Piece('images/testing', SUBMISSION, ADE20K_ARCHIVES['test'], {'images': 3_352}, 'test')
    list_files(root, test)
    return [*pieces, test]


def check_labels(root: Path, images: Piece, maps: Piece, stems: Sequence[str], full: bool) -> None:
    """Check images, and that label maps have one channel, the size of their image, and labels 0 (none) to 150."""
    for piece, ending in ((images, '.jpg'), (maps, '.png')):
        found = Findings(str(root / piece.path))
        paths = [str(root / piece.path / f'{stem}{ending}') for stem in stems]
        if piece is images:
            check_images(found, [(path, None) for path in paths], decode=full)
        else:
            pairs = [(str(root / images.path / f'{stem}.jpg'), path) for stem, path in zip(stems, paths, strict=True)]
            check_maps(found, pairs, ADE20K_CLASSES, f'the classes of ADE20K have the labels 1 to {ADE20K_CLASSES}')
        piece.wrong += found.clauses
        piece.notes += found.notes


def list_files(root: Path, piece: Piece, ending: str = '.jpg') -> set[str]:
    """Return the images or label maps of a folder; set whether it exists and their number in ``piece``."""
    folder = root / piece.path
    piece.present = folder.is_dir()
    if folder.is_file():
        piece.wrong.append('is a file instead of a folder (was a link lost in copying?)')
    names = {path.name for path in folder.iterdir() if path.suffix.lower() == ending} if piece.present else set()
    piece.counts = {next(iter(piece.published)): len(names)}
    return names


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes:
        root: its folder in the configs.
        check: function that checks its pieces under a root.
        config: the config to suggest for training.
        parts: optional parts.
    """

    root: str
    check: Callable[[Path, bool], list[Piece]]
    config: str
    parts: tuple[str, ...]


DATA_SETS = {
    'coco': DataSet('data/coco', check_coco, 'cascade_swin_t_3x', ('test', 'stuff')),
    'ade20k': DataSet('data/ade/ADEChallengeData2016', check_ade20k, 'upernet_swin_t_160k', ('test',)),
}


class IncompleteError(InputError):
    """Raised if something that training needs is missing from a data set.

    Attributes:
        lines: the report on every piece.
    """

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = list(lines)


def prepare(name: str, root: Path, fetch: bool = False, parts: Collection[str] = (), full: bool = False) -> list[str]:
    """Check a data set; with ``fetch``, download missing files first.

    Args:
        name: a key of :data:`DATA_SETS`.
        root: its folder.
        fetch: whether to download.
        parts: optional parts to download as well.
        full: whether to read all images and label maps, instead of some.

    Returns:
        Lines of a report; the last one is the command to train on the data set.

    Raises:
        IncompleteError: if something that training needs is missing or wrong.
        InputError: if a download failed.
    """
    data_set = DATA_SETS[name]
    if fetch:
        for archive in missing_archives(data_set.check(root, False), parts):
            path = download(archive.url, root / DOWNLOADS / archive.name, digest=archive.digest)
            unpack(path, root / archive.folder, archive.strip)
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    pieces, where = data_set.check(root, full), shlex.quote(str(root))
    lines = [f'{root}:', *(line for piece in pieces for line in piece.report())]
    problems = [problem for piece in pieces for problem in piece.problems()]
    if problems:
        raise IncompleteError(
            f'{root} is not a complete {name} data set: {"; ".join(problems)}. Download missing files with '
            f'swin-backbone prepare-data {name} --root {where} --download.',
            lines,
        )
    return [*lines, 'complete; train on it with:', f'  swin-backbone train {data_set.config} --data-root {where}']


def missing_archives(pieces: Sequence[Piece], parts: Collection[str]) -> list[Archive]:
    """Return the distinct archives of incomplete pieces that training or one of ``parts`` needs."""
    wanted = [piece.archive for piece in pieces if not piece.complete and (not piece.part or piece.part in parts)]
    return list(dict.fromkeys(wanted))


def unpack(path: Path, root: Path, strip: int = 0) -> None:
    """Unpack a zip file to a temporary folder in ``root``, then move all files to ``root`` and merge existing folders.

    Members with paths outside the folder are skipped.

    Args:
        path: the zip file.
        root: folder to unpack into.
        strip: number of leading folders to remove from the names of the members.

    Raises:
        InputError: if the archive is damaged.
    """
    scratch = root / f'.unpacking-{path.stem}'
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            with progress_bar(f'unpacking {path.name}', len(members), unit=' files') as progress:
                for member in members:
                    name = PurePosixPath(member.filename)
                    if name.parts[strip:] and not name.is_absolute() and '..' not in name.parts:
                        target = scratch.joinpath(*name.parts[strip:])
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with archive.open(member) as source, target.open('wb') as file:
                            shutil.copyfileobj(source, file, CHUNK)
                    progress.update()
        for source_path in [entry for entry in scratch.rglob('*') if entry.is_file()]:
            target = root / source_path.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            source_path.replace(target)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f'{path} is damaged ({error}): delete it and run the same command again.') from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
