# An image like Prefect's own, as far as a template of the pool sees it: its user is root, to whom
# everything in it belongs, and it has git for pull steps.
ARG BASE
FROM ${BASE} AS rootful
# hadolint ignore=DL3002,DL3066
USER root
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -r /var/lib/apt/lists/* \
 && chmod 755 /opt/prefect
ENV HOME=/root
WORKDIR /opt/prefect
