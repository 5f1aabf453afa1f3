"""Load weights into a backbone, directly or through ``load_state_dict``."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Size, Tensor, nn

from swin_backbone.checkpoint.assign import assign
from swin_backbone.checkpoint.convert import Found, find_backbone, official_to_unfold, reorder_merges
from swin_backbone.checkpoint.find import find_file
from swin_backbone.checkpoint.layouts import MMDET, NATIVE_MERGE, NATIVE_NORM, ORIGINAL, fill, parse, rename
from swin_backbone.checkpoint.network_kind import IMAGE, VIDEO, check_network, network_of, with_final_norm
from swin_backbone.checkpoint.output_norms import State, decide_output_norms, last_stage
from swin_backbone.checkpoint.parameter_names import (
    has_toolkit_names,
    modules_of,
    native,
    parameters_of,
    state_dict_names,
)
from swin_backbone.checkpoint.report import LoadReport, advice, anatomy_of
from swin_backbone.checkpoint.resize import (
    EMBEDDING,
    PATCH,
    QKV,
    TABLE,
    MisfitError,
    fit_bias,
    fit_embedding,
    fit_patches,
    fit_values,
    fit_volume,
    shapes_differ,
    window_warnings,
)
from swin_backbone.errors import InputError

LOGGER = logging.getLogger('swin_backbone')
BUFFERS = ('attn_mask', 'relative_position_index', 'relative_coords_table')
BACKBONE_PREFIXES = ('patch_embed.', 'layers.')
QUERIES = ('.attn.logit_scale', '.attn.q_bias')
BIASES = ('.relative_position_bias_table', '.cpb_mlp.0.weight', '.cpb_mlp.0.bias', '.cpb_mlp.2.weight')


def load_pretrained(
    model: nn.Module, source: str | os.PathLike[str] | Mapping[str, Any], strict: bool = True
) -> LoadReport:
    """Load weights in any known layout into ``model``, completely or not at all.

    Args:
        model: a :class:`swin_backbone.SwinTransformer`, a :class:`swin_backbone.SwinMixer`, or a
            :class:`swin_backbone.VideoSwinTransformer`, which also accepts image weights.
        source: a name, path or URL accepted by :func:`.find.find_file`: a checkpoint file, an index of shards or a
            folder, of a backbone, a classifier or a whole detector; or a state dict.
        strict: if False, load what fits and list the rest in the report and in a warning.

    Returns:
        A report of the parameters that were loaded, resized, kept at their initial values and dropped; also logged.

    Raises:
        InputError: if the file cannot be found or read, contains no Swin backbone or another network, or (if strict)
            does not cover ``model``, or the model cannot be loaded. The model is then unchanged.
    """
    check_model(model)
    if isinstance(source, Mapping):
        return load_found(model, find_backbone(source, 'the state dict'), 'the state dict', strict)
    from swin_backbone.checkpoint.read import read_checkpoint  # needs numpy, which a backbone does not

    path = find_file(source)
    return load_found(model, find_backbone(read_checkpoint(path), str(path)), str(path), strict)


def check_model(model: nn.Module) -> None:
    """Raise an error if the parameters of ``model`` are not those of a whole backbone."""
    parameters = parameters_of(model)
    if PATCH not in parameters:
        inner = next((name.removesuffix(f'.{PATCH}') for name in parameters if name.endswith(f'.{PATCH}')), None)
        hint = 'pass a SwinTransformer' if inner is None else f'pass its submodule {inner!r}'
        raise InputError(f'weights can be loaded into a backbone, not into a {type(model).__name__}: {hint}.')
    if parameters[PATCH].dim() not in (4, 5):
        raise InputError('this backbone is already sharded or quantised: load its weights first.')


def load_found(model: nn.Module, found: Found, source: str, strict: bool = True) -> LoadReport:
    """Load the result of :func:`.convert.find_backbone` as :func:`load_pretrained` does."""
    values, report = match_found(model, found, source, strict)
    assign(model, values, report.new)
    for module in model.modules():
        mark_as_loaded(module)
    announce(report)
    return report


def mark_as_loaded(module: nn.Module) -> None:
    """Mark a backbone created on 'meta' as loaded, so that ``init_weights`` keeps its weights."""
    if getattr(module, 'is_uninitialized', False):
        vars(module)['is_uninitialized'] = False


def match(
    model: nn.Module, checkpoint: Mapping[str, Any], source: str, strict: bool = True
) -> tuple[State, LoadReport]:
    """Find the backbone in a checkpoint and match it to ``model`` without changing either; see :func:`merge`.

    Raises:
        InputError: if there is no Swin backbone in it, or (if strict) it does not cover ``model``.
    """
    return match_found(model, find_backbone(checkpoint, source), source, strict)


def match_found(model: nn.Module, found: Found, source: str, strict: bool) -> tuple[State, LoadReport]:
    """:func:`match` for the result of :func:`.convert.find_backbone`."""
    check_network(found.state, parameters_of(model), source)
    values, report = merge(found, model, source)
    if not strict or report.complete:
        return values, report
    file, model_sizes = anatomy_of(found.state), anatomy_of(parameters_of(model))
    changes = advice(file, model_sizes, toolkit=has_toolkit_names(model))
    cause = f'it needs a backbone built with {", ".join(changes)}' if changes else 'it is damaged or of another network'
    raise InputError(
        f'{source} does not fit this backbone, and nothing was loaded: it contains {file} in the {report.dialect} '
        f'layout, the backbone is {model_sizes}; {"; ".join(report.problems())}. Most likely {cause} (strict=False of '
        'load_pretrained loads what fits).'
    )


def convert_on_load(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Pre-hook of ``load_state_dict`` that translates other layouts and leaves everything else to PyTorch.

    Keys are renamed to the backbone's, tables and kernels are resized, and entries that are not part of a backbone
    (buffers, a classifier's norm and head) are removed. Output norms keep their values if the file is a classifier's.
    PyTorch then reports missing and unexpected keys and wrong shapes as usual. Weights that already fit are unchanged.

    Args:
        module: the backbone.
        state_dict: the weights of the whole model that is loaded; modified in place.
        prefix: the path of the backbone in that model, with a trailing dot.
    """
    given = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    if given:
        mark_as_loaded(module)
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if all(name in named and isinstance(v, Tensor) and v.shape == named[name].shape for name, v in given.items()):
        return
    label = f'the part {prefix.rstrip(".")!r} of the state dict' if prefix else 'the state dict'
    try:
        found = find_backbone(given, label)
    except InputError:
        return
    parameters, own = parameters_of(module), {native(name) for name in named}
    network = network_of(parameters)
    if network_of(found.state) != network:
        return
    values, report = merge(found, module, label)
    foreign = found.layout != ORIGINAL.name or 'norm.weight' in {*found.state, *found.names}
    rule = decide_output_norms(found.state, (), parameters, final=network == VIDEO)
    classifier = foreign and rule.partial
    kept = {
        name: values.get(name, value)
        for name, value in found.state.items()
        if not (classifier and rule.may_be_new(name)) and (name in own or not belongs_to_layout(name, classifier))
    }
    norms = set(filter(rule.may_be_new, parameters))
    expected = state_dict_names(named)
    toolkit = has_toolkit_names(module)
    out = {
        expected.get(name, rename(name, MMDET, back=True) if toolkit else name): value for name, value in kept.items()
    }
    if out.keys() == found.names and all(value is given.get(name) for name, value in out.items()):
        return
    if classifier and parameters.keys() - kept.keys() == norms:
        out.update({expected[name]: parameters[name].detach() for name in norms})
    for name, value in given.items():
        if name in found.names or isinstance(value, Mapping):
            del state_dict[prefix + name]
    state_dict.update({prefix + name: value for name, value in out.items()})
    announce(report)


