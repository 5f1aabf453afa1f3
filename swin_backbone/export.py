"""Export of models to ONNX files and to PyTorch's exported programs (``.pt2``)."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone.errors import InputError
from swin_backbone.files import replacing

MIN_SIZE = 8
"""Smallest side of an example image. The last maps of smaller images have sides of 1, which a graph would fix."""

CHECKED_SIZES = ((1, 224, 224), (2, 161, 97), (1, 64, 320), (3, 33, 20), (1, 301, 263))
"""Batch, height and width of the images in :func:`compare_onnx`: square, odd, wide, small and large."""


def export_program(
    model: nn.Module, image_size: Sequence[int] = (224, 224), dynamic: bool = True
) -> torch.export.ExportedProgram:
    """Record a model that maps an image ``[B, channels, H, W]`` to tensors, with ``torch.export``.

    Args:
        model: a backbone, or another module that is called with one image.
        image_size: height and width of the example, at least 8, or at least the model's attribute ``least_side``.
        dynamic: whether the program supports any batch size and image size; otherwise one image of ``image_size``.

    Raises:
        InputError: if ``image_size`` is not two integers of at least 8, or PyTorch cannot export the model.
    """
    sides, least = tuple(image_size), getattr(model, 'least_side', MIN_SIZE)
    if len(sides) != 2 or any(not isinstance(side, int) or side < least for side in sides):
        raise InputError(f'image_size must be two integers of at least {least}, height and width, got {image_size}.')
    parameter = next(model.parameters())
    # torch.export would fix a batch size of 1.
    example = torch.zeros(2 if dynamic else 1, in_channels(model), *sides, device=parameter.device)
    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 2: free, 3: free},) if dynamic else None
    try:
        with evaluating(model), any_size(), torch.no_grad():
            return torch.export.export(model, (example,), dynamic_shapes=shapes)
    except InputError:
        raise
    except Exception as error:  # torch.export may raise any exception
        reason = ' '.join(str(error).split())[:300]
        raise InputError(f'PyTorch cannot export {type(model).__name__} ({type(error).__name__}: {reason}).') from error


def export_onnx(
    model: nn.Module, file: str | Path, image_size: Sequence[int] = (224, 224), dynamic: bool = True
) -> Path:
    """Write a model that maps an image ``[B, channels, H, W]`` to tensors as an ONNX file.

    The input is named ``image``. The outputs are ``stride4``, ``stride8``, ... for a backbone, the attribute
    ``output_names`` of a model that has it, or ``output0``, ``output1``, ... otherwise.

    Args:
        model: see :func:`export_program`.
        file: path of the ONNX file; nothing is written if the export fails.
        image_size: see :func:`export_program`.
        dynamic: see :func:`export_program`.

    Raises:
        InputError: if a package is missing, or for the reasons in :func:`export_program`.
    """
    require('onnx', 'onnxscript')
    target = Path(file)
    program = export_program(model, image_size, dynamic)
    names = output_names(model, program)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        converted: Any = torch.onnx.export(
            program,
            dynamo=True,
            input_names=['image'],
            output_names=names,
            custom_translation_table=getattr(model, 'onnx_functions', None),
            verbose=False,
            optimize=True,
        )
    converted.model.metadata_props.update(getattr(model, 'metadata', {}))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        converted.save(str(part))
    return target


def compare_onnx(
    model: nn.Module, file: str | Path, sizes: Sequence[tuple[int, int, int]] = CHECKED_SIZES
) -> dict[tuple[int, int, int], float]:
    """Compare an ONNX file with the model that it was exported from, on random images, with onnxruntime.

    For detectors, objects whose scores differ only by rounding may be sorted differently; their boxes then differ.

    Args:
        model: the model that :func:`export_onnx` was called with.
        file: the ONNX file.
        sizes: batch, height and width of each image.

    Returns:
        For each size, the largest difference of an output relative to the largest value of that output.

    Raises:
        InputError: if onnxruntime is missing.
    """
    require('onnxruntime')
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    generator = torch.Generator().manual_seed(0)
    errors = {}
    for batch, height, width in sizes:
        shape = (batch, in_channels(model), height, width)
        pixels = getattr(model, 'reads_pixels', False)
        image = 255 * torch.rand(shape, generator=generator) if pixels else torch.randn(shape, generator=generator)
        with evaluating(model), torch.no_grad():
            expected = as_tuple(model(image.to(next(model.parameters()).device)))
        found = session.run(None, {'image': image.numpy()})
        errors[batch, height, width] = max(
            relative_error(torch.from_numpy(one), other.cpu()) for one, other in zip(found, expected, strict=True)
        )
    return errors


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest expected value; for integers, the fraction that differ."""
    if not expected.is_floating_point():
        return (found != expected).double().mean().item()
    return ((found - expected).abs().max() / expected.abs().max()).item()


def in_channels(model: nn.Module) -> int:
    """Return the input channels of the first convolution of the model; 3 if it has none."""
    return next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)


def output_names(model: nn.Module, program: torch.export.ExportedProgram) -> list[str]:
    """Return the names of the outputs in an ONNX file."""
    maps: Any = getattr(model, 'feature_info', None)
    if maps is not None:
        return [f'stride{info["reduction"]}' for info in maps]
    return getattr(model, 'output_names', [f'output{i}' for i in range(len(program.graph_signature.user_outputs))])


def as_tuple(outputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the outputs of a model as a tuple."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def require(*packages: str) -> None:
    """Check that optional packages are installed.

    Raises:
        InputError: if one is missing.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"exporting needs {', '.join(missing)}: run pip install 'swin_backbone[export]'.")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode within the context, and restore its mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def any_size() -> Iterator[None]:
    """Let torch.export assume that sizes may be 0 or 1, as small images have maps of one token."""
    from torch.fx.experimental import _config

    settings: Any = _config
    with settings.patch(backed_size_oblivious=True):
        yield
