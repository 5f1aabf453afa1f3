"""Checks of classifier data: class folders and lists of labels."""

from pathlib import Path

import pytest

pytest.importorskip('mmpretrain', reason='MMPretrain is not installed')

from mmengine.config import Config
from PIL import Image

from swin_backbone.engine.class_folder_check import check_class_folders, reads_class_folders
from swin_backbone.engine.config import missing_data, write_defaults
from swin_backbone.engine.data_check import check_files
from swin_backbone.errors import InputError

NAMES = ('cat', 'dog')


def make_folders(root: Path, names: tuple[str, ...] = NAMES) -> Path:
    for split in ('train', 'val'):
        for name in names:
            (root / split / name).mkdir(parents=True)
            Image.new('RGB', (8, 8)).save(root / split / name / '1.png')
    return root


def config_of(root: Path, classes: int = 2, **options: object) -> Config:
    def loader(split: str) -> dict:
        data = dict(type='ImageNet', data_root=str(root), split=split, pipeline=[], metainfo=dict(options))
        return dict(dataset=data, batch_size=1, num_workers=0)

    config = Config(
        dict(
            default_scope='mmpretrain',
            custom_imports=dict(imports=['swin_backbone.registry']),
            model=dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=classes, in_channels=8)),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
        )
    )
    write_defaults(config)
    return config


def check(config: Config) -> None:
    check_files(config, ('train_dataloader', 'val_dataloader'))


def test_matching_class_folders_are_accepted(tmp_path: Path) -> None:
    config = config_of(make_folders(tmp_path))
    assert config.train_dataloader.dataset.data_prefix == dict(img_path='train')
    assert missing_data(config, ('train_dataloader', 'val_dataloader')) == []
    check(config)


def test_a_missing_split_folder_is_listed(tmp_path: Path) -> None:
    assert missing_data(config_of(tmp_path), ('val_dataloader',)) == [str(tmp_path / 'val')]


@pytest.mark.parametrize(
    ('change', 'options', 'message'),
    [
        (None, dict(classes=3), r'has 2 class folders \(cat, dog\), .* the config has 3 classes: .*--classes cat,dog'),
        ('flat', {}, 'val has no subfolders: sort the images into one subfolder per class'),
        ('other', {}, r'have different class folders \(dog, fox in only one of them\)'),
        ('empty', {}, r'contain no images: add images with one of the suffixes \.jpg'),
        ('broken', {}, r'has 1 image that cannot be read \(1\.png'),
    ],
)
def test_invalid_class_folders_raise_input_error(
    change: str | None, options: dict, message: str, tmp_path: Path
) -> None:
    make_folders(tmp_path)
    validation = tmp_path / 'val'
    if change == 'flat':
        for name in NAMES:
            (validation / name / '1.png').unlink()
            (validation / name).rmdir()
    elif change == 'other':
        (validation / 'dog').rename(validation / 'fox')
    elif change == 'empty':
        for name in NAMES:
            (validation / name / '1.png').unlink()
    elif change == 'broken':
        (validation / 'cat' / '1.png').write_bytes(b'no image')
    with pytest.raises(InputError, match=message):
        check(config_of(tmp_path, **options))


def test_classes_in_another_order_than_the_folders_raise_input_error(tmp_path: Path) -> None:
    make_folders(tmp_path)
    config = config_of(tmp_path)
    for loader in ('train_dataloader', 'val_dataloader'):
        config[loader].dataset.metainfo = dict(classes=('dog', 'cat'))
    with pytest.raises(InputError, match='labels follow the sorted folder names, cat, dog'):
        check(config)


def test_invalid_lines_of_a_label_list_raise_input_error(tmp_path: Path) -> None:
    make_folders(tmp_path)
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text('cat/1.png 0\ndog/1.png 5\n')
    with pytest.raises(InputError, match=r'val\.txt has 1 label beyond the 2 classes of the head \(dog/1\.png 5\)'):
        check(config_of(tmp_path))
    (tmp_path / 'meta/val.txt').write_text('cat/1.png 0\ndog/1.png\n')
    with pytest.raises(InputError, match=r'has 1 line without a path and a label'):
        check(config_of(tmp_path))


def test_other_data_sets_are_not_checked() -> None:
    assert not reads_class_folders(None) and not reads_class_folders(dict)
    absent = dict(data_root='/absent')
    assert check_class_folders(Config(dict(model=dict())), 'train_dataloader', absent, None, False) == ([], [])
