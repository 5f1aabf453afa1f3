# syntax=docker/dockerfile:1
# The environment of scripts/setup.sh in a container. For GPUs, only NVIDIA's container toolkit is needed on the host:
# the torch wheels contain CUDA. Triton builds the launchers of its kernels with gcc.
#
#   docker build -t swin-backbone .
#   docker run --gpus all --shm-size 8g -v $PWD/data:/swin/data -v $PWD/work_dirs:/swin/work_dirs swin-backbone \
#       train cascade_swin_t_3x --data-root data/coco
#
#   docker build --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu -t swin-backbone .     CPUs only
#   docker build --build-arg STACK=onedl -t swin-backbone .                                      the maintained forks
FROM python:3.11-slim-bookworm

# libgl1 and libglib2.0-0 are libraries that OpenCV, which the toolkits import, is linked to.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

ARG STACK=openmmlab
ARG TORCH_INDEX_URL=
ENV VENV=/opt/venv
ENV PATH=$VENV/bin:$PATH PIP_NO_CACHE_DIR=1

WORKDIR /swin
COPY pyproject.toml README.md LICENSE ./
COPY scripts scripts
COPY configs configs
COPY swin_backbone swin_backbone
RUN STACK=$STACK TORCH_INDEX_URL=$TORCH_INDEX_URL scripts/setup.sh
COPY tools tools

ENTRYPOINT ["swin-backbone"]
CMD ["--help"]
