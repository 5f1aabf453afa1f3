"""ADE20K in the form of the scene parsing challenge (SceneParse150): where it is published, and whether it is there."""

from pathlib import Path

import numpy as np

from swin_backbone.datasets.checks import Piece, look_for_folder, picture_names
from swin_backbone.datasets.download import Archive

SERVER = 'http://data.csail.mit.edu/places/ADEchallenge'
ARCHIVES = {
    'trainval': Archive(f'{SERVER}/ADEChallengeData2016.zip', 'md5:7328b3957e407ddae1d3cbf487f149ef', strip=1),
    # Unpacks to release_test/testing; the first folder gives way to images/.
    'test': Archive(f'{SERVER}/release_test.zip', 'sha1:e05747892219d10e9243933371a497e905a4860c', strip=1),
}
SPLITS = {'training': 20_210, 'validation': 2_000}
TEST_PICTURES = 3_352
CLASSES = 150


def check_ade20k(root: Path) -> list[Piece]:
    """The pieces of ADE20K under ``root``, pictures against label maps by name, and the labels of the first maps."""
    pieces = []
    for split, published in SPLITS.items():
        pictures = Piece(f'images/{split}', split, ARCHIVES['trainval'], published={'pictures': published})
        maps = Piece(f'annotations/{split}', split, ARCHIVES['trainval'], published={'label maps': published})
        held, labelled = picture_names(root / pictures.path), picture_names(root / maps.path, ('.png',))
        look_for_folder(root, pictures)
        look_for_folder(root, maps)
        pictures.counts, maps.counts = {'pictures': len(held)}, {'label maps': len(labelled)}
        if pictures.present and maps.present:
            stems = {Path(name).stem for name in held}
            maps.missing = sorted(f'{stem}.png' for stem in stems - {Path(name).stem for name in labelled})
            pictures.missing = sorted(f'{Path(name).stem}.jpg' for name in labelled if Path(name).stem not in stems)
            check_labels(root / maps.path, sorted(labelled), maps)
        pieces += [pictures, maps]
    return [*pieces, check_test(root)]


def check_labels(folder: Path, names: list[str], piece: Piece, sample: int = 50) -> None:
    """Open the first label maps: one grey channel, 0 for none and 1 to 150 for the classes."""
    try:
        from PIL import Image
    except ImportError:
        return
    for name in names[:sample]:
        with Image.open(folder / name) as label_map:
            if label_map.mode not in ('L', 'P', 'I'):
                piece.wrong.append(f'holds {name} with colours in place of class numbers')
                return
            greatest = int(np.asarray(label_map).max())
        if greatest > CLASSES:
            piece.wrong.append(f'holds {name} with class {greatest}, where the last is {CLASSES}')
            return


def check_test(root: Path) -> Piece:
    """The pictures for the challenge's server, which nobody needs for training."""
    piece = Piece(
        'images/testing',
        'swin-backbone test --format-only',
        ARCHIVES['test'],
        part='test',
        published={'pictures': TEST_PICTURES},
    )
    look_for_folder(root, piece)
    piece.counts = {'pictures': len(picture_names(root / piece.path))}
    return piece