def belongs_to_layout(name: str, classifier: bool) -> bool:
    """Whether ``name``, which this backbone does not have, is an entry that its layout adds to a backbone."""
    return name.rpartition('.')[2] in BUFFERS or (classifier and name.startswith(('norm.', 'head.', 'mask_token')))


def announce(report: LoadReport) -> None:
    """Log the report in one line, and each of its warnings."""
    LOGGER.log(logging.INFO if report.complete else logging.WARNING, '%s', report)
    for warning in report.warnings:
        LOGGER.warning('%s: %s', report.source, warning)


def merge(found: Found, model: nn.Module, source: str) -> tuple[State, LoadReport]:
    """Match ``found`` to ``model`` without changing either.

    A parameter of the model may be absent from the file only if it is the absolute embedding, an output norm that
    :func:`.output_norms.decide_output_norms` allows to be new, or, under the toolkits' names, part of an added stage.
    :func:`may_be_dropped` decides which weights of the file may be unused.

    Returns:
        A value in the model's shape for every parameter that the file covers, and the report.
    """
    wanted, modules = parameters_of(model), modules_of(model)
    network = network_of(wanted)
    if network == VIDEO:
        found = replace(found, state=with_final_norm(found.state))
    norms = decide_output_norms(found.state, found.numbered, wanted, final=network == VIDEO)
    optional = {name for name in wanted if name == EMBEDDING or norms.may_be_new(name)}
    values: State = {}
    adapted: dict[str, str] = {}
    misfits: dict[str, str] = {}
    for name in wanted:
        if name not in found.state or norms.may_be_new(name):
            continue
        try:
            values[name], note = fit(name, found.state, wanted, modules)
        except (MisfitError, RuntimeError, IndexError) as error:
            misfits[name] = str(error).splitlines()[0]
        else:
            adapted.update({name: note} if note else {})
    if has_toolkit_names(model):
        values = reorder_merges(values, official_to_unfold)
        optional |= added_stages(found.state, wanted)
    absent = [name for name in wanted if name not in values and name not in misfits]
    unused = {name: may_be_dropped(name, wanted) for name in found.state if name not in values and name not in misfits}
    new = tuple(name for name in absent if name in optional)
    dropped = tuple(name for name, allowed in unused.items() if allowed)
    report = LoadReport(
        source=source,
        dialect=found.layout,
        network=network_of(found.state),
        version=found.version,
        loaded=tuple(values),
        total=len(wanted),
        adapted=adapted,
        new=new,
        dropped=dropped,
        beside=found.other_tensors,
        ignored=found.ignored,
        missing=tuple(name for name in absent if name not in optional),
        leftover=tuple(name for name, allowed in unused.items() if not allowed),
        misfits=misfits,
        strange_norms=norms.unrecognised,
        warnings=(
            *position_warnings(new, dropped, wanted),
            *stage_warnings(found.state, new),
            *window_warnings(found.state, model),
        ),
    )
    return values, report


