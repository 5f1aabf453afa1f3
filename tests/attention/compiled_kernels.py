"""Compile the Triton kernels without a GPU, and print the resources that they use as JSON.

    python -m tests.attention.compiled_kernels

Failed assertions in Triton abort the process, so the tests run this as a subprocess.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from swin_backbone.attention.kernels import triton as kernels

TOOLS = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin'
CAPABILITIES = (80, 90)
FLOAT32 = {'bias', 'scale', 'd_bias', 'd_scale'}
SIZES = {'H', 'W', 'n_h', 'n_w', 'windows'}
POINTERS = {'bfloat16': '*bf16', 'float16': '*fp16', 'float32': '*fp32'}

V1 = dict(HEADS=3, D=32, MH=7, MW=7, SH=3, SW=3, TILE=64, HAS_PAD=True, PRECISION='tf32', COSINE=False)
FLOAT32_V1 = {**V1, 'PRECISION': 'ieee', 'num_warps': 8}
V2 = {**V1, 'MH': 8, 'MW': 8, 'SH': 4, 'SW': 4, 'COSINE': True}
LARGE_12 = {**V1, 'MH': 12, 'MW': 12, 'SH': 6, 'SW': 6, 'TILE': 32, 'num_warps': 2}
LARGE_16 = {**V2, 'MH': 16, 'MW': 16, 'SH': 8, 'SW': 8}
BUILDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    'forward 7x7': (kernels.window_forward, 'bfloat16', V1),
    'backward 7x7': (kernels.window_backward, 'bfloat16', {**V1, 'HAS_BIAS': True, 'HAS_SCALE': False}),
    'forward 8x8 cosine': (kernels.window_forward, 'bfloat16', V2),
    'backward 8x8 cosine': (kernels.window_backward, 'bfloat16', {**V2, 'HAS_BIAS': True, 'HAS_SCALE': True}),
    'backward 7x7, float32': (kernels.window_backward, 'float32', {**FLOAT32_V1, 'HAS_BIAS': True, 'HAS_SCALE': False}),
    'forward 12x12': (kernels.large_window_forward, 'bfloat16', LARGE_12),
    'forward 16x16 cosine': (kernels.large_window_forward, 'bfloat16', LARGE_16),
}

SLOW = 'backward 7x7, float32'
"""This takes Triton five seconds to compile, so it is compiled for one capability only."""


def build(kernel: Any, dtype: str, settings: dict[str, Any], capability: int) -> Any:
    """Compile what a launch with aligned tensors of a dtype would compile."""
    constants = dict(settings)
    warps = constants.pop('num_warps', 4)
    names = kernel.arg_names
    signature = dict.fromkeys(names, POINTERS[dtype])
    signature |= {name: '*fp32' for name in names if name in FLOAT32} | {name: 'i32' for name in names if name in SIZES}
    if kernel is kernels.large_window_forward and dtype != 'float32':
        signature['bias'] = '*fp16'
    pointers = [i for i, name in enumerate(names) if name not in constants and signature[name].startswith('*')]
    signature |= dict.fromkeys(constants, 'constexpr')
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(i,): [['tt.divisibility', 16]] for i in pointers},
    )
    options = dict(num_warps=warps, num_stages=1, enable_fp_fusion=True)
    return triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options)


def resources(built: Any) -> dict[str, int]:
    """Count registers, bytes of spills, shared memory, loads by width and matrix instructions of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(built.asm['cubin'])
        file.flush()
        usage, code = (
            subprocess.run([TOOLS / tool, option, file.name], capture_output=True, text=True, check=True).stdout
            for tool, option in (('cuobjdump', '--dump-resource-usage'), ('nvdisasm', '-c'))
        )
    found = {name: int(value) for name, value in re.findall(r'\b(REG|STACK):(\d+)', usage)}
    loads = re.findall(r'\bLDG\S*', code)
    return dict(
        registers=found['REG'],
        spills=found['STACK'],
        shared=built.metadata.shared,
        wide_loads=sum('.128' in load for load in loads),
        loads=len(loads),
        wide_stores=len(re.findall(r'\bSTG\S*\.128', code)),
        stores=len(re.findall(r'\bSTG', code)),
        matrix=len(re.findall(r'\bHG?MMA', code)),
        instructions=code.count(';'),
    )


def main() -> None:
    """Print the resources for every kernel and capability."""
    found = {
        f'{name}/sm_{capability}': resources(build(*entry, capability))
        for capability in CAPABILITIES
        for name, entry in BUILDS.items()
        if not (capability > 80 and name == SLOW)
    }
    print(json.dumps(found))


if __name__ == '__main__':
    main()
