"""Preprocessing of images, class folders, and accuracy."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from swin_backbone import InputError
from swin_backbone.classification.evaluate import EvaluationOptions, classify, evaluate
from swin_backbone.classification.preprocessing import (
    MEAN,
    STD,
    ImageFiles,
    class_folders,
    images_in,
    labelled_images,
    prepare,
)

OPTIONS = EvaluationOptions(batch_size=2, workers=0, device='cpu', bf16=False, upright=False)


@pytest.mark.parametrize('size', [(500, 375), (375, 500), (333, 333), (640, 100), (64, 999)])
@pytest.mark.parametrize('side', [192, 224, 256, 384])
def test_prepare_equals_the_original_preprocessing(side: int, size: tuple[int, int]) -> None:
    transforms = pytest.importorskip('torchvision.transforms')
    bicubic = transforms.InterpolationMode.BICUBIC
    resized = (side, side) if side == 384 else int(256 / 224 * side)
    original = transforms.Compose(
        [
            transforms.Resize(resized, interpolation=bicubic),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8)
    image = Image.fromarray(pixels.numpy())
    assert torch.allclose(prepare(image, side), original(image), atol=1e-6)


class Brightness(nn.Module):
    """A classifier whose class is the brightness of an image, in steps of 20 of 255."""

    image_size = 32

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        pixels = images * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        steps = pixels.mean((1, 2, 3))[:, None] * 255 / 20
        return -(steps - torch.arange(self.classes)).abs()


def save_image(file: Path, step: int, size: tuple[int, int] = (40, 50)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (20 * step,) * 3).save(file)


@pytest.mark.parametrize('numbered', [False, True])
def test_accuracy_of_named_and_numbered_class_folders(numbered: bool, tmp_path: Path) -> None:
    """Folders of ImageNet are sorted as text; those of ImageNet-V2 are class indices."""
    for label in range(12):
        folder = tmp_path / (str(label) if numbered else f'n{label:08}')
        save_image(folder / 'right.png', label)
        save_image(folder / 'near.png', max(0, label - 2))
    items = labelled_images(tmp_path, 12)
    assert sorted(label for _, label in items) == sorted([*range(12)] * 2)
    found = evaluate(Brightness(12), items, OPTIONS)  # type: ignore[arg-type]
    assert (found.images, found.top5) == (24, 1.0)
    assert found.top1 == pytest.approx((12 + 1) / 24)  # 'near' is correct only for class 0
    (_, classes), *_ = classify(Brightness(12), items[-2:], OPTIONS)  # type: ignore[arg-type]
    assert len(classes) == 5 and classes[0][1] == max(share for _, share in classes)


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['n01', 'n02'], r'has 2 class folders \(n01 to n02\), but the checkpoint has 3 classes'),
        (['0', '3'], 'folders 0 to 3, which are read as class indices'),
        (['1', '01'], 'one folder per class'),
        (['a', 'b', 'empty'], 'contains no images'),
    ],
)
def test_folders_that_do_not_match_the_classes_raise_input_error(
    names: list[str], message: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        if name != 'empty':
            save_image(tmp_path / name / 'image.png', 1)
    with pytest.raises(InputError, match=message):
        labelled_images(tmp_path, 3)


def test_images_in_a_folder_or_a_file(tmp_path: Path) -> None:
    save_image(tmp_path / 'b.png', 1)
    save_image(tmp_path / 'a.JPG', 1)
    (tmp_path / 'notes.txt').write_text('none')
    assert [file.name for file in images_in(tmp_path)] == ['a.JPG', 'b.png']
    assert images_in(tmp_path / 'b.png') == [tmp_path / 'b.png'] and not class_folders(tmp_path / 'b.png')
    with pytest.raises(InputError, match='no image or folder'):
        images_in(tmp_path / 'c.png')


@pytest.mark.parametrize('workers', [0, 1])
def test_unreadable_image_is_named_in_the_error(workers: int, tmp_path: Path) -> None:
    save_image(tmp_path / 'good.png', 1)
    broken = tmp_path / 'broken.png'
    broken.write_bytes((tmp_path / 'good.png').read_bytes()[:60])
    options = EvaluationOptions(batch_size=2, workers=workers, device='cpu', bf16=False, upright=True)
    with pytest.raises(InputError, match=r'broken.png cannot be read as an image .*: replace or remove it\.$'):
        evaluate(Brightness(2), [(tmp_path / 'good.png', 0), (broken, 1)], options)  # type: ignore[arg-type]


def test_upright_applies_the_exif_orientation(tmp_path: Path) -> None:
    image = Image.new('RGB', (64, 32))
    image.paste((255, 255, 255), (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / 'turned.png', exif=exif)
    for upright, brightness in ((False, 1.0), (True, 0.0)):
        pixels, _ = ImageFiles([(tmp_path / 'turned.png', 0)], 32, upright)[0]
        assert isinstance(pixels, Tensor)
        assert pixels[0, 0, 0] * STD[0] + MEAN[0] == pytest.approx(brightness, abs=1e-3)