def added_stages(state: Iterable[str], wanted: Iterable[str]) -> set[str]:
    """Return the parameters of stages after the last one in a file, and of the merging layer before them."""
    last = last_stage(state)
    if last >= last_stage(wanted):
        return set()
    places = {name: parse('layers.{stage}.', name) or parse(NATIVE_NORM, name) for name in wanted}
    merge = fill(NATIVE_MERGE, last)
    return {name for name, place in places.items() if (place and place[0] > last) or name.startswith(merge)}


def has_bias(names: Iterable[str]) -> bool:
    """Whether ``names`` include a relative position bias."""
    return any(name.endswith(BIASES) for name in names)


def values_only(wanted: Mapping[str, Tensor]) -> bool:
    """Whether attention has no queries and keys, as with ``position_encoding='relative-only'``."""
    projection = next((parameter for name, parameter in wanted.items() if name.endswith(QKV[0])), None)
    return projection is not None and projection.shape[0] == projection.shape[1]


def may_be_dropped(name: str, wanted: Mapping[str, Tensor]) -> bool:
    """Whether ``name`` in a file may be dropped if it is not among the parameters ``wanted`` of the model.

    This holds for buffers, heads, norms of other outputs, later stages, and parameters that the model's position
    encoding does not use.
    """
    if not name.startswith(BACKBONE_PREFIXES) or name.rpartition('.')[2] in BUFFERS:
        return True
    last, stage = last_stage(wanted), last_stage([name])
    if stage > last or name.startswith(fill(NATIVE_MERGE, last)):
        return True
    return (not has_bias(wanted) and name.endswith(BIASES)) or (values_only(wanted) and name.endswith(QUERIES))


def fit(name: str, state: State, wanted: Mapping[str, Tensor], modules: Mapping[str, nn.Module]) -> tuple[Tensor, str]:
    """Return the file's value for the parameter ``name``, resized to its shape, and a note on how it was changed.

    Raises:
        MisfitError: if it cannot be resized to that shape.
    """
    value, parameter = state[name], wanted[name]
    if name.endswith(TABLE):
        stem = name.removesuffix('relative_position_bias_table')
        window = getattr(modules.get(stem.rstrip('.')), 'window', None)
        if window is not None and len(window) == 3:
            inflated = network_of(state) == IMAGE
            return fit_volume(value, state.get(f'{stem}relative_position_index'), window, parameter.shape, inflated)
        if window is not None:
            return fit_bias(value, state.get(f'{stem}relative_position_index'), window, parameter.shape)
    if name == EMBEDDING:
        if parameter.dim() == 4:
            return fit_embedding(value, parameter.shape)
        backbone: Any = modules['']
        embedding, note = fit_embedding(value, Size((1, parameter.shape[2], *backbone.options.pretrain_grid)))
        return embedding.flatten(2).transpose(1, 2), note
    if name == PATCH:
        return fit_patches(value, parameter.shape)
    if name.endswith(QKV) and values_only(wanted):
        return fit_values(value, parameter.shape)
    if value.shape != parameter.shape:
        raise shapes_differ(value, parameter.shape)
    return value, ''


def stage_warnings(state: Iterable[str], new: Iterable[str]) -> Iterable[str]:
    """Warn about stages that the file does not have."""
    first, last = last_stage(state) + 1, last_stage(new)
    if last >= first:
        stages = f'stage {first} starts' if first == last else f'stages {first} to {last} start'
        yield f'the file has {first} stages: {stages} untrained, as does the merging layer before'


def position_warnings(new: Iterable[str], dropped: Iterable[str], wanted: Iterable[str]) -> Iterable[str]:
    """Warn about position parameters that only the file or only the model has."""
    if EMBEDDING in new:
        yield 'the absolute position embedding is not in the file and starts untrained'
    if EMBEDDING in dropped:
        yield "the file's absolute position embedding is dropped: position_encoding='absolute+relative' would use it"
    if has_bias(dropped) and not has_bias(wanted):
        yield "the file's relative position bias is dropped, since this backbone has none"
