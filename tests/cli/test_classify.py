"""The command `classify`: accuracy, classes of images, throughput, and invalid input."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from swin_backbone.cli import classify as command
from swin_backbone.errors import InputError
from swin_backbone.model_zoo.classification import RELEASED, published_for
from tests.helpers import tiny_backbone

CLASSES, FOLDERS = 1000, 6


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small classifier with the file name of a released one, from which the image size of 224 is read."""
    torch.manual_seed(0)
    backbone = tiny_backbone(out_indices=(3,))
    state = {name.replace('norm3', 'norm'): value for name, value in backbone.state_dict().items()}
    state |= {'head.weight': torch.randn(CLASSES, 128), 'head.bias': torch.zeros(CLASSES)}
    file = tmp_path_factory.mktemp('weights') / 'swin_tiny_patch4_window7_224.pth'
    torch.save({'model': state}, file)
    return file


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('val')
    for label in range(FOLDERS):
        (root / f'{label}').mkdir()
        for number in range(2):
            Image.new('RGB', (300, 240), (40 * label, 255 - 40 * label, 90 * number)).save(
                root / f'{label}/{number}.png'
            )
    return root


def run(*arguments: object) -> None:
    command.main([*map(str, arguments), '--workers', '0', '--device', 'cpu'])


def test_accuracy_is_printed_with_the_published_one(
    weights: Path, folders: Path, capsys: pytest.CaptureFixture
) -> None:
    run(weights, folders)
    facts, header, here, published = capsys.readouterr().out.splitlines()
    assert f'{CLASSES} classes; images short side resized to 256, centre of 224x224' in facts
    assert header.split() == ['top-1', 'top-5', 'images/s', 'images']
    assert here.split()[0] == 'here' and here.split()[-1] == '12'
    assert published.split() == ['published,', 'ImageNet-1K', '81.2', '95.5', '755', '(V100)', '50000']
    other = weights.rename(weights.with_name('mine.pth'))
    run(other, folders, '--limit', 6, '--image-size', 64)
    *_, here, remark = capsys.readouterr().out.splitlines()
    assert here.split()[-1] == '6' and remark.startswith('no published scores are known for')
    other.rename(weights)


def test_classes_of_images_are_printed(
    weights: Path, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(weights, folders / '0', folders / '1/0.png')
    _, *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1].startswith(f'{folders / "1/0.png"}: ') and last.startswith('3 images in')
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'kind {number}' for number in range(CLASSES)))
    run(weights, folders / '1/0.png', '--names', names)
    _, named, _ = capsys.readouterr().out.splitlines()
    assert named == lines[-1].replace(': ', ': kind ').replace(', ', ', kind ')


def test_throughput(weights: Path, capsys: pytest.CaptureFixture) -> None:
    run(weights, '--throughput', '--batch-size', 2, '--image-size', 32)
    assert capsys.readouterr().out.splitlines()[-1].endswith('; 755 on a V100 in batches of 64')


REFUSED = {
    'nothing to do': ([], 'nothing to classify'),
    'no such folder': (['nowhere'], 'image or folder nowhere does not exist'),
    'two validation sets': (['{val}', '{val}'], 'must be the only PATH'),
    'a limit without an evaluation': (['{val}/0', '--limit', '2'], '--limit is for evaluation'),
    'an empty batch': (['{val}', '--batch-size', '0'], '--batch-size must be at least 1'),
    'names of other classes': (
        ['{val}/0', '--names', '{weights}.txt'],
        'has 1 lines, but the checkpoint has 1000 classes',
    ),
    'names that are no text': (['{val}/0', '--names', '{weights}'], 'cannot be read'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_invalid_arguments_raise_input_error(case: str, weights: Path, folders: Path) -> None:
    arguments, message = REFUSED[case]
    Path(f'{weights}.txt').write_text('one')
    with pytest.raises(InputError, match=message):
        run(weights, *(argument.format(val=folders, weights=weights) for argument in arguments))


@pytest.mark.parametrize('file', RELEASED)
def test_published_scores_are_found_by_name(file: str) -> None:
    assert published_for(file) is RELEASED[file]
    assert published_for('mine.pth') is None and published_for('swin_b_in22k') is None


def test_published_scores_are_found_by_file_name() -> None:
    for source in (
        'https://host/swinv2_tiny_patch4_window8_256.pth?download=1',
        '/tmp/swinv2_tiny_patch4_window8_256.pth',
    ):
        assert published_for(source) is RELEASED['swinv2_t_in1k_w8']
