"""Changes of a config before a run, and what must be there for it."""

from pathlib import Path

import pytest

from swin_backbone.engine.config import check_data, missing_data
from swin_backbone.errors import InputError
from tests.toolkits import SEGMENTATION, demo_config


def test_a_file_in_the_place_of_a_folder_is_missing_data(tmp_path: Path) -> None:
    config = demo_config(SEGMENTATION, tmp_path)
    for folder in ('images/training', 'annotations/training'):
        (tmp_path / folder).mkdir(parents=True)
    assert missing_data(config, ('train_dataloader',)) == []
    (tmp_path / 'images/training').rmdir()
    (tmp_path / 'images/training').write_text('../../photographs')  # a link that a copy did not keep
    with pytest.raises(InputError, match=r'images/training not found; give its folder with --data-root'):
        check_data(config, ('train_dataloader',))
