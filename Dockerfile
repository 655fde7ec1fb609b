# Latentserve's image: the service and its checkpoint, nothing of the training.
#
# It builds with the classic builder as well as with BuildKit.

FROM python:3.11-slim-bookworm AS build
# PyTorch's index of CPU builds, so that the image does not carry 5 GB of CUDA. Where it is out of reach pip takes
# what it finds elsewhere. For a GPU: --build-arg TORCH_INDEX= (empty).
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv /opt/latentserve
WORKDIR /build
COPY deploy/constraints.txt ./
# torch by itself first: it is most of the image and changes least.
RUN /opt/latentserve/bin/pip install --no-cache-dir --retries 1 --timeout 15 \
      ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} -c constraints.txt torch
COPY pyproject.toml setup.py README.md LICENSE ./
COPY service ./service
RUN /opt/latentserve/bin/pip install --no-cache-dir -c constraints.txt . \
 && /opt/latentserve/bin/pip uninstall -y pip
# The compiled loops of registration come with the image. On another kind of processor than the one that built it they
# are compiled at the start, which takes a minute or so.
RUN cd / && NUMBA_CACHE_DIR=/opt/numba /opt/latentserve/bin/python -m latentserve compile

FROM python:3.11-slim-bookworm
COPY --from=build /opt/latentserve /opt/latentserve
COPY --from=build /opt/numba /opt/numba
COPY checkpoints /srv/checkpoints
# No account of that number exists: it owns nothing, in the image or on the host.
USER 10001:10001
WORKDIR /srv
ENV PATH=/opt/latentserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LATENTSERVE_HOST=0.0.0.0 \
    LATENTSERVE_CHECKPOINTS=/srv/checkpoints \
    NUMBA_CACHE_DIR=/tmp/numba
EXPOSE 8000
# Numba reads a cache only where it can write one, and /tmp is the one place for that under a read-only root.
CMD ["sh", "-c", "cp -r /opt/numba /tmp/; exec python3 -m latentserve serve"]
