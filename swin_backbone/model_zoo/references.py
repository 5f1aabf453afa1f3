"""Published scores and speeds that are shown for reference beside the configs; none of them was measured here."""

from collections.abc import Sequence
from dataclasses import dataclass

from swin_backbone.evaluation.tables import markdown_table

INTRODUCTION = """\
## Published, for reference

Numbers of the papers and the releases, as printed; nothing in this section was measured here. Frames (FPS) and
images per second are those of the papers, on one V100. `*` marks tests at several scales, `‡` weights
from ImageNet-22K.
"""


@dataclass(frozen=True)
class Reference:
    """A published table.

    Attributes:
        title: what it shows.
        source: where it was published.
        header: of its columns.
        text: a line for each row, with cells between bars.
    """

    title: str
    source: str
    header: str
    text: str

    @property
    def rows(self) -> list[list[str]]:
        """The cells, row by row."""
        return [cells(line) for line in self.text.strip().splitlines()]

    def as_markdown(self) -> str:
        """Format the table with its title and source."""
        table = markdown_table(cells(self.header), self.rows)
        return f'### {self.title}\n\nPublished: {self.source}.\n\n{table}\n'


def cells(line: str) -> list[str]:
    """The cells of a line."""
    return [cell.strip() for cell in line.split('|')]


def as_markdown(references: Sequence[Reference]) -> str:
    """Format the section of all published tables."""
    return '\n'.join([INTRODUCTION, *(reference.as_markdown() for reference in references)])


