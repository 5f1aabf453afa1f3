"""Checkpoints of a run: atomic writing, and deletion of old ones only after a newer one is complete."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from swin_backbone.errors import RunFailure
from swin_backbone.files import replacing, write_text

POINTER = 'last_checkpoint'
INTERRUPTED = 'interrupted.pth'
"""Checkpoint that is saved when a signal stops a run; it is deleted once a later checkpoint is complete."""

EVALUATED = 'evaluated_at'
"""Message hub key of the iteration of the last finished evaluation."""

BACKEND = 'swin_backbone.whole_files'
UNFINISHED = re.compile(r'\..+\.pth\.\w{8}\.pth')
"""Names of the temporary files of :func:`swin_backbone.files.replacing`."""


class WholeFileBackend(LocalBackend):
    """mmengine's local file backend with atomic writes: a file gets its name once it is complete and on disk."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file atomically.

        Raises:
            RunFailure: if it cannot be written; an existing file is kept.
        """
        try:
            with replacing(Path(filepath)) as part:
                part.write_bytes(obj)
        except OSError as error:
            raise RunFailure(
                f'{filepath} cannot be written ({error.strerror or error}): earlier checkpoints are kept. Free disk '
                'space or fix the permissions, then continue with --resume.'
            ) from error


register_backend(BACKEND, WholeFileBackend, force=True)


class RunCheckpointHook(CheckpointHook):
    """mmengine's hook, except that a checkpoint is completed before the one that it replaces is deleted."""

    backend_args: dict[str, Any] | None
    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend=BACKEND)

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder, and delete temporary files of a process that was killed while writing."""
        info = runner.message_hub.runtime_info
        # Checkpoints with these numbers will be deleted, so values from a file must be integers.
        info['keep_ckpt_ids'] = [number for number in info.get('keep_ckpt_ids', ()) if isinstance(number, int)]
        super().before_train(runner)
        if self.save_best and len(self.key_indicators) == 1:
            self.best_ckpt_path = self.best_in_folder(self.best_ckpt_path)
        elif self.save_best:
            self.best_ckpt_path_dict = {
                name: self.best_in_folder(path) for name, path in self.best_ckpt_path_dict.items()
            }
        if is_main_process() and os.path.isdir(self.out_dir):
            for path in temporary_files(Path(self.out_dir)):
                path.unlink()

    def best_in_folder(self, path: str | None) -> str | None:
        """Return the path of a best checkpoint in the current folder, which may have been moved; None for others."""
        name = os.path.basename(str(path))
        return self.file_backend.join_path(self.out_dir, name) if name.startswith('best_') else None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Record that the evaluation is finished, and save the best checkpoint."""
        runner.message_hub.update_info(EVALUATED, runner.iter)
        super().after_val_epoch(runner, metrics)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Write a checkpoint, update ``last_checkpoint``, then delete old checkpoints."""
        self.last_ckpt = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        old: list[int] = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            listed = [*self.keep_ckpt_ids, step]
            # The list includes the checkpoint deleted below: if the run is killed before, it is deleted after resuming.
            runner.message_hub.update_info('keep_ckpt_ids', listed)
            self.keep_ckpt_ids.append(step)
            old = listed[: -len(self.keep_ckpt_ids)]
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_pointer(runner, self.last_ckpt)
            for name in (*(self.filename_tmpl.format(number) for number in old), INTERRUPTED):
                path = self.file_backend.join_path(self.out_dir, name)
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Write the best checkpoint, then delete the previous best one."""
        absent = (
            [name for name in self.key_indicators if name != 'auto' and name not in metrics] if self.save_best else []
        )
        if absent:
            runner.logger.warning(
                f'No best checkpoint is saved: there is no {", ".join(absent)} among the metrics {", ".join(metrics)}.'
            )
            return
        old: list[str] = []
        with patch.object(self.file_backend, 'remove', old.append):
            super()._save_best_checkpoint(runner, metrics)
        for path in old:
            self.file_backend.remove(path)


def temporary_files(folder: Path) -> Iterator[Path]:
    """Yield the temporary files of checkpoints in a folder."""
    return (path for path in list(folder.iterdir()) if UNFINISHED.fullmatch(path.name))


def write_pointer(runner: Runner, path: str) -> None:
    """Write the path of the newest checkpoint to ``last_checkpoint``, relative so that the folder can be moved."""
    relative = path if '://' in path else os.path.relpath(path, runner.work_dir)
    write_text(Path(runner.work_dir) / POINTER, relative)


def save_interrupted(runner: Runner, iteration: int) -> Path:
    """Save a run that is stopped between two scheduled checkpoints.

    Args:
        runner: the runner after ``iteration`` iterations.
        iteration: number of finished iterations.

    Returns:
        The checkpoint file.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, RunCheckpointHook)), None)
    folder, backend = (hook.out_dir, hook.backend_args) if hook else (runner.work_dir, dict(backend=BACKEND))
    meta = dict(epoch=runner.epoch, iter=iteration)
    runner.save_checkpoint(folder, INTERRUPTED, meta=meta, by_epoch=False, backend_args=backend)
    path = os.path.join(folder, INTERRUPTED)
    if is_main_process():
        write_pointer(runner, path)
    return Path(path)
