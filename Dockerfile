# Two images from one lock file:
#   docker build --target operator -t workpool-operator .          the operator
#   docker build --target run      -t workpool-operator-run .      where flow runs execute, or a Prefect server
# BASE needs Python 3.11 or newer with venv; all stages share it, because a virtual environment
# holds on to the interpreter that made it.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

# What both images run on. pip stays here, outside of the virtual environment that they get. The
# compiled bytecode stays in: nobody could write it at run time, and without it Prefect's import
# takes twice as long.
FROM ${BASE} AS dependencies
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY requirements.lock /build/
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install \
      --no-cache-dir --no-deps --require-hashes -r /build/requirements.lock \
 && find /opt/venv -type d -name tests -prune -exec rm -r {} +

# Only our own files, under /staging, so that a change of the code is a small layer.
FROM dependencies AS package
WORKDIR /build
# The build backend is pinned by the development lock, of which nothing else is needed.
COPY requirements-dev.lock .
RUN awk '/^[a-z]/ {wanted = /^(hatchling|packaging|pathspec|pluggy|trove-classifiers)==/} wanted' \
      requirements-dev.lock > backend.lock \
 && /opt/pip/bin/pip install --no-cache-dir --no-deps --require-hashes -r backend.lock
COPY pyproject.toml LICENSE ./
COPY operator operator
RUN /opt/pip/bin/hatchling build --target wheel --directory /dist \
 && /opt/pip/bin/pip --python /opt/venv/bin/python install --no-deps --no-index --root /staging /dist/*

FROM ${BASE} AS operator
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /staging/ /
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title="workpool-operator" \
      org.opencontainers.image.description="A Kubernetes operator that is a Prefect worker" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["workpool-operator"]
CMD ["run"]

FROM ${BASE} AS run
COPY --from=dependencies /opt/venv /opt/venv
# A home folder that any UID may write, as the pool's template decides which one the flow gets.
RUN mkdir -m 1777 /opt/prefect
COPY examples/flows /opt/prefect/flows
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/opt/prefect
LABEL org.opencontainers.image.title="workpool-operator-run" \
      org.opencontainers.image.description="Prefect, for flow runs and for a server" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /opt/prefect
USER 1000:1000
CMD ["python3"]
