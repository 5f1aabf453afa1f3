"""The documentation: link targets exist, commands are accepted, Python runs, and pages are short."""

import argparse
import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from swin_backbone import SwinMixer, SwinTransformer, VideoSwinTransformer
from swin_backbone.cli import COMMANDS
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / 'docs'
PAGES = [
    REPOSITORY / 'README.md',
    REPOSITORY / 'CHANGELOG.md',
    REPOSITORY / 'CONTRIBUTING.md',
    *sorted(DOCS.glob('*.md')),
]
LONGEST = 200
BLOCK = re.compile(r'^( *)```(\w*)\n(.*?)^ *```', re.S | re.M)
LINK = re.compile(r'(?<!`)\[[^\]]*\]\(([^)\s]+)\)')
NAMES = [page.name for page in PAGES]


def text_of(name: str) -> str:
    return next(page for page in PAGES if page.name == name).read_text()


def blocks(name: str, *languages: str) -> list[str]:
    """Return the code blocks of a page, without their indentation."""
    found = BLOCK.findall(text_of(name))
    return [re.sub(f'^{indent}', '', code, flags=re.M) for indent, language, code in found if language in languages]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub and MkDocs generate for the headings of a page."""
    headings = re.findall(r'^#+ (.*)$', BLOCK.sub('', page.read_text()), re.M)
    plain = [re.sub(r'[^\w\- ]', '', re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)) for heading in headings]
    return {heading.strip().lower().replace(' ', '-') for heading in plain}


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_links_have_targets(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub('', page.read_text())):
        if link.startswith('https://'):
            continue
        file, _, anchor = link.partition('#')
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert target.is_relative_to(DOCS) or page.parent != DOCS, f'{link} is outside of the site'
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize('name', NAMES)
def test_pages_are_short(name: str) -> None:
    assert len(text_of(name).splitlines()) <= LONGEST


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r'(\w+\.md)$', (REPOSITORY / 'mkdocs.yml').read_text(), re.M)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob('*.md'))


class AcceptedError(Exception):
    """Raised when the arguments of a command are accepted, to stop it."""


def commands(name: str) -> list[list[str]]:
    """Return the calls of this project's commands in a page, split into words, up to a pipe or redirection."""
    calls = []
    for block in blocks(name, 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            match = re.search(r'(?:^|\s)(?:swin-backbone |(?:python )?tools/(?=\w+\.py))(.*)', line.partition(' #')[0])
            if match and not line.lstrip().startswith('#'):
                words = re.split(r' (?:\|\|?|&&|>|;) ', match[1])[0]
                calls.append(shlex.split(words))
    return [[words[0].removesuffix('.py').replace('_', '-'), *words[1:]] for words in calls if words]


@pytest.mark.parametrize('name', NAMES)
def test_commands_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def accepting(parse: Any) -> Any:
        def accept(parser: argparse.ArgumentParser, *arguments: Any) -> None:
            parse(parser, *arguments)
            raise AcceptedError

        return accept

    for parse in ('parse_args', 'parse_intermixed_args'):
        monkeypatch.setattr(argparse.ArgumentParser, parse, accepting(getattr(argparse.ArgumentParser, parse)))
    for command, *words in commands(name):
        if command == 'COMMAND':
            continue
        assert command in COMMANDS, command
        main = import_module(f'swin_backbone.cli.{command.replace("-", "_")}').main
        with pytest.raises(AcceptedError):
            main(words)


ONE_STAGE = dict(variant=None, embed_dim=24, depths=(1,), num_heads=(1,), out_indices=(0,))
SIZES = dict(variant=None, embed_dim=24, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8))
RUN_ELSEWHERE = {
    'adapters.md': 'tests/adapters/test_examples.py',
    'troubleshooting.md': 'tests/engine/test_finite_loss.py',
}
"""Pages whose Python is run by another test."""

OPTIONAL = 'sahi', 'supervision', 'mmdet', 'onnxruntime'
"""Packages without which a block that uses them is only compiled."""