REFERENCES = (
    Reference(
        'Four frameworks on COCO val2017',
        'Swin paper, Table 2a',
        'framework | backbone | box AP | AP50 | AP75 | parameters | FLOPs | FPS',
        """
Cascade Mask R-CNN | R-50 | 46.3 | 64.3 | 50.5 | 82M | 739G | 18.0
Cascade Mask R-CNN | Swin-T | 50.5 | 69.3 | 54.9 | 86M | 745G | 15.3
ATSS | R-50 | 43.5 | 61.9 | 47.0 | 32M | 205G | 28.3
ATSS | Swin-T | 47.2 | 66.5 | 51.3 | 36M | 215G | 22.3
RepPoints V2 | R-50 | 46.5 | 64.6 | 50.3 | 42M | 274G | 13.6
RepPoints V2 | Swin-T | 50.0 | 68.5 | 54.2 | 45M | 283G | 12.0
Sparse R-CNN | R-50 | 44.5 | 63.4 | 48.2 | 106M | 166G | 21.0
Sparse R-CNN | Swin-T | 47.9 | 67.3 | 52.3 | 110M | 172G | 18.4
""",
    ),
    Reference(
        'Backbones of Cascade Mask R-CNN on COCO val2017',
        'Swin paper, Table 2b',
        'backbone | box AP | AP50 | AP75 | mask AP | AP50 | AP75 | parameters | FLOPs | FPS',
        """
DeiT-S | 48.0 | 67.2 | 51.7 | 41.4 | 64.2 | 44.3 | 80M | 889G | 10.4
R-50 | 46.3 | 64.3 | 50.5 | 40.1 | 61.7 | 43.4 | 82M | 739G | 18.0
Swin-T | 50.5 | 69.3 | 54.9 | 43.7 | 66.6 | 47.1 | 86M | 745G | 15.3
X101-32x4d | 48.1 | 66.5 | 52.4 | 41.6 | 63.9 | 45.2 | 101M | 819G | 12.8
Swin-S | 51.8 | 70.4 | 56.3 | 44.7 | 67.9 | 48.5 | 107M | 838G | 12.0
X101-64x4d | 48.3 | 66.4 | 52.3 | 41.7 | 64.0 | 45.1 | 140M | 972G | 10.4
Swin-B | 51.9 | 70.9 | 56.5 | 45.0 | 68.4 | 48.7 | 145M | 982G | 11.6
""",
    ),
    Reference(
        'Systems on COCO',
        'Swin paper, Table 2c',
        'system | val box | val mask | test-dev box | test-dev mask | parameters | FLOPs',
        """
RepPoints V2* | - | - | 52.1 | - | - | -
GCNet* | 51.8 | 44.7 | 52.3 | 45.4 | - | 1041G
RelationNet++* | - | - | 52.7 | - | - | -
SpineNet-190 | 52.6 | - | 52.8 | - | 164M | 1885G
ResNeSt-200* | 52.5 | - | 53.3 | 47.1 | - | -
EfficientDet-D7 | 54.4 | - | 55.1 | - | 77M | 410G
DetectoRS* | - | - | 55.7 | 48.5 | - | -
YOLOv4-P7* | - | - | 55.8 | - | - | -
Copy-paste | 55.9 | 47.2 | 56.0 | 47.4 | 185M | 1440G
HTC++, X101-64x4d | 52.3 | 46.0 | - | - | 155M | 1033G
HTC++, Swin-B ‡ | 56.4 | 49.1 | - | - | 160M | 1043G
HTC++, Swin-L ‡ | 57.1 | 49.5 | 57.7 | 50.2 | 284M | 1470G
HTC++, Swin-L ‡* | 58.0 | 50.4 | 58.7 | 51.1 | 284M | -
""",
    ),
    Reference(
        'Segmenters on ADE20K',
        'Swin paper, Table 3; the FLOPs of UperNet with Swin-L are discussed at upernet_swin_l_640_160k',
        'method | backbone | val mIoU | test score | parameters | FLOPs | FPS',
        """
DANet | R-101 | 45.2 | - | 69M | 1119G | 15.2
DeepLabV3+ | R-101 | 44.1 | - | 63M | 1021G | 16.0
ACNet | R-101 | 45.9 | 38.5 | - | - | -
DNL | R-101 | 46.0 | 56.2 | 69M | 1249G | 14.8
OCRNet | R-101 | 45.3 | 56.0 | 56M | 923G | 19.3
UperNet | R-101 | 44.9 | - | 86M | 1029G | 20.1
OCRNet | HRNet-W48 | 45.7 | - | 71M | 664G | 12.5
DeepLabV3+ | ResNeSt-101 | 46.9 | 55.1 | 66M | 1051G | 11.9
DeepLabV3+ | ResNeSt-200 | 48.4 | - | 88M | 1381G | 8.1
SETR | T-Large ‡ | 50.3 | 61.7 | 308M | - | -
UperNet | DeiT-S | 44.0 | - | 52M | 1099G | 16.2
UperNet | Swin-T | 46.1 | - | 60M | 945G | 18.5
UperNet | Swin-S | 49.3 | - | 81M | 1038G | 15.2
UperNet | Swin-B ‡ | 51.6 | - | 121M | 1841G | 8.7
UperNet | Swin-L ‡ | 53.5 | 62.8 | 234M | 3230G | 6.2
""",
    ),
    Reference(
        'Classifiers on ImageNet-1K',
        'Swin paper, Table 1a, trained on ImageNet-1K',
        'network | image | parameters | FLOPs | images/s | top-1',
        """
RegNetY-4G | 224 | 21M | 4.0G | 1156.7 | 80.0
RegNetY-8G | 224 | 39M | 8.0G | 591.6 | 81.7
RegNetY-16G | 224 | 84M | 16.0G | 334.7 | 82.9
EfficientNet-B3 | 300 | 12M | 1.8G | 732.1 | 81.6
EfficientNet-B4 | 380 | 19M | 4.2G | 349.4 | 82.9
EfficientNet-B5 | 456 | 30M | 9.9G | 169.1 | 83.6
EfficientNet-B6 | 528 | 43M | 19.0G | 96.9 | 84.0
EfficientNet-B7 | 600 | 66M | 37.0G | 55.1 | 84.3
ViT-B/16 | 384 | 86M | 55.4G | 85.9 | 77.9
ViT-L/16 | 384 | 307M | 190.7G | 27.3 | 76.5
DeiT-S | 224 | 22M | 4.6G | 940.4 | 79.8
DeiT-B | 224 | 86M | 17.5G | 292.3 | 81.8
DeiT-B | 384 | 86M | 55.4G | 85.9 | 83.1
Swin-T | 224 | 29M | 4.5G | 755.2 | 81.3
Swin-S | 224 | 50M | 8.7G | 436.9 | 83.0
Swin-B | 224 | 88M | 15.4G | 278.1 | 83.5
Swin-B | 384 | 88M | 47.0G | 84.7 | 84.5
""",
    ),
    Reference(
        'Classifiers from ImageNet-22K',
        'Swin paper, Table 1b, fine-tuned on ImageNet-1K',
        'network | image | parameters | FLOPs | images/s | top-1',
        """
R-101x3 | 384 | 388M | 204.6G | - | 84.4
R-152x4 | 480 | 937M | 840.5G | - | 85.4
ViT-B/16 | 384 | 86M | 55.4G | 85.9 | 84.0
ViT-L/16 | 384 | 307M | 190.7G | 27.3 | 85.2
Swin-B | 224 | 88M | 15.4G | 278.1 | 85.2
Swin-B | 384 | 88M | 47.0G | 84.7 | 86.4
Swin-L | 384 | 197M | 103.9G | 42.1 | 87.3
""",
    ),
    Reference(
        'Swin-T pre-trained without labels (MoBY)',
        "the authors' release of detection and segmentation models",
        'model | box AP | mask AP | mIoU | mIoU*',
        """
Mask R-CNN, 1x | 43.6 | 39.6 | - | -
Mask R-CNN, 3x | 46.0 | 41.7 | - | -
Cascade Mask R-CNN, 1x | 48.1 | 41.5 | - | -
Cascade Mask R-CNN, 3x | 50.2 | 43.5 | - | -
UperNet, 160k | - | - | 44.06 | 45.58
""",
    ),
    Reference(
        'Swin V2 on COCO, HTC++',
        'Swin V2 paper; trained on images of 1536 with windows of 32',
        'backbone | test image | test window | val box | val mask | test-dev box | test-dev mask',
        """
SwinV2-L | 1100 | 32 | 58.8 | 51.1 | - | -
SwinV2-L | 1100 | 48 | 58.9 | 51.2 | - | -
SwinV2-L* | several | 48 | 60.2 | 52.1 | 60.8 | 52.7
SwinV2-G | 1100 | 32 | 61.7 | 53.3 | - | -
SwinV2-G | 1100 | 48 | 61.9 | 53.4 | - | -
SwinV2-G* | several | 48 | 62.5 | 53.7 | 63.1 | 54.4
""",
    ),
    Reference(
        'Swin V2 on ADE20K, UperNet',
        'Swin V2 paper; trained on images of 640 with windows of 40',
        'backbone | test image | test window | val mIoU',
        """
SwinV2-L* | 640 | 40 | 55.9
SwinV2-G | 640 | 40 | 59.1
SwinV2-G | 896 | 56 | 59.3
SwinV2-G* | 896 | 56 | 59.9
""",
    ),
)
