"""Compare MMSwinTransformer with the toolkits' SwinTransformer for every Swin backbone in their installed configs."""

import copy
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from swin_backbone.backbones.mm_swin import MMSwinTransformer
from swin_backbone.doctor import version
from swin_backbone.engine.error_explanations import dicts_with_paths
from swin_backbone.errors import InputError
from swin_backbone.evaluation.tables import markdown_table

TOOLKITS = ('mmdet', 'mmseg')
IMAGE = (75, 93)
"""Height and width of the test image; both need padding for patches, windows and merging."""

TOLERANCE = 1e-5
"""Maximum difference of a feature map, relative to its largest value."""

HEADING = '## Results'
HEADER = ('backbone', 'configs', 'names', 'state dict', 'optimizer groups', 'worst error', 'outcome')
COLUMNS = f'{"backbone":<58}{"configs":>8}{"worst error":>14}  outcome'


@dataclass(frozen=True)
class Use:
    """A Swin backbone in a config.

    Attributes:
        config: path of the config in the folder of configs.
        path: dotted path of the backbone in the model.
        arguments: arguments of the backbone, without its type and initial weights.
        optimizer: learning rate, weight decay and ``paramwise_cfg``.
    """

    config: str
    path: str
    arguments: dict[str, Any]
    optimizer: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Key for grouping; equal for equal arguments."""
        return json.dumps(self.arguments, sort_keys=True, default=str)


@dataclass(frozen=True)
class Comparison:
    """The result for one backbone.

    Attributes:
        toolkit: the toolkit with the reference class.
        uses: the configs with this backbone.
        names: whether all parameters have the same names in the same order.
        loaded: whether each state dict loads strictly into the other and both are then equal.
        groups: whether each config's optimizer gives every parameter the same learning rate and weight decay.
        error: largest difference of a map, relative to its largest value.
        failure: reason why there was no comparison; empty if there was one.
    """

    toolkit: str
    uses: tuple[Use, ...]
    names: bool = False
    loaded: bool = False
    groups: bool = False
    error: float = float('nan')
    failure: str = ''

    @property
    def passed(self) -> bool:
        """Whether everything is equal."""
        return self.names and self.loaded and self.groups and self.error < TOLERANCE and not self.failure

    @property
    def outcome(self) -> str:
        """The failure, 'equal' or 'DIFFERENT'."""
        return self.failure or ('equal' if self.passed else 'DIFFERENT')

    @property
    def label(self) -> str:
        """Toolkit and name of the first config."""
        return f'{self.toolkit}: {Path(self.uses[0].config).stem}'

    def row(self) -> str:
        """Format as a line of the table under :data:`COLUMNS`."""
        return f'{self.label[:56]:<58}{len(self.uses):>8}{self.error:>14.1e}  {self.outcome}'


def config_folder(toolkit: str) -> Path:
    """Return the folder of a toolkit's installed configs.

    Raises:
        InputError: if the toolkit or its configs are not installed.
    """
    spec = find_spec(toolkit)
    if spec is None or spec.origin is None:
        raise InputError(f'{toolkit} is not installed: install it for the comparison.')
    folder = Path(spec.origin).parent / '.mim' / 'configs'
    if not folder.is_dir():
        raise InputError(f'{folder} is missing: install {toolkit} with its configs, as in its wheel or with mim.')
    return folder


@cache
def find_uses(toolkit: str) -> tuple[Use, ...]:
    """Find every Swin backbone in the resolved configs of a toolkit; reading them takes a minute."""
    folder = config_folder(toolkit)
    uses: list[Use] = []
    for path in sorted(folder.rglob('*.py')):
        name = path.relative_to(folder)
        # A config that inherits a Swin backbone contains 'swin' in the name of its base.
        if '_base_' not in name.parts and 'swin' in path.read_text(encoding='utf-8').lower():
            uses += uses_in(Config.fromfile(path, import_custom_modules=False, format_python_code=False), str(name))
    return tuple(uses)


def uses_in(config: Config, name: str) -> list[Use]:
    """Return the Swin backbones of one config."""
    wrapper = config.get('optim_wrapper') or {}
    optimizer = {key: (wrapper.get('optimizer') or {}).get(key) for key in ('lr', 'weight_decay')}
    optimizer['paramwise_cfg'] = wrapper.get('paramwise_cfg')
    uses = []
    for path, node in dicts_with_paths(config.get('model'), ''):
        if str(node.get('type')).rpartition('.')[2] == 'SwinTransformer':
            left_out = ('type', 'init_cfg', 'pretrained', '_scope_')
            arguments = {key: value for key, value in node.items() if key not in left_out}
            uses.append(Use(name, path, plain(arguments), plain(optimizer)))
    return uses


def plain(value: Any) -> Any:
    """Convert a config value to built-in types."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


