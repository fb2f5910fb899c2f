# One image for every process: `python -m services.<stage>` or `netstack`.

FROM python:3.11-slim-bookworm AS build
# What compiles the packet path; the headers are there already, but where the Python is Debian's own.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
       $(python -c 'import os, sysconfig; print("" if os.path.exists(sysconfig.get_path("include") + "/Python.h") else "python3-dev")')
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY netstack netstack
COPY services services
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
    && python -m venv --without-pip /opt/netstack \
    && pip --python /opt/netstack/bin/python install --no-cache-dir /wheel/netstack-*.whl
# mypy lies in a folder of its own, which stays behind. The stamp says that the outcome is of what was installed.
RUN pip install --no-cache-dir --target /mypy 'mypy[mypyc]>=1.19' \
    && cd / && PYTHONPATH=/mypy /opt/netstack/bin/python -m netstack.cli.compiling \
    && /opt/netstack/bin/netstack version --json | grep -q '"compiled":true'

FROM python:3.11-slim-bookworm
# The same base as above, so the environment's links to its interpreter hold.
COPY --from=build /opt/netstack /opt/netstack
ENV PATH=/opt/netstack/bin:$PATH \
    # The compiled form of what is installed; compose starts services without the supervisor, which would choose it.
    PYTHONPATH=/opt/netstack/share/netstack/compiled \
    PYTHONUNBUFFERED=1 \
    # The root file system is read-only; what is compiled was compiled when it was installed.
    PYTHONDONTWRITEBYTECODE=1
# Nobody's number: no process but the one that opens the TUN starts as root, and that one says so in docker-compose.yml.
USER 65532:65532
CMD ["netstack", "--help"]
