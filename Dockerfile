# The image of the gateway. What it installs is pinned by hash in requirements.txt.
#
#   docker build --tag registry.example.com/sms-status-bridge:0.1.0 .
#
# With tracing (docs/tracing.md):
#   --build-arg REQUIREMENTS=requirements-otel.txt
#
# To pin the base image by digest as well, or to take a mirror's:
#   --build-arg PYTHON_IMAGE=python:3.13.9-slim-trixie@sha256:...
ARG PYTHON_IMAGE=python:3.13.9-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
ARG REQUIREMENTS=requirements.txt
COPY requirements.txt requirements-otel.txt requirements-build.txt ./
# The virtual environment needs no pip of its own: the base image's installs into it.
RUN python -m venv --without-pip /opt/sms-bridge \
 && python -m pip --python /opt/sms-bridge/bin/python install \
        --no-deps --require-hashes --only-binary :all: --requirement "${REQUIREMENTS}" \
 && python -m pip install \
        --no-deps --require-hashes --only-binary :all: --requirement requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY bridge ./bridge
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && python -m pip --python /opt/sms-bridge/bin/python install \
        --no-deps --no-index --find-links /dist sms-status-bridge

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="sms-status-bridge" \
      org.opencontainers.image.description="A gateway from an SMS provider's delivery status webhook to CloudEvents on Kafka" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
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
ENTRYPOINT ["sms-bridge"]
CMD ["serve"]
