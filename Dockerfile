# slm-math in a container: CPUs, or NVIDIA GPUs. The stage for GPUs has not been built yet; see docs/install.md.
#
#   docker build --target cpu -t slm-math:cpu .
#   docker run --rm -it -v "$PWD:/work" slm-math:cpu slm-math doctor
#
#   docker build --target cuda -t slm-math:cuda .
#   docker run --rm -it --gpus all --shm-size 8g -v "$PWD:/work" slm-math:cuda slm-math doctor

FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/work/.cache/huggingface
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY scripts/constraints.txt /opt/constraints.txt

FROM base AS wheel
RUN pip install build
COPY . /src
RUN python -m build --wheel --outdir /wheels /src

# torch comes first and in a layer of its own: by its range alone pip takes the CUDA build
FROM base AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple \
    --constraint /opt/constraints.txt "torch==2.13.0"
COPY --from=wheel /wheels /wheels
RUN pip install --constraint /opt/constraints.txt "$(echo /wheels/*.whl)[train]"
RUN useradd --create-home --uid 1000 user && mkdir /work && chown user /work
USER user
WORKDIR /work
CMD ["slm-math", "--help"]

# torch's build from PyPI brings CUDA's libraries; the driver is the host's (NVIDIA Container Toolkit).
# Triton compiles small C files at run time, for which it needs a compiler.
FROM base AS cuda
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && \
    rm -rf /var/lib/apt/lists/*
RUN pip install --constraint /opt/constraints.txt "torch==2.13.0"
COPY --from=wheel /wheels /wheels
RUN pip install --constraint /opt/constraints.txt "$(echo /wheels/*.whl)[train,quant,loggers]"
RUN useradd --create-home --uid 1000 user && mkdir /work && chown user /work
USER user
WORKDIR /work
CMD ["slm-math", "--help"]
