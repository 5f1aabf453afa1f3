"""Checking and downloading COCO and ADE20K."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest

pytest.importorskip('PIL.Image', reason='Pillow is not installed')

from swin_backbone.datasets.public import (
    COCO_ARCHIVES,
    Archive,
    IncompleteError,
    check_coco,
    missing_archives,
    prepare,
    unpack,
)
from swin_backbone.datasets.shapes import ShapesSpec, write_shapes
from swin_backbone.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A generated data set, which has the layouts of both."""
    folder = tmp_path / 'my data'
    write_shapes(folder, ShapesSpec(train_count=3, val_count=2))
    return folder


def test_a_complete_coco_is_counted_and_gives_the_training_command(root: Path) -> None:
    lines = prepare('coco', root)
    objects = len(json.loads((root / 'annotations/instances_train2017.json').read_text())['annotations'])
    text = '\n'.join(lines)
    assert f'instances_train2017.json: 3 images, {objects} instances (a subset' in text
    assert 'val2017: 2 images' in text
    assert lines[-1] == (f"  swin-backbone train cascade_swin_t_3x --data-root '{root}'")


def test_a_complete_ade20k_is_counted_and_gives_the_training_command(root: Path) -> None:
    text = '\n'.join(prepare('ade20k', root))
    assert 'images/training: 3 images' in text and 'annotations/validation: 2 label maps' in text
    assert 'upernet_swin_t_160k --data-root' in text


def test_missing_files_of_coco_are_listed(root: Path) -> None:
    (root / 'train2017' / '000000000002.jpg').unlink()
    (root / 'annotations' / 'instances_val2017.json').unlink()
    with pytest.raises(IncompleteError) as caught:
        prepare('coco', root)
    sentence = str(caught.value)
    assert 'train2017 is missing 1 files, the first is 000000000002.jpg' in sentence
    assert 'annotations/instances_val2017.json is missing' in sentence and '--download' in sentence
    assert any('MISSING: 000000000002.jpg' in line for line in caught.value.lines)
    wanted = [archive.name for archive in missing_archives(check_coco(root), ())]
    assert wanted == ['train2017.zip', 'annotations_trainval2017.zip']
    extras = [archive.name for archive in missing_archives(check_coco(root), ('test', 'stuff'))]
    assert extras[2:] == ['stuffthingmaps_trainval2017.zip', 'image_info_test2017.zip', 'test2017.zip']


@pytest.mark.parametrize(
    ('content', 'clause'),
    [
        ('{"images": [', 'cannot be read as COCO annotations'),
        ('{"annotations": []}', 'cannot be read as COCO annotations'),
        ('{"images": [{"id": 1}], "annotations": [], "categories": [{}]}', 'has 1 image without file_name'),
        (
            '{"images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],'
            ' "categories": [{"id": 1, "name": "a"}],'
            ' "annotations": [{"image_id": 7, "category_id": 1, "bbox": [1, 1, 2, 2]}]}',
            'has 1 annotation with an unknown image_id',
        ),
    ],
)
def test_damaged_annotations_are_reported(root: Path, content: str, clause: str) -> None:
    (root / 'annotations' / 'instances_train2017.json').write_text(content)
    with pytest.raises(IncompleteError, match=clause):
        prepare('coco', root)


def test_missing_files_and_invalid_label_maps_of_ade20k_are_listed(root: Path) -> None:
    from PIL import Image

    (root / 'annotations/training/000000000001.png').unlink()
    (root / 'images/training/000000000002.jpg').unlink()
    label_map = next((root / 'annotations/validation').iterdir())
    Image.new('L', (4, 4), 151).save(label_map)
    with pytest.raises(IncompleteError) as caught:
        prepare('ade20k', root)
    sentence = str(caught.value)
    assert 'annotations/training is missing 1 files, the first is 000000000001.png' in sentence
    assert 'images/training is missing 1 files, the first is 000000000002.jpg' in sentence
    assert f'({label_map.name}: 4x4, its image 128x128)' in sentence
    assert f'labels beyond the classes ({label_map.name}: label 151): the classes of ADE20K have the labels' in sentence


def test_the_full_check_finds_truncated_images(root: Path) -> None:
    path = root / 'train2017/000000000002.jpg'
    path.write_bytes(path.read_bytes()[:-200])
    assert any('complete' in line for line in prepare('coco', root))
    for name in ('coco', 'ade20k'):
        with pytest.raises(IncompleteError, match=r'has 1 image that cannot be read \(000000000002\.jpg: cut off\)'):
            prepare(name, root, full=True)


def test_a_file_instead_of_a_folder_is_not_reported_as_missing(root: Path) -> None:
    shutil.rmtree(root / 'images' / 'training')
    (root / 'images' / 'training').write_text('../../photographs')
    with pytest.raises(IncompleteError, match='images/training is a file instead of a folder') as error:
        prepare('ade20k', root)
    assert 'images/training is missing' not in str(error.value)
    assert any('images/training: WRONG: is a file' in line for line in error.value.lines)


@pytest.mark.parametrize('name', ['coco', 'ade20k'])
def test_every_required_piece_is_missing_from_an_empty_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(IncompleteError) as caught:
        prepare(name, tmp_path)
    clauses = str(caught.value).partition('. Download')[0].split('; ')
    assert len(clauses) == 4 and all(clause.endswith(' is missing') for clause in clauses)


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_missing_and_optional_parts_are_downloaded(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {f'val2017/{path.name}': path.read_bytes() for path in (root / 'val2017').iterdir()}
    contents = {'val2017': images, 'stuff': {'train2017/1.png': b'map'}}
    for name, members in contents.items():
        path = tmp_path / f'{name}.zip'
        path.write_bytes(zipped(members))
        monkeypatch.setitem(COCO_ARCHIVES, name, Archive(f'file://{path}', folder=COCO_ARCHIVES[name].folder))
    shutil.rmtree(root / 'val2017')
    lines = prepare('coco', root, fetch=True, parts=['stuff'])
    assert sum(path.is_file() for path in (root / 'val2017').iterdir()) == len(images)
    assert any('stuffthingmaps/train2017: 1 label maps' in line for line in lines)
    assert not (root / '.downloads').exists()


def test_unpacking_merges_folders_and_skips_paths_outside(tmp_path: Path) -> None:
    root, path = tmp_path / 'root', tmp_path / 'set.zip'
    (root / 'images').mkdir(parents=True)
    (root / 'images' / 'old.jpg').write_bytes(b'old')
    path.write_bytes(
        zipped({'top/images/new.jpg': b'new', 'top/list.txt': b'x', '../../out.txt': b'bad', '/abs': b'bad'})
    )
    unpack(path, root, strip=1)
    files = sorted(str(entry.relative_to(tmp_path)) for entry in tmp_path.rglob('*') if entry.is_file())
    assert files == ['root/images/new.jpg', 'root/images/old.jpg', 'root/list.txt', 'set.zip']


def test_a_damaged_archive_leaves_no_files(tmp_path: Path) -> None:
    root, path = tmp_path / 'root', tmp_path / 'set.zip'
    content = zipped({'a.txt': b'first' * 100, 'b.txt': b'second' * 100})
    path.write_bytes(content.replace(b'second', b'secomd', 1))
    with pytest.raises(InputError, match='is damaged'):
        unpack(path, root)
    assert not root.exists() or list(root.iterdir()) == []
