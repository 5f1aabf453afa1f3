"""Predictions of videos and cameras: a drawn video, and a line of JSON for each frame."""

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
"""Frames per second of a source that does not say them, as most cameras do not."""


@contextmanager
def opened(source: Path | int) -> Iterator[Any]:
    """Open a video file, or a camera by its number.

    Raises:
        InputError: OpenCV cannot.
    """
    video = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not video.isOpened():
            kind = f'camera {source}' if isinstance(source, int) else f'video {source}'
            raise InputError(f'{kind} cannot be opened: check that it is there and that OpenCV knows its format.')
        yield video
    finally:
        video.release()


def count_frames(source: Path) -> int:
    """The number of frames according to the video file."""
    with opened(source) as video:
        return max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))


def predict_video(
    predictor: Predictor,
    source: Path | int,
    target: Path,
    threshold: float = SCORE_THRESHOLD,
    only: Sequence[str] | None = None,
    after_frame: Callable[[], Any] = int,
) -> int:
    """Write ``<target>.mp4`` with drawn frames, and ``<target>.jsonl``; a camera is read until Ctrl-C.

    Args:
        predictor: the model.
        source: a video file, or the number of a camera.
        target: the outputs without an ending.
        threshold: least score of an object.
        only: the classes that are shown; all of them for None.
        after_frame: called after each frame.

    Returns:
        The number of frames.

    Raises:
        InputError: the source cannot be opened or has no frame.
    """
    count, writer = 0, None
    with opened(source) as video, replacing(Path(f'{target}.mp4')) as drawn, replacing(Path(f'{target}.jsonl')) as text:
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
            raise InputError(f'{source} has no frame that can be read: check the file.')
    return count


def frames_of(video: Any) -> Iterator[Any]:
    """The frames of an opened video, BGR ``[H, W, 3]``."""
    while True:
        there, frame = video.read()
        if not there:
            return
        yield frame
