"""Figures of feature energy and attention, from a config and an image."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from swin_backbone.backbones.mm_swin import MMSwinTransformer
from swin_backbone.errors import InputError
from swin_backbone.inspection.drawing import Subject, build_subject, prepare, query_pixel, visualize
from swin_backbone.inspection.features import attention_of, feature_energies
from tests.demo_models import DETECTION, build_model, demo_config
from tests.helpers import TINY


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (75, 100, 3)).astype(np.uint8))
    return path


@pytest.fixture
def subject(image_file: Path, tmp_path: Path) -> Subject:
    config = demo_config(DETECTION, tmp_path, test_size=200)
    torch.save(dict(state_dict=build_model(config).state_dict()), tmp_path / 'model.pth')
    return build_subject(config, str(tmp_path / 'model.pth'), image_file)


def test_image_is_preprocessed_as_in_a_test_run(subject: Subject, tmp_path: Path) -> None:
    assert subject.image.shape == (150, 200, 3) and subject.tensor.shape == (1, 3, 160, 224)
    config = demo_config(DETECTION, tmp_path)
    model = build_model(config)
    bgr = torch.from_numpy(subject.image[..., ::-1].copy()).permute(2, 0, 1)
    expected = model.data_preprocessor(dict(inputs=[bgr], data_samples=None), False)['inputs']
    torch.testing.assert_close(prepare(subject.image, config.model.data_preprocessor), expected)
    torch.testing.assert_close(dict(subject.backbone.named_parameters()), dict(model.backbone.named_parameters()))


def test_visualize_writes_energy_and_attention(subject: Subject, tmp_path: Path) -> None:
    paths = visualize(subject, tmp_path / 'out', (99, 74), stage=1, blocks=[], head=None)
    assert [path.name for path in paths] == ['energy.png', 'attention.png']
    assert all(cv2.imread(str(path)) is not None for path in paths)
    assert len(visualize(subject, tmp_path / 'out', None, stage=1, blocks=[], head=None)) == 1


def test_query_pixel_converts_file_pixels_to_the_resized_image(subject: Subject) -> None:
    assert query_pixel(subject, (0, 0)) == (1, 1)
    assert query_pixel(subject, (99, 74)) == (149, 199)
    for outside in ((100, 0), (0, 75), (-1, 0)):
        with pytest.raises(InputError, match='columns 0 to 99 and rows 0 to 74'):
            query_pixel(subject, outside)


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(stage=4), 'there is no stage 4'), (dict(head=2), 'heads 0 to 1, there is no head 2')],
)
def test_missing_stage_or_head_raises_input_error(
    subject: Subject, tmp_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        visualize(subject, tmp_path, (5, 5), **{'stage': 1, 'blocks': [0], 'head': None, **options})


def test_config_with_another_backbone_raises_input_error(image_file: Path, tmp_path: Path) -> None:
    config = demo_config(DETECTION, tmp_path)
    config.model.backbone.type = 'ResNet'
    with pytest.raises(InputError, match='has the backbone ResNet'):
        build_subject(config, 'none', image_file)


def test_unreadable_image_raises_input_error(tmp_path: Path) -> None:
    for content in (b'', b'\xff\xd8\xff\xe0 no more of it'):
        (tmp_path / 'cut.jpg').write_bytes(content)
        with pytest.raises(InputError, match=r'cut\.jpg cannot be read as an image'):
            build_subject(demo_config(DETECTION, tmp_path), 'none', tmp_path / 'cut.jpg')


@pytest.mark.parametrize('kind', ['swin_backbone.MMSwinTransformer', MMSwinTransformer])
def test_mm_swin_transformer_gives_equal_views(kind: object, image_file: Path, tmp_path: Path) -> None:
    config = demo_config(DETECTION, tmp_path, test_size=200)
    state = dict(build_model(config).backbone.state_dict())
    torch.save(state, tmp_path / 'backbone.pth')
    subjects = [build_subject(config, str(tmp_path / 'backbone.pth'), image_file)]
    names = dict(embed_dim='embed_dims')
    options = {names.get(key, key): value for key, value in TINY.items() if key != 'variant'}
    config.model.backbone = dict(type=kind, init_cfg=None, **options)
    subjects.append(build_subject(config, str(tmp_path / 'backbone.pth'), image_file))
    views = [attention_of(one.backbone, one.tensor, (70, 90), 1, 1) for one in subjects]
    torch.testing.assert_close(views[0].weights, views[1].weights)
    assert torch.equal(views[0].window, views[1].window) and views[1].shifted
    energies = [feature_energies(one.backbone, one.tensor, range(4)) for one in subjects]
    torch.testing.assert_close(energies[0], energies[1])
