# The image of the worker, and of every other otpost command: `docker build -t otpost .`
#
# Why 3.13: the newest Python that pyproject.toml names. Why slim and not alpine: all requirements have wheels for glibc,
# on x86-64 and ARM, so that nothing is compiled. Tagged by minor version and by Debian's name, so that a rebuild brings
# security fixes and nothing else; who wants the very same bytes again pins a digest instead.
ARG BASE=python:3.13-slim-trixie


# hadolint ignore=DL3006 -- the tag is in BASE
FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# What changes seldom comes first. Every file is checked against its hash, and none is built from source.
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/otpost \
    && pip --python /opt/otpost/bin/python install --require-hashes --no-deps --only-binary :all: --requirement requirements/runtime.txt \
    && pip install --require-hashes --no-deps --only-binary :all: --requirement requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY producer producer
COPY worker worker
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/otpost/bin/python install --no-index --no-deps dist/otpost-*.whl \
    && pip --python /opt/otpost/bin/python check


# hadolint ignore=DL3006 -- the tag is in BASE
FROM ${BASE}
LABEL org.opencontainers.image.title="otpost" \
      org.opencontainers.image.description="Sends one-time passwords over the WhatsApp Cloud API" \
      org.opencontainers.image.licenses="MIT"
# Both folders are volumes or mounts in use: the ledger, and files with credentials. A volume that Docker makes anew takes
# over owner and mode. There is no VOLUME here, since an anonymous one would hide that the ledger's was forgotten.
RUN groupadd --gid 10001 otpost \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin otpost \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/otpost \
    && install --directory --owner 10001 --group 10001 --mode 0750 /run/otpost
COPY --from=build /opt/otpost /opt/otpost
COPY --chmod=0444 deploy/broker_users.py /opt/otpost/share/otpost/
# No file is written outside /var/lib/otpost: the root file system may be read-only.
ENV PATH=/opt/otpost/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OTPOST_LEDGER_URL=sqlite:////var/lib/otpost/otpost.db \
    OTPOST_LOG_FORMAT=json \
    OTPOST_HTTP_HOST=0.0.0.0 \
    OTPOST_HTTP_PORT=8080
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/otpost
EXPOSE 8080
STOPSIGNAL SIGTERM
# Alive, not ready: a broker that is away is not mended by a restart of the worker. Not urllib, which would ask a proxy.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os; asked = http.client.HTTPConnection('127.0.0.1', int(os.environ['OTPOST_HTTP_PORT']), timeout=3); asked.request('GET', '/healthz'); raise SystemExit(asked.getresponse().status != 200)"]
# In exec form, so that SIGTERM reaches the worker itself.
ENTRYPOINT ["otpost"]
CMD ["worker"]
