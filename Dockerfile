# syntax=docker/dockerfile:1
# Three images of one checkout: `api` (also keys, deploy and prepare), `node` with anvil, `worker`
# with everything that inspects and computes. Packages come from requirements.lock, by hash; torch
# alone, whose builds differ by machine, comes by its exact version, as a CPU build.

FROM python:3.11-slim AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_NO_CONFIG=1 \
    UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
RUN pip install --root-user-action=ignore uv==0.13.9
WORKDIR /src

FROM tools AS worker-packages
COPY requirements.lock pyproject.toml ./
RUN uv venv /venv \
 && uv pip install --python /venv/bin/python --no-deps --require-hashes -r requirements.lock
RUN uv pip install --python /venv/bin/python --no-deps --torch-backend=cpu torch==2.13.0 \
 && /venv/bin/python -c "import torch"

FROM worker-packages AS api-lock
COPY scripts/subset_lock.py scripts/
RUN /venv/bin/python scripts/subset_lock.py api typer httpx2 > /api.lock

FROM tools AS api-packages
COPY --from=api-lock /api.lock ./
RUN uv venv /venv \
 && uv pip install --python /venv/bin/python --no-deps --require-hashes -r api.lock

FROM tools AS anvil
COPY scripts/fetch_anvil.py scripts/anvil.lock.json scripts/
RUN mkdir -p .uv/bin && ln -s "$(command -v uv)" .uv/bin/uv && python scripts/fetch_anvil.py

FROM python:3.11-slim AS process
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin assent \
 && for part in . keys node run senders tls vault worker; do \
      install -d -o assent -g assent -m 0700 "/var/lib/assent/$part"; \
    done
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp ASSENT_DATA_DIR=/var/lib/assent
WORKDIR /app
COPY ledger ledger
COPY anonymize anonymize
COPY compute compute
COPY exchange exchange
# The root file system is read-only: what is not compiled here would be compiled at every start.
RUN python -m compileall -q -j 0 /app
USER 10001:10001

FROM process AS api
COPY --from=api-packages /venv /venv
CMD ["python", "-m", "exchange", "api"]

FROM api AS node
COPY --from=anvil /src/.venv/bin/anvil /usr/local/bin/anvil
CMD ["python", "-m", "exchange", "node", "--data=/var/lib/assent/node"]

FROM process AS worker
COPY --from=worker-packages /venv /venv
CMD ["python", "-m", "exchange", "worker"]
