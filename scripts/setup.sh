#!/usr/bin/env bash
# Create the virtual environment that all Makefile targets use. It can be run again at any time: an interrupted run is
# completed, and installed packages are kept.
#
#   scripts/setup.sh                                               OpenMMLab's toolkits, in .venv
#   STACK=onedl scripts/setup.sh                                   their maintained forks, in .venv-onedl
#   MMCV=compiled scripts/setup.sh                                 mmcv with its operators, compiled from source
#   TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu scripts/setup.sh      torch and torchvision from another index
#
# By default no compiler is needed: mmcv-lite is mmcv without compiled operators, and swin_backbone replaces those that
# the models use by torchvision's. TORCH and TORCH_INDEX_URL only have an effect when torch is first installed; remove
# the environment to change them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STACK=${STACK:-openmmlab}
MMCV=${MMCV:-lite}
TORCH_INDEX_URL=${TORCH_INDEX_URL:-}
PYTHON=${PYTHON:-python3}
# mmengine needs pkg_resources, which later releases of setuptools dropped.
SETUPTOOLS='setuptools>=77.0.3,<81'

step() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit "${status:-1}"
}

case $STACK in
    openmmlab) VENV=${VENV:-.venv} ;;
    onedl) VENV=${VENV:-.venv-onedl} ;;
    *) status=2 fail "unknown STACK '$STACK': use openmmlab or onedl." ;;
esac
case $STACK-$MMCV in
    # torch and torchvision from the same index, because torchvision's operators load with one build of torch only.
    *-lite) TORCH=${TORCH:-torch==2.14.1 torchvision==0.29.1} LOADS='import torch, torchvision' ;;
    # The newest torch with which mmcv 2.1 compiles: the headers of later versions need C++20.
    openmmlab-compiled) TORCH=${TORCH:-torch==2.13.0} LOADS='import torch' COMPILED='mmcv==2.1.0' ;;
    onedl-compiled) TORCH=${TORCH:-torch==2.13.0} LOADS='import torch' COMPILED='onedl-mmcv==2.3.6' ;;
    *) status=2 fail "unknown MMCV '$MMCV': use lite or compiled." ;;
esac
python=$VENV/bin/python

pip_install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }
probe() { "$python" -c "$@" 2>/dev/null; }

# mmcv installs without an error even if its operators fail to build, and a wheel cached by pip for a different torch
# does not load.
compiled_ops_load() { probe 'import sys, torch, mmcv._ext; sys.exit(mmcv.__version__ != sys.argv[1])' "${COMPILED##*==}"; }

check_compiler() {
    command -v "${CXX:-c++}" >/dev/null ||
        fail "mmcv's operators need a C++ compiler: install one (Debian, Ubuntu: apt-get install g++), then run this" \
            "again, or leave out MMCV=compiled."
    probe 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        fail "mmcv's operators need Python's headers: install them (Debian, Ubuntu: apt-get install python3-dev)," \
            "then run this again, or leave out MMCV=compiled."
    probe 'import sys, torch
from torch.utils.cpp_extension import CUDA_HOME
sys.exit(torch.cuda.is_available() and torch.version.cuda is not None and CUDA_HOME is None)' ||
        fail "a GPU is visible, but nvcc is missing, which compiles mmcv's operators for it: install the CUDA toolkit" \
            "in torch's CUDA version and set CUDA_HOME, or leave out MMCV=compiled."
}

build_mmcv() {
    local name=${COMPILED%%==*}
    "$python" -m pip uninstall --quiet --yes mmcv-lite "$name"
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$("$python" -c 'import os; print(os.cpu_count())')} \
        pip_install --no-deps --no-build-isolation --no-binary "$name" "$COMPILED"
}

step "Environment $VENV"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$PYTHON is older than 3.10: set PYTHON to a newer one."
if ! "$python" -m pip --version >/dev/null 2>&1; then
    # --clear deletes the content of the folder.
    [ ! -e "$VENV" ] || [ -f "$VENV/pyvenv.cfg" ] ||
        fail "$VENV exists and is not a virtual environment: set VENV to another folder."
    "$PYTHON" -m venv --clear "$VENV"
fi

step "$TORCH"
# shellcheck disable=SC2086  # TORCH is a list of requirements
probe "$LOADS" ||
    pip_install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} $TORCH
# The version of the distribution, which pip compares; torch.__version__ may include the build.
torch_version=$("$python" -c 'import importlib.metadata; print(importlib.metadata.version("torch"))')
echo "torch $torch_version"

step 'The toolkits and this project'
# --no-deps, because mmcv-lite would install mmengine, which the forks replace.
[ "$STACK" = openmmlab ] || pip_install --no-deps mmcv-lite==2.1.0
pip_install --editable ".[$STACK,test,dev,peers,export,classification,slurm]" "torch==$torch_version" "$SETUPTOOLS"
[ "$STACK" = openmmlab ] || echo "pip's message that mmcv-lite requires mmengine is expected: onedl-mmengine provides it."

if [ "$MMCV" = compiled ] && ! compiled_ops_load; then
    step "$COMPILED with its operators (compiling them takes about 9 minutes on 2 cores; pip keeps the result)"
    check_compiler
    pip_install wheel ninja "$SETUPTOOLS"
    build_mmcv
    if ! compiled_ops_load; then
        echo "The build in pip's cache does not match torch $torch_version: compiling again."
        wheel=${COMPILED//-/_}  # in the file name of a wheel, the only hyphen is between name and version
        "$python" -m pip cache remove "${wheel/==/-}*" || true
        build_mmcv
    fi
    compiled_ops_load || fail "mmcv was built, but its operators do not load: run '$python tools/doctor.py' for details."
    # A torchvision for a different build of torch raises an error on import, and the compiled mmcv does not need it.
    probe 'import torchvision' || "$python" -m pip uninstall --quiet --yes torchvision
fi
probe 'import swin_backbone.registry, mmcv.ops' ||
    fail "mmcv's operators cannot be imported: run '$python tools/doctor.py' for details."
printf '\nReady: %s\n' "$VENV"
