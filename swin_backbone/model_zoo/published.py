"""Published parameters and multiply-adds of the configs, from the papers and the official releases."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Published numbers of one config.

    Attributes:
        params: number of parameters.
        flops: number of multiply-adds for the papers' image
            (:func:`swin_backbone.model_zoo.complexity.default_shape`); None if not published.
        source: the publication.
        remark: explanation if the number of multiply-adds differs from ours; otherwise empty.
    """

    params: int
    flops: int | None
    source: str
    remark: str = ''


def millions(params: int, gigas: int | None, source: str, remark: str = '') -> Published:
    """Return an entry from parameters in millions and multiply-adds in 10^9."""
    return Published(params * 10**6, gigas and gigas * 10**9, source, remark)


TABLE_2A, TABLE_2B, TABLE_2C, TABLE_3 = (f'Swin paper, Table {number}' for number in ('2a', '2b', '2c', '3'))
RELEASE = 'official release'
IRREPRODUCIBLE = (
    'this network costs 2482G at 640x2560, where Swin-B agrees with the published 1841G; 3230G is about twice its cost '
    'at 512x2048 (1611G), and it is not documented what the paper counted'
)
NO_POSITION_PRODUCTS = '1119G is the cost without the products of its position attention, which are 154.6G at 512x2048'
NO_MASK_BRANCH = '292G is the cost without the mask feature branch, which costs 15.7G at 800x1280'

PUBLISHED: dict[str, Published] = {
    'cascade_swin_t_1x': millions(86, 745, RELEASE),
    'cascade_swin_t_3x': millions(86, 745, TABLE_2B),
    'cascade_swin_t_3x_one_gpu': millions(86, 745, TABLE_2B),
    'cascade_swin_t_3x_bf16': millions(86, 745, TABLE_2B),
    'cascade_swin_s_3x': millions(107, 838, TABLE_2B),
    'cascade_swin_b_3x': millions(145, 982, TABLE_2B),
    'cascade_r50_3x': millions(82, 739, TABLE_2B),
    'cascade_r50_sgd_3x': millions(82, 739, TABLE_2B),
    'cascade_x101_32x4d_3x': millions(101, 819, TABLE_2B),
    'cascade_x101_32x4d_sgd_3x': millions(101, 819, TABLE_2B),
    'cascade_x101_64x4d_3x': millions(140, 972, TABLE_2B),
    'cascade_x101_64x4d_sgd_3x': millions(140, 972, TABLE_2B),
    'cascade_deit_s_3x': millions(80, 889, TABLE_2B),
    'mask_rcnn_swin_t_1x': millions(48, 267, RELEASE),
    'mask_rcnn_swin_t_3x': millions(48, 267, RELEASE),
    'mask_rcnn_swin_s_3x': millions(69, 359, RELEASE),
    'atss_swin_t_3x': millions(36, 215, TABLE_2A),
    'atss_r50_3x': millions(32, 205, TABLE_2A),
    'reppoints_v2_swin_t_3x': millions(45, 283, TABLE_2A),
    'reppoints_v2_r50_3x': millions(42, 274, TABLE_2A),
    'mask_reppoints_v2_swin_t_3x': millions(47, 292, RELEASE, NO_MASK_BRANCH),
    'sparse_rcnn_swin_t_3x': millions(110, 172, TABLE_2A),
    'sparse_rcnn_r50_3x': millions(106, 166, TABLE_2A),
    'htc_swin_b_6x': millions(160, 1043, TABLE_2C),
    'htc_swin_l_6x': millions(284, 1470, TABLE_2C),
    'htc_x101_64x4d_6x': millions(155, 1033, TABLE_2C),
    'upernet_swin_t_160k': millions(60, 945, TABLE_3),
    'upernet_swin_t_160k_one_gpu': millions(60, 945, TABLE_3),
    'upernet_swin_t_160k_bf16': millions(60, 945, TABLE_3),
    'upernet_swin_s_160k': millions(81, 1038, TABLE_3),
    'upernet_swin_b_160k': millions(121, 1188, RELEASE),
    'upernet_swin_b_640_160k': millions(121, 1841, TABLE_3),
    'upernet_swin_l_640_160k': millions(234, 3230, TABLE_3, IRREPRODUCIBLE),
    'upernet_deit_s_160k': millions(52, 1099, TABLE_3),
    'upernet_r101_160k': millions(86, 1029, TABLE_3),
    'danet_r101_160k': millions(69, 1119, TABLE_3, NO_POSITION_PRODUCTS),
    'deeplabv3plus_r101_160k': millions(63, 1021, TABLE_3),
    'deeplabv3plus_resnest101_160k': millions(66, 1051, TABLE_3),
    'deeplabv3plus_resnest200_160k': millions(88, 1381, TABLE_3),
    'dnl_r101_160k': millions(69, 1249, TABLE_3),
    'ocrnet_r101_160k': millions(56, 923, TABLE_3),
    'ocrnet_hr48_160k': millions(71, 664, TABLE_3),
    'setr_vit_l_160k': millions(308, None, TABLE_3),
}
