"""Draws every picture of a test while it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from swin_backbone.reports.gallery import draw_sample

FOLDER = 'pictures'


class GalleryHook(Hook):
    """Writes truth beside prediction of every tested picture to ``<folder>/pictures``.

    Args:
        folder: the report's folder.
    """

    priority = 'LOW'

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / FOLDER
        self._names: set[str] = set()

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw the pictures of one batch."""
        import mmcv

        for sample in outputs or ():
            drawing = draw_sample(sample, runner.test_dataloader.dataset.metainfo)
            mmcv.imwrite(drawing[..., ::-1].copy(), str(self.folder / self.name_for(Path(sample.img_path))))

    def name_for(self, path: Path) -> str:
        """A file name for the drawing of a picture, unlike those given before."""
        name = path.stem if path.stem not in self._names else f'{path.parent.name}_{path.name}'
        self._names.add(path.stem)
        return f'{name}.png'
