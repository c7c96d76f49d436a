# Where the flows of the demo and the tests run, and their Prefect server. BASE needs Python 3.11 or newer with venv; both
# stages share it, because a virtual environment holds on to the interpreter that made it.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY testbed/images/run.lock /build/
# Compiled here, because the image runs as any user, who cannot write the bytecode. Without it Prefect's import takes
# twice as long.
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install \
      --no-cache-dir --no-deps --require-hashes -r /build/run.lock \
 && find /opt/venv -type d -name tests -prune -exec rm -r {} +

FROM ${BASE} AS run
COPY --from=dependencies /opt/venv /opt/venv
# A home folder that any UID may write, as the pool's template decides which one the flow gets.
RUN mkdir -m 1777 /opt/prefect
COPY examples/flows /opt/prefect/flows
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/opt/prefect
WORKDIR /opt/prefect
USER 1000:1000
CMD ["python3"]
