# One image for every process: `python -m services.<stage>` or `netstack`.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY netstack netstack
COPY services services
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
    && python -m venv --without-pip /opt/netstack \
    && pip --python /opt/netstack/bin/python install --no-cache-dir /wheel/netstack-*.whl

FROM python:3.11-slim-bookworm
# The same base as above, so the environment's links to its interpreter hold.
COPY --from=build /opt/netstack /opt/netstack
ENV PATH=/opt/netstack/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    # The root file system is read-only; what is compiled was compiled when it was installed.
    PYTHONDONTWRITEBYTECODE=1
# Nobody's number: no process but the one that opens the TUN starts as root, and that one says so in docker-compose.yml.
USER 65532:65532
CMD ["netstack", "--help"]