SMALLER = {
    "backbone = SwinTransformer('tiny')": 'backbone = SwinTransformer(**ONE_STAGE)',
    '801, 1203': '81, 123',
    "'tiny', window_size=12": 'window_size=12, **SIZES',
    "load_pretrained(model, 'swin_t_in1k')": "load_pretrained(model, 'v1.pth')",
    "SwinTransformer('tiny')": 'SwinTransformer(**SIZES)',
    "'swin_mixer_t_c24_in1k'": "'mixer.pth'",
    "VideoSwinTransformer('base'": "VideoSwinTransformer('tiny'",
    '(200, 320)': '(20, 32)',
    "'video_swin_b_in22k_k400'": "'video.pth'",
    "load_classifier('swin_t_in1k')": "load_classifier('classifier.pth')",
    "'swin_t_in1k', pretrained=True": "'swin_t_in1k'",
    "Predictor('cascade_swin_t_3x', 'released')": "Predictor('detector.py', 'detector.pth', 'cpu')",
    "'cascade_swin_demo', 'work_dirs/demo/best_coco_bbox_mAP_epoch_8.pth'": "'detector.py', 'detector.pth', 'cpu'",
    "'work_dirs/demo/best_coco_bbox_mAP_epoch_8.pth'": "'detector.pth'",
    "'work_dirs/demo/cascade_swin_demo.py'": "'detector.py'",
    "'large.png'": "'dog.jpg'",
    "'data/shapes/val2017/000000100000.jpg'": "'dog.jpg'",
    "['dog', 'cat']": "['ring', 'star']",
}
"""Replacements of code in pages, to avoid downloads and slow models."""


def stand_ins() -> dict[str, Any]:
    """Write checkpoints to the current folder, and return the variables that pages use without defining them."""
    model = SwinTransformer(**SIZES).eval()
    torch.save(model.state_dict(), 'v1.pth')
    classifier = {name: value for name, value in model.state_dict().items() if not name.startswith('norm')}
    classifier |= {'norm.weight': torch.ones(192), 'norm.bias': torch.zeros(192)}
    torch.save(classifier | {'head.weight': torch.zeros(10, 192), 'head.bias': torch.zeros(10)}, 'classifier.pth')
    torch.save(SwinMixer('tiny_c24').state_dict(), 'mixer.pth')
    torch.save(VideoSwinTransformer('tiny').state_dict(), 'video.pth')
    image = torch.zeros(1, 3, 64, 96)
    Image.new('RGB', (96, 64)).save('dog.jpg')
    return dict(
        SIZES=SIZES,
        ONE_STAGE=ONE_STAGE,
        model=model,
        backbone=model,
        image=image,
        images=image,
        clip=torch.zeros(1, 3, 4, 32, 32),
        H=64,
        W=96,
    )


def is_config(code: str) -> bool:
    return re.match(r'(_base_|model|custom_imports|backbone) ?=', code) is not None


def write_detector() -> None:
    """Write the config and the random weights of a small detector to the current folder."""
    from tests.demo_models import DETECTION, build_model, demo_config

    config = demo_config(DETECTION, Path())
    config.dump('detector.py')
    torch.save(dict(state_dict=build_model(config).state_dict(), meta={}), 'detector.pth')


@pytest.mark.parametrize('name', [name for name in NAMES if name not in RUN_ELSEWHERE and blocks(name, 'python')])
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = stand_ins()
    if 'Predictor' in text_of(name):
        pytest.importorskip('mmdet')
        write_detector()
    for code in blocks(name, 'python'):
        for written, run in SMALLER.items():
            code = code.replace(written, run)
        if is_config(code):
            check_config(code, tmp_path / 'config.py')
        elif all(find_spec(package) for package in OPTIONAL if package in code):
            exec(compile(code, name, 'exec'), names)
        else:
            compile(code, name, 'exec')


def check_config(code: str, path: Path) -> None:
    """Read a config and build its backbone, or parse it if it is a part of one."""
    if not code.startswith('_base_'):
        compile(code.replace(', ...)', ')'), 'config', 'exec')
        return
    pytest.importorskip('mmdet')
    from mmengine.config import Config

    path.write_text(code)
    config = Config.fromfile(path, import_custom_modules=False)  # a custom import could replace classes for later tests
    backbone = config.model.backbone
    if 'swin_backbone' in backbone.type:
        assert backbone.type == 'swin_backbone.SwinTransformer'
        options = {key: value for key, value in backbone.items() if key not in ('type', 'init_cfg')}
        with torch.device('meta'):
            channels = SwinTransformer(**options).feature_info.channels()
        assert channels == config.model.get('neck', config.model.get('decode_head')).in_channels
