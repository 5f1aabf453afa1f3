"""The command `prepare-data`: exit codes, error messages and report."""

import subprocess
import sys
from dataclasses import fields

import pytest

from swin_backbone.cli import prepare_data, run
from swin_backbone.datasets.generated import read_data_set
from swin_backbone.datasets.shapes import ShapesSpec
from tests.conftest import REPOSITORY

pytest.importorskip('PIL.Image', reason='Pillow is not installed')

TOOL = REPOSITORY / 'tools' / 'prepare_data.py'
SMALL = ('--train-count', '3', '--val-count', '2', '--objects', '1', '3')


@pytest.fixture
def prepare(capsys):

    def call(*options: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(prepare_data.main, [str(option) for option in options])
        return ended.value.code, *capsys.readouterr()

    return call


def test_shapes_are_generated_once(prepare, tmp_path):
    root = tmp_path / 'my shapes'
    code, report, errors = prepare('shapes', '--root', root, *SMALL)
    assert (code, errors) == (0, '')
    assert 'train: 3 images' in report
    assert f"swin-backbone train cascade_swin_demo --data-root '{root}'" in report
    assert read_data_set(root, ShapesSpec(train_count=3, val_count=2, objects=(1, 3))) is not None
    for check in ((), ('--check',)):
        code, report, _ = prepare('shapes', '--root', root, *SMALL, *check)
        assert code == 0
        assert 'complete, nothing to do' in report


@pytest.mark.parametrize(
    ('options', 'sentence'),
    [
        ((), 'DATA_SET'),
        (('imagenet',), 'imagenet'),
        (('shapes', '--seed', 'x'), '--seed'),
        (('shapes', '--objects', '4', '2'), 'got 4 and 2'),
        (('shapes', '--root', TOOL.parent), 'something other than the shapes data set'),
        (('shapes', '--root', TOOL / 'none'), 'cannot be created'),
        (('shapes', '--root', TOOL.parent / 'none', '--check'), 'contains no data set yet'),
    ],
)
def test_invalid_input_exits_with_2_and_one_sentence(prepare, options, sentence):
    code, report, errors = prepare(*options)
    assert (code, report) == (2, '')
    assert sentence in errors
    assert errors.count('\n') == 1


def test_check_reads_all_images_and_names_a_broken_one(prepare, tmp_path):
    prepare('shapes', '--root', tmp_path / 'data', *SMALL)
    path = tmp_path / 'data/train2017/000000000002.jpg'
    path.write_bytes(path.read_bytes()[:-200])
    assert prepare('coco', '--root', tmp_path / 'data')[0] == 0
    code, report, errors = prepare('coco', '--root', tmp_path / 'data', '--check')
    assert code == 2 and 'WRONG: has 1 image that cannot be read (000000000002.jpg: cut off)' in report
    assert '000000000002.jpg: cut off' in errors and errors.count('\n') == 1


def test_help_lists_every_option(prepare):
    code, text, _ = prepare('shapes', '--help')
    assert code == 0
    assert 'example:' in text
    for knob in fields(ShapesSpec):
        assert f'--{knob.name.replace("_", "-")} ' in text


def test_the_tool_runs_as_a_script():
    ended = subprocess.run([sys.executable, TOOL, '--help'], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert 'shapes' in ended.stdout
