# The operator:
#   docker build --tag workpool-operator .
# The image starts from nothing: it has Python, the dependencies and the package, but no shell, no package manager and
# no compiler. Bytecode is compiled here, because the file system is read-only at run time, and contains no time
# of the build.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
# No versions: these packages are as new as the base's own.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
 && rm -r /var/lib/apt/lists/*

# Python and the libraries that it uses, unpacked from Debian's packages. Scanners find the packages of an image without
# dpkg in status.d.
FROM build AS system
WORKDIR /packages
RUN apt-get update \
 && apt-get download \
      base-files libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.11-minimal \
      libpython3.11-stdlib libssl3 libuuid1 python3-minimal python3.11-minimal zlib1g \
 && rm -r /var/lib/apt/lists/*
WORKDIR /system
RUN mkdir -p usr/lib/ssl var/lib/dpkg/status.d \
 && for package in /packages/*.deb; do \
      name=$(dpkg-deb --field "$package" Package) \
      && dpkg-deb --field "$package" > "var/lib/dpkg/status.d/$name" \
      && dpkg-deb --extract "$package" . || exit 1; \
    done \
 && ln -s /etc/ssl/certs/ca-certificates.crt usr/lib/ssl/cert.pem \
 && rm -r usr/lib/*/gconv usr/share/lintian usr/share/man \
 && find usr/share/doc -name 'changelog*' -delete \
 && rm -rf usr/lib/python3.11/pydoc_data usr/lib/python3.11/lib2to3 \
 && python3 -m compileall -q --invalidation-mode unchecked-hash -s /system usr/lib/python3.11

# Nothing reads tests, type stubs and sources in C at run time, nor the messages of Google's APIs: OTLP has its own.
FROM build AS dependencies
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY requirements.lock /build/
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install \
      --no-cache-dir --no-compile --no-deps --require-hashes -r /build/requirements.lock \
 && find /opt/venv -type d -name tests -prune -exec rm -r {} + \
 && find /opt/venv -type f \( -name '*.pyi' -o -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' \) -delete \
 && find /opt/venv/lib/*/site-packages/google -mindepth 1 -maxdepth 1 -type d \
      ! -name protobuf ! -name _upb -exec rm -r {} + \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

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
 && /opt/pip/bin/pip --python /opt/venv/bin/python install \
      --no-compile --no-deps --no-index --root /staging /dist/* \
 && python3 -m compileall -q --invalidation-mode unchecked-hash -s /staging /staging

FROM scratch AS operator
COPY --from=system /system /
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /staging /
# Prefect would create a home that does not exist, which a read-only file system refuses.
ENV PATH=/opt/venv/bin:/usr/bin PYTHONUNBUFFERED=1 PREFECT_HOME=/
LABEL org.opencontainers.image.title="workpool-operator" \
      org.opencontainers.image.description="A Kubernetes operator that is a Prefect worker" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/workpool-operator/workpool-operator" \
      org.opencontainers.image.documentation="https://github.com/workpool-operator/workpool-operator/tree/main/docs"
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["workpool-operator"]
CMD ["run"]
