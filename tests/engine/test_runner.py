"""What the screen is spared, and the log file is not."""

import warnings
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from swin_backbone.engine.runner import FOR_THE_FILE, ignore_warnings, quiet_console


def test_words_about_the_toolkits_stay_in_the_log_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / 'run.log'
    logger = MMLogger('test_quiet', log_file=str(log))
    quiet_console(logger)
    for beginning in (*FOR_THE_FILE, 'This run:'):
        logger.warning(f'{beginning}, and so on')
    screen, written = capsys.readouterr().out, log.read_text()
    assert screen.count('and so on') == 1 and 'This run:, and so on' in screen
    assert written.count('and so on') == len(FOR_THE_FILE) + 1


def test_warnings_that_the_user_can_act_on_are_shown() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter('always')
        ignore_warnings()
        warnings.warn('``build_loss`` would be deprecated soon', stacklevel=1)
        warnings.warn('the learning rate is zero', stacklevel=1)
    assert [str(warning.message) for warning in shown] == ['the learning rate is zero']
