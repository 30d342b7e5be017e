# One image for every role. Build for a GPU with: docker build --build-arg FAISS=gpu --build-arg TORCH=default .
FROM python:3.11-slim AS build
ARG FAISS=cpu
ARG TORCH=cpu
WORKDIR /src
RUN python -m venv /opt/assay
COPY constraints.txt ./
# PyTorch first: it is the largest layer and changes least.
RUN if [ "$TORCH" = cpu ]; then \
      /opt/assay/bin/pip install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu \
        "$(grep -i '^torch==' constraints.txt)"; \
    else \
      /opt/assay/bin/pip install --no-cache-dir "$(grep -i '^torch==' constraints.txt)" -c constraints.txt; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY models models
COPY streams streams
RUN /opt/assay/bin/pip install --no-cache-dir -c constraints.txt ".[$FAISS]"

FROM python:3.11-slim
# OpenMP for FAISS and PyTorch; nothing else is needed at run time.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 assay && mkdir /data && chown assay /data
COPY --from=build /opt/assay /opt/assay
ENV PATH=/opt/assay/bin:$PATH PYTHONUNBUFFERED=1 ASSAY_DATA_DIR=/data NUMBA_CACHE_DIR=/tmp/numba
USER assay
WORKDIR /home/assay
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["assay"]
CMD ["--help"]
