"""Views of multi-scale testing."""

from typing import Any

import pytest
from mmengine.config import Config

from swin_backbone.engine.config import load_config
from swin_backbone.engine.tta import DETECTION_FACTORS, SEGMENTATION_FACTORS, use_tta
from swin_backbone.errors import InputError
from tests.conftest import REPOSITORY


def read(name: str, **options: Any) -> Config:
    return load_config(str(REPOSITORY / 'configs' / name), [f'{key}={value}' for key, value in options.items()])


def alternatives(config: Config) -> list[Any]:
    (views,) = [step for step in config.test_dataloader.dataset.pipeline if step['type'] == 'TestTimeAug']
    return views['transforms']


def test_detection_views_scale_the_test_size() -> None:
    config = read('detection/cascade_swin_t_3x.py')
    plain = config.test_dataloader.dataset.pipeline
    assert use_tta(config) == 2 * len(DETECTION_FACTORS)
    sizes, flips, *rest = alternatives(config)
    assert [size['scale'] for size in sizes] == [(999, 600), (1333, 800), (1666, 1000), (1999, 1200)]
    assert all(size['keep_ratio'] for size in sizes) and [flip['prob'] for flip in flips] == [0.0, 1.0]
    assert [step['type'] for (step,) in rest] == ['LoadAnnotations', 'PackDetInputs']
    assert {'flip', 'flip_direction', 'img_id', 'scale_factor'} <= set(rest[-1][0]['meta_keys'])
    assert config.model.type == 'swin_backbone.InstanceTTAModel' and config.model.module.type == 'CascadeRCNN'
    assert [step['type'] for step in plain] == ['LoadImageFromFile', 'Resize', 'LoadAnnotations', 'PackDetInputs']


def test_segmentation_views_scale_the_test_size() -> None:
    config = read('segmentation/upernet_swin_t_160k.py')
    assert all('scale_factor' in size for size in config.tta_pipeline[1]['transforms'][0])
    assert use_tta(config) == 12
    sizes = alternatives(config)[0]
    assert [size['scale'] for size in sizes] == [(int(2048 * f), int(512 * f)) for f in SEGMENTATION_FACTORS]
    assert config.model.type == 'swin_backbone.SegmentationTTAModel'
    assert 'scale_factor' in config.tta_pipeline[1]['transforms'][0][0]


def test_without_a_resize_step_factors_scale_the_image() -> None:
    for name in ('detection/cascade_swin_demo.py', 'segmentation/upernet_swin_demo.py'):
        config = read(name)
        data_set = config.test_dataloader.dataset
        data_set.pipeline = [step for step in data_set.pipeline if step['type'] != 'Resize']
        assert use_tta(config, factors=(0.5, 2)) == 4
        assert [size['scale_factor'] for size in alternatives(config)[0]] == [0.5, 2.0]
        assert len(data_set.pipeline) == 2 and len(alternatives(config)) == 4


def test_a_config_can_define_factors_or_a_pipeline() -> None:
    config = read('detection/cascade_swin_t_3x.py', tta_factors=[0.5, 1.0])
    assert use_tta(config) == 4
    config = read('detection/cascade_swin_t_3x.py', tta_factors=[0.5, 1.0], tta_flip=False)
    assert use_tta(config) == 2
    config = read('detection/cascade_swin_t_3x.py')
    views = [[dict(type='Resize', scale=(500, 300), keep_ratio=True)], [dict(type='RandomFlip', prob=1.0)]]
    config.tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=views)]
    config.tta_model = dict(type='MyTTAModel', weight=2)
    assert use_tta(config) == 1
    assert alternatives(config)[0][0]['scale'] == (500, 300)
    assert config.model.type == 'MyTTAModel' and config.model.weight == 2 and config.model.module.type == 'CascadeRCNN'


def test_det_tta_model_is_replaced_by_instance_tta_model() -> None:
    config = read('detection/cascade_swin_t_3x.py')
    config.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.7), max_per_img=9))
    use_tta(config)
    assert config.model.type == 'swin_backbone.InstanceTTAModel' and config.model.nms.iou_threshold == 0.7


def test_several_resize_steps_raise_input_error() -> None:
    config = read('detection/cascade_swin_t_3x.py')
    pipeline = config.test_dataloader.dataset.pipeline
    config.test_dataloader.dataset.pipeline = [*pipeline[:2], *pipeline[1:]]
    with pytest.raises(InputError, match='has several resize steps'):
        use_tta(config)


@pytest.mark.parametrize(
    ('name', 'views'),
    [
        ('detection/cascade_swin_demo.py', 8),
        ('detection/htc_swin_l_6x.py', 8),
        ('segmentation/upernet_swin_demo.py', 12),
        ('segmentation/upernet_swin_l_640_160k.py', 12),
    ],
)
def test_number_of_views_of_other_configs(name: str, views: int) -> None:
    assert use_tta(read(name)) == views


def test_tta_merge_is_set_by_the_config() -> None:
    config = read('detection/cascade_swin_t_3x.py', tta_merge='proposals')
    use_tta(config)
    assert config.model.type == 'swin_backbone.InstanceTTAModel' and config.model['merge'] == 'proposals'


def test_tta_merge_of_a_segmenter_raises_input_error() -> None:
    with pytest.raises(InputError, match='tta_merge is for detectors'):
        use_tta(read('segmentation/upernet_swin_t_160k.py', tta_merge='proposals'))
