# Latentserve's image: the service and its checkpoint, without training.
#
# Both the classic builder and BuildKit can build it.

FROM python:3.11-slim-bookworm AS build
# PyTorch's index of CPU builds, so that the image does not include 5 GB of CUDA. If this index cannot be reached, pip
# uses its default index. For a GPU: --build-arg TORCH_INDEX= (empty).
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -m venv /opt/latentserve
WORKDIR /build
COPY deploy/constraints.txt ./
# torch has a layer of its own, because it is the largest package and changes least often.
RUN /opt/latentserve/bin/pip install --no-cache-dir --retries 1 --timeout 15 \
      ${TORCH_INDEX:+--extra-index-url $TORCH_INDEX} -c constraints.txt torch
COPY pyproject.toml setup.py README.md LICENSE ./
COPY service ./service
RUN /opt/latentserve/bin/pip install --no-cache-dir -c constraints.txt . \
 && /opt/latentserve/bin/pip uninstall -y pip
# The image includes all compiled loops: those of registration, of digits and of the reader of JSON. On another kind of
# processor, the service compiles them again when it starts, which takes about a minute. Digits work meanwhile.
RUN cd / && NUMBA_CACHE_DIR=/opt/numba /opt/latentserve/bin/python -m latentserve compile

FROM python:3.11-slim-bookworm
COPY --from=build /opt/latentserve /opt/latentserve
COPY --from=build /opt/numba /opt/numba
COPY checkpoints /srv/checkpoints
# No account has this id, so the process owns no files, in the image or on the host.
USER 10001:10001
WORKDIR /srv
ENV PATH=/opt/latentserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LATENTSERVE_HOST=0.0.0.0 \
    LATENTSERVE_CHECKPOINTS=/srv/checkpoints \
    NUMBA_CACHE_DIR=/tmp/numba
EXPOSE 8000
# Numba reads a cache only from a writable folder. Under a read-only root, /tmp is the only one.
CMD ["sh", "-c", "cp -r /opt/numba /tmp/; exec python3 -m latentserve serve"]
