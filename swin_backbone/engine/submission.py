"""Submission files for the evaluation servers of COCO test-dev and ADE20K."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from swin_backbone.engine.tta import innermost
from swin_backbone.errors import InputError

COCO_TEST = ('annotations/image_info_test-dev2017.json', 'test2017/')
ADE_TEST = ('images/testing', '../release_test/testing', 'release_test/testing')
"""Possible folders of the test images relative to the data root; the last two are those of the unpacked archive."""


@dataclass(frozen=True)
class Submission:
    """Predictions for an evaluation server.

    Attributes:
        split: name of the predicted split in the file names of submissions.
        public: whether ``split`` is the test set of the server, not the test split of the config.
        folder: the output folder.
        name: name of the method in file names.
        detection: whether the server is COCO's instead of ADE20K's.
    """

    split: str
    public: bool
    folder: Path
    name: str
    detection: bool

    def finish(self) -> list[Path]:
        """Pack the predictions written by the metric into files for upload and return their paths."""
        return pack_coco(self) if self.detection else pack_ade20k(self)


def format_for_server(config: Config, folder: str) -> Submission:
    """Make a test write predictions for a server instead of scoring them.

    The server's test images are used if they are in the data root, otherwise the test split of the config.

    Args:
        config: changed in place.
        folder: the output folder.

    Raises:
        InputError: if there is no server for the config's metric.
    """
    out = Path(folder)
    evaluator = config.test_evaluator[0] if isinstance(config.test_evaluator, list) else config.test_evaluator
    kind = evaluator.type.rpartition('.')[2]
    if kind not in ('CocoMetric', 'IoUMetric'):
        raise InputError(
            f'--format-only supports the servers of COCO (CocoMetric) and ADE20K (IoUMetric), not the metric {kind}: '
            'leave it out.'
        )
    name = Path(config.filename).stem
    data_set = innermost(config.test_dataloader.dataset)
    # A Config copies assigned values, so change the copy inside the config.
    config.test_evaluator = evaluator
    evaluator = config.test_evaluator
    evaluator.format_only = True
    # The images may have no ground truth.
    drop_annotations(data_set)
    if kind == 'CocoMetric':
        evaluator.outfile_prefix = str(out / 'raw' / 'results')
        public = use_coco_test(data_set, evaluator)
        split = 'test-dev2017' if public else Path(data_set.ann_file).stem.rpartition('_')[2]
    else:
        evaluator.output_dir = str(out / 'labels')
        data_set.data_prefix = dict(img_path=data_set.data_prefix.img_path)
        public = use_ade20k_test(data_set)
        split = 'testing' if public else Path(data_set.data_prefix.img_path).name
    return Submission(split, public, out, name, kind == 'CocoMetric')


def use_coco_test(data_set: Any, evaluator: Any) -> bool:
    """Switch to COCO test-dev if it is in the data root, and return whether it is."""
    root = Path(data_set.data_root)
    if not all((root / part).exists() for part in COCO_TEST):
        return False
    data_set.ann_file, data_set.data_prefix = COCO_TEST[0], dict(img=COCO_TEST[1])
    evaluator.ann_file = str(root / COCO_TEST[0])
    return True


def use_ade20k_test(data_set: Any) -> bool:
    """Switch to ADE20K's test images if they are in the data root, and return whether they are."""
    folder = next((folder for folder in ADE_TEST if (Path(data_set.data_root) / folder).is_dir()), None)
    if folder is None:
        return False
    data_set.data_prefix = dict(img_path=folder)
    data_set.test_mode = True
    return True


def drop_annotations(data_set: Any) -> None:
    """Remove the steps that read ground truth from the pipeline of a data set."""
    data_set.pipeline = without_annotations(data_set.pipeline)


def without_annotations(pipeline: Any) -> list[Any]:
    """Return a pipeline without the steps that read ground truth, also inside ``TestTimeAug``."""
    kept = []
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            alternatives = without_annotations(step)
            kept += [alternatives] if alternatives else []
        elif not step['type'].rpartition('.')[2].startswith('Load') or 'Image' in step['type']:
            if 'transforms' in step:
                step = {**step, 'transforms': without_annotations(step['transforms'])}
            kept.append(step)
    return kept


def pack_coco(submission: Submission) -> list[Path]:
    """Write one zip per track as COCO's server requires: ``detections_<split>_<name>_results.zip`` with the JSON."""
    packed = []
    for kind in ('bbox', 'segm'):
        raw = submission.folder / 'raw' / f'results.{kind}.json'
        if not raw.is_file():
            continue
        predictions = json.loads(raw.read_text(encoding='utf-8'))
        if kind == 'segm':
            for prediction in predictions:
                # With a box, the server would use the area of the box instead of the mask.
                prediction.pop('bbox', None)
        stem = f'detections_{submission.split}_{submission.name}_results'
        target = submission.folder / kind / f'{stem}.zip'
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f'{stem}.json', json.dumps(predictions))
        packed.append(target)
        raw.unlink()
    if packed:
        (submission.folder / 'raw').rmdir()
    return packed


def pack_ade20k(submission: Submission) -> list[Path]:
    """Write one zip of label maps (1 to 150, 0 for none) with the file names of the images."""
    labels = sorted((submission.folder / 'labels').glob('*.png'))
    target = submission.folder / f'ade20k_{submission.split}_{submission.name}.zip'
    with zipfile.ZipFile(target, 'w', zipfile.ZIP_STORED) as archive:
        for label in labels:
            archive.write(label, label.name)
    return [target]
