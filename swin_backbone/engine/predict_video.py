"""Predictions for videos and cameras: a drawn video, and one line of JSON per frame."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from swin_backbone.engine.predict import Predictor
from swin_backbone.engine.predict_files import describe
from swin_backbone.errors import InputError
from swin_backbone.evaluation.gallery import SCORE_THRESHOLD
from swin_backbone.files import replacing

CODEC = 'mp4v'
DEFAULT_RATE = 25.0
"""Frames per second of sources that do not report them, such as most cameras."""


@contextmanager
def open_video(source: Path | int) -> Iterator[Any]:
    """Open a video file, or a camera by its number.

    Raises:
        InputError: if OpenCV cannot open it.
    """
    video = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not video.isOpened():
            kind = f'camera {source}' if isinstance(source, int) else f'video {source}'
            raise InputError(f'{kind} cannot be opened: check that it exists and that OpenCV supports its format.')
        yield video
    finally:
        video.release()


def count_frames(source: Path) -> int:
    """Return the number of frames according to the video file."""
    with open_video(source) as video:
        return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))


def predict_video(
    predictor: Predictor,
    source: Path | int,
    target: Path,
    threshold: float = SCORE_THRESHOLD,
    only: Sequence[str] | None = None,
    after_frame: Callable[[], Any] = int,
) -> int:
    """Predict a video and write ``<target>.mp4`` with drawn frames and ``<target>.jsonl``; Ctrl-C stops a camera.

    Args:
        predictor: the model.
        source: a video file or a camera number.
        target: path of the outputs without suffix.
        threshold: minimum score of an object.
        only: classes to show; None for all.
        after_frame: called after each frame.

    Returns:
        The number of frames.

    Raises:
        InputError: if the source cannot be opened or has no frames.
    """
    count, writer = 0, None
    with (
        open_video(source) as video,
        replacing(Path(f'{target}.mp4')) as drawn,
        replacing(Path(f'{target}.jsonl')) as text,
    ):
        rate = video.get(cv2.CAP_PROP_FPS) or DEFAULT_RATE
        with text.open('w', encoding='utf-8') as lines:
            try:
                for frame in frames_of(video):
                    found = predictor(frame, bgr=True).select(threshold, only)
                    drawing = found.draw(threshold)
                    if writer is None:
                        size = drawing.shape[1::-1]
                        writer = cv2.VideoWriter(str(drawn), cv2.VideoWriter.fourcc(*CODEC), rate, size)
                    writer.write(drawing[..., ::-1])
                    line = {'frame': count, 'seconds': round(count / rate, 3), **describe(found)}
                    lines.write(json.dumps(line) + '\n')
                    count += 1
                    after_frame()
            except KeyboardInterrupt:
                if not isinstance(source, int):
                    raise
            finally:
                if writer is not None:
                    writer.release()
        if count == 0:
            raise InputError(f'{source} has no readable frames: check the file.')
    return count


def frames_of(video: Any) -> Iterator[Any]:
    """Yield the frames of an opened video as BGR arrays ``[H, W, 3]``."""
    while True:
        there, frame = video.read()
        if not there:
            return
        yield frame
