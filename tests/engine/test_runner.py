"""Filtering of console messages and warnings, and compilation."""

import logging
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from swin_backbone.engine.runner import FOR_THE_FILE, ignore_warnings, quiet_console
from swin_backbone.engine.train import QuietRunner


def test_toolkit_messages_are_written_to_the_log_file_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / 'run.log'
    logger = MMLogger('test_quiet', log_file=str(log))
    quiet_console(logger)
    for beginning in (*FOR_THE_FILE, 'This run:'):
        logger.warning(f'{beginning}, and so on')
    screen, written = capsys.readouterr().out, log.read_text()
    assert screen.count('and so on') == 1 and 'This run:, and so on' in screen
    assert written.count('and so on') == len(FOR_THE_FILE) + 1


def test_only_toolkit_warnings_are_suppressed() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter('always')
        ignore_warnings()
        warnings.warn('``build_loss`` would be deprecated soon', stacklevel=1)
        warnings.warn('the learning rate is zero', stacklevel=1)
    assert [str(warning.message) for warning in shown] == ['the learning rate is zero']


def test_compile_applies_only_to_the_forward_pass() -> None:
    """The Runner would compile whole steps, but PyTorch cannot trace the parameter groups of the optimizer."""
    runner = QuietRunner.__new__(QuietRunner)
    runner.cfg = Config(dict(compile=dict(backend='eager')))
    runner.model, runner.logger = torch.nn.Linear(2, 3), logging.getLogger('test')
    runner._maybe_compile('train_step')
    compiled = runner.model.forward
    runner._maybe_compile('val_step')
    assert runner.model.forward is compiled
    assert runner.model(torch.ones(1, 2)).shape == (1, 3)
