"""Generated data sets for classification: a folder of images for each class, as in ImageNet.

Files are ``train/CLASS/NUMBER.png`` and ``val/CLASS/NUMBER.png``; consecutive numbers cycle through the classes.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swin_backbone.datasets.generated import MAX_IMAGES, SPLITS, Instance, LabelledImage, Spec, option
from swin_backbone.datasets.shapes import CLASSES, ShapesSpec


@dataclass(frozen=True)
class ClassesSpec(Spec):
    """Options of a generated data set for classification."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, kind: int) -> NDArray[np.uint8]:
        """Draw an image of the class ``kind``, RGB [H, W, 3]."""

    def render(self, rng: np.random.Generator, index: int) -> LabelledImage:
        """Draw the image with this index in its split; the one instance covers the whole image."""
        kind = index % len(self.classes)
        image = self.draw(rng, kind)
        semantic = np.full(image.shape[:2], kind + 1, np.uint8)
        return LabelledImage(image, semantic, (Instance(kind, semantic > 0),))

    def class_files(self, split: str) -> list[str]:
        """Return the images of a split, relative to the data set."""
        names = enumerate(self.image_names(split))
        return [f'{split}/{self.classes[index % len(self.classes)]}/{name}.png' for index, name in names]

    def file_names(self) -> Iterator[str]:
        """Yield every image of the data set."""
        for split in SPLITS:
            yield from self.class_files(split)

    def write_split(self, root: Path, split: str) -> dict[str, int]:
        """Write the images of a split into a folder for each class; return their number."""
        from PIL import Image

        files = self.class_files(split)
        for index, name in enumerate(files):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.render(self.random(split, index), index).image).save(root / name, compress_level=6)
        return {'images': len(files), 'objects': len(files), 'crowds': 0}


@dataclass(frozen=True)
class ShapeClassesSpec(ClassesSpec):
    """Options of a classification data set of single shapes, cropped from :mod:`~swin_backbone.datasets.shapes`."""

    name = 'shape-classes'
    classes = CLASSES
    supercategory = 'shape'

    train_count: int = option(900, 'number of training images', 1, MAX_IMAGES)
    val_count: int = option(180, 'number of validation images; they do not depend on --train-count', 1, MAX_IMAGES)
    width: int = option(64, 'width of an image in pixels', 32, 4096)
    height: int = option(64, 'height of an image in pixels', 32, 4096)
    margin: float = option(0.25, 'border around an object, in sides of its box', 0, 4)

    def draw(self, rng: np.random.Generator, kind: int) -> NDArray[np.uint8]:
        """Draw scenes until one has an object of the class, and crop it with a border."""
        while True:
            scene = SCENES.render(rng, 0)
            found = [one for one in scene.instances if one.kind == kind]
            if found:
                return self.cut(scene.image, found[0])

    def cut(self, image: NDArray[np.uint8], instance: Instance) -> NDArray[np.uint8]:
        """Crop a square around an object, moved to fit inside the scene, and resize it to the image size."""
        from PIL import Image

        boxes = [(int(places.min()), int(places.max()) + 1) for places in np.nonzero(instance.mask)]
        side = min(int(max(end - start for start, end in boxes) * (1 + 2 * self.margin)), *instance.mask.shape)
        starts = [(start + end - side) // 2 for start, end in boxes]
        y, x = (min(max(start, 0), size - side) for start, size in zip(starts, instance.mask.shape, strict=True))
        square = Image.fromarray(image[y : y + side, x : x + side])
        return np.asarray(square.resize((self.width, self.height), Image.Resampling.BILINEAR))


SCENES = ShapesSpec(width=96, height=96, objects=(1, 3), object_size=(24, 56), crowd_share=0.0)
"""The scenes that objects are cropped from."""
