# The image of the gateway. What it installs is pinned by hash in requirements.txt.
#
#   docker build --tag registry.example.com/sms-status-bridge:0.1.0 .
#
# With tracing (docs/tracing.md):
#   --build-arg REQUIREMENTS=requirements-otel.txt
#
# With a package index of one's own, whose address and certificate stay out of the image: a pip.conf
# that says `cert = /run/secrets/index-ca` if the certificate is not a public one.
#   --secret id=pip.conf,src=pip.conf --secret id=index-ca,src=ca.pem
#
# To pin the base image by digest as well, or to take a mirror's:
#   --build-arg PYTHON_IMAGE=mirror.example.com/python:TAG@sha256:...
ARG PYTHON_IMAGE=docker.io/library/python:3.13.18-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
ARG REQUIREMENTS=requirements.txt
COPY requirements.txt requirements-otel.txt requirements-build.txt ./
# The virtual environment needs no pip of its own: the base image's installs into it.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=index-ca,target=/run/secrets/index-ca \
    python -m venv --without-pip /opt/sms-bridge \
 && python -m pip --python /opt/sms-bridge/bin/python install \
        --no-deps --require-hashes --only-binary :all: --requirement "${REQUIREMENTS}" \
 && python -m pip install \
        --no-deps --require-hashes --only-binary :all: --requirement requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY config/bridge.yaml ./config/
COPY bridge ./bridge
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && python -m pip --python /opt/sms-bridge/bin/python install \
        --no-deps --no-index --find-links /dist sms-status-bridge
# What serving does not need: the programs of dependencies, what a shell sources, headers.
RUN find /opt/sms-bridge/bin ! -type d ! -name 'python*' ! -name sms-bridge -delete \
 && rm -rf /opt/sms-bridge/include

FROM ${PYTHON_IMAGE}
# Empty unless the build says so; the release does.
ARG PYTHON_IMAGE
ARG BASE_DIGEST=
ARG SOURCE=
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="sms-status-bridge" \
      org.opencontainers.image.description="A gateway from an SMS provider's delivery status webhook to CloudEvents on Kafka" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
COPY --from=build /opt/sms-bridge /opt/sms-bridge
ENV PATH=/opt/sms-bridge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SMS_BRIDGE_CONFIG=/etc/sms-bridge/bridge.yaml
WORKDIR /
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# /livez on the default admin.port: an outage of Kafka is no reason to restart. Kubernetes ignores it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=3 \
    CMD ["python", "-IS", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8081, timeout=4); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["sms-bridge"]
CMD ["serve"]
