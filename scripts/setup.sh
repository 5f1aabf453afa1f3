#!/usr/bin/env bash
# Make the virtual environment that every target of the Makefile works in. Safe to run again at any time: what is
# there is kept, what a run left half done is completed.
#
#   scripts/setup.sh                                               mmcv, mmdet and mmseg of OpenMMLab, in .venv
#   STACK=onedl scripts/setup.sh                                   their maintained forks, in .venv-onedl
#   TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu scripts/setup.sh      torch from another index
#
# TORCH and TORCH_INDEX_URL count when the environment is first made; remove it to make it anew with others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

STACK=${STACK:-openmmlab}
# The newest torch that the tests run on. PyPI's Linux build of it is the CUDA one, which also runs without a GPU.
TORCH=${TORCH:-torch==2.13.0}
TORCH_INDEX_URL=${TORCH_INDEX_URL:-}
PYTHON=${PYTHON:-python3}
# numpy: the toolkits' compiled parts are tested with it. setuptools: torch asks for >=77.0.3, mmcv's build and mmengine
# need pkg_resources, which later releases dropped. Every pip call repeats the two, or the next one would move them.
PINS=('numpy==2.2.6' 'setuptools>=77.0.3,<81')

case $STACK in
    openmmlab) VENV=${VENV:-.venv} ENGINE='mmengine==0.10.7' MMCV='mmcv==2.1.0' ;;
    onedl) VENV=${VENV:-.venv-onedl} ENGINE='onedl-mmengine==0.10.12' MMCV='onedl-mmcv==2.3.6' ;;
    *)
        echo "error: unknown STACK '$STACK': use openmmlab or onedl." >&2
        exit 2
        ;;
esac
python=$VENV/bin/python

step() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
pip_install() { "$python" -m pip install --disable-pip-version-check "$@" "${PINS[@]}"; }

# Without its compiled operators mmcv installs all the same, and a wheel that pip built for another torch does not load.
ops_load() {
    "$python" -c 'import sys, torch, mmcv._ext; sys.exit(mmcv.__version__ != sys.argv[1])' "${MMCV##*==}" 2>/dev/null
}

check_compiler() {
    command -v "${CXX:-c++}" >/dev/null ||
        fail "mmcv's operators need a C++ compiler: install one (Debian, Ubuntu: apt-get install g++), then run this" \
            "again."
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        fail "mmcv's operators need Python's headers: install them (Debian, Ubuntu: apt-get install python3-dev)," \
            "then run this again."
    "$python" -c 'import sys, torch
from torch.utils.cpp_extension import CUDA_HOME
sys.exit(torch.cuda.is_available() and torch.version.cuda is not None and CUDA_HOME is None)' ||
        fail "torch sees a GPU, but there is no nvcc to compile mmcv's operators for it: install the CUDA toolkit of" \
            "torch's version and set CUDA_HOME, or put CUDA_VISIBLE_DEVICES= before this command for operators on the" \
            "CPU alone."
}

build_mmcv() {
    local name=${MMCV%%==*}
    "$python" -m pip uninstall --quiet --yes "$name"
    MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$("$python" -c 'import os; print(os.cpu_count())')} \
        pip_install --no-build-isolation --no-binary "$name" "$ENGINE" "$MMCV"
}

step "Environment $VENV"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$PYTHON is older than 3.10: set PYTHON to a newer one."
if ! "$python" -m pip --version >/dev/null 2>&1; then
    # --clear empties the folder.
    [ ! -e "$VENV" ] || [ -f "$VENV/pyvenv.cfg" ] ||
        fail "$VENV is there and is no virtual environment: set VENV to another folder."
    "$PYTHON" -m venv --clear "$VENV"
fi
pip_install --quiet 'pip>=23.1' wheel ninja

step "$TORCH"
"$python" -c 'import torch' 2>/dev/null ||
    pip_install --quiet ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH"
torch_version=$("$python" -c 'import torch; print(torch.__version__)')
echo "torch $torch_version"
# No later step may exchange it: mmcv's operators are compiled for this one.
PINS+=("torch==$torch_version")

step "$MMCV with its operators (compiling them takes about 9 minutes on 2 cores; pip keeps the result)"
if ! ops_load; then
    check_compiler
    build_mmcv
    if ! ops_load; then
        echo "What pip had kept does not fit torch $torch_version: compiling anew."
        wheel=${MMCV//-/_}  # a wheel's file name has no hyphen but between name and version
        "$python" -m pip cache remove "${wheel/==/-}*" || true
        build_mmcv
    fi
fi
ops_load || fail "mmcv was built, but its operators do not load; '$python tools/doctor.py' says more."

step 'The toolkits and this project'
pip_install --quiet --editable ".[$STACK,test,dev]"
ops_load || fail "mmcv's operators no longer load; '$python tools/doctor.py' says more."
printf '\nReady: %s\n' "$VENV"