def compare_all(toolkits: Sequence[str] = TOOLKITS) -> Iterator[Comparison]:
    """Compare every distinct backbone once.

    Raises:
        InputError: if a toolkit or its configs are missing.
    """
    for toolkit in toolkits:
        alike: dict[str, list[Use]] = {}
        for use in find_uses(toolkit):
            alike.setdefault(use.key, []).append(use)
        for uses in alike.values():
            yield compare(toolkit, tuple(uses))


def compare(toolkit: str, uses: tuple[Use, ...]) -> Comparison:
    """Compare the backbone of ``uses`` with the toolkit's class, with the same random weights."""
    stock_class = import_module(f'{toolkit}.models.backbones.swin').SwinTransformer
    try:
        stock = stock_class(**copy.deepcopy(uses[0].arguments))
        ours = MMSwinTransformer(**copy.deepcopy(uses[0].arguments))
    except (InputError, TypeError, AssertionError) as error:
        return Comparison(toolkit, uses, failure=f'not built: {error}')
    names = [name for name, _ in stock.named_parameters()] == [name for name, _ in ours.named_parameters()]
    randomize(stock)
    try:
        ours.load_state_dict(stock.state_dict(), strict=True)
        stock.load_state_dict(ours.state_dict(), strict=True)
    except RuntimeError as error:
        return Comparison(toolkit, uses, names, failure=f'not loaded: {str(error).splitlines()[0]}')
    state, expected = ours.state_dict(), stock.state_dict()
    loaded = state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
    groups = all(same_groups(stock, ours, use) for use in uses)
    return Comparison(toolkit, uses, names, loaded, groups, map_error(ours, stock))


def randomize(model: nn.Module) -> None:
    """Set random parameters with a scale at which the values of feature maps are of order one."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 or 'table' in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5)


def map_error(ours: Any, stock: Any) -> float:
    """Return the largest difference of the maps of an image, relative to the largest value of the map."""
    ours.train(False)
    stock.train(False)
    image = torch.randn(1, ours.options.in_channels, *IMAGE)
    with torch.no_grad():
        pairs = list(zip(ours(image), stock(image), strict=True))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def same_groups(stock: nn.Module, ours: nn.Module, use: Use) -> bool:
    """Whether a config's optimizer gives the parameters of both backbones the same learning rates and weight decays."""
    with quiet():
        return groups(stock, use) == groups(ours, use)


def groups(backbone: nn.Module, use: Use) -> dict[str, tuple[Any, Any]]:
    """Return learning rate and weight decay of every parameter by name, in a model that consists of the backbone."""
    model = backbone
    for name in reversed(use.path.split('.')):
        outer = nn.Module()
        outer.add_module(name, model)
        model = outer
    rate, decay = use.optimizer.get('lr'), use.optimizer.get('weight_decay')
    constructor = DefaultOptimWrapperConstructor(
        dict(optimizer=dict(type='AdamW', lr=rate, weight_decay=decay)), use.optimizer.get('paramwise_cfg')
    )
    found: list[dict[str, Any]] = []
    constructor.add_params(found, model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(group['params'][0])]: (group.get('lr', rate), group.get('weight_decay', decay)) for group in found}


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress mmengine's log line for every parameter."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def summary(comparisons: Sequence[Comparison]) -> str:
    """Summarise all comparisons in one sentence."""
    configs = len({(c.toolkit, use.config) for c in comparisons for use in c.uses})
    built = [c for c in comparisons if not c.failure]
    worst = max((c.error for c in built), default=float('nan'))
    counts = ', '.join(
        f'{sum(getattr(c, name) for c in built)} {text}'
        for name, text in (
            ('names', 'with the same names in the same order'),
            ('loaded', 'with state dicts that load strictly in both directions'),
            ('groups', 'with the same optimizer groups in all their configs'),
        )
    )
    return (
        f'{configs} configs with {len(comparisons)} different backbones: {len(built)} built, {counts}; worst relative '
        f'error of a map {worst:.1e}.'
    )


def as_markdown(comparisons: Sequence[Comparison], command: str) -> str:
    """Format the section on all comparisons."""
    versions = ', '.join(f'{name} {version(name)}' for name in ('torch', 'mmengine', 'mmcv', *TOOLKITS))
    yes = {True: 'equal', False: 'DIFFERENT'}
    rows = [
        (c.label, str(len(c.uses)), yes[c.names], yes[c.loaded], yes[c.groups], f'{c.error:.1e}', c.outcome)
        for c in comparisons
    ]
    parts = [HEADING, summary(comparisons), f'Generated by `{command}` with {versions}.']
    return '\n\n'.join([*parts, markdown_table(HEADER, rows, left=(0, 6))]) + '\n'


def put_into(page: str, section: str) -> str:
    """Replace the last section of a page, from :data:`HEADING` on, or append it if the page does not have it."""
    before = re.split(rf'^{HEADING}$', page, maxsplit=1, flags=re.MULTILINE)[0]
    return f'{before.rstrip()}\n\n{section}' if before.strip() else section
