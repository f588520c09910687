# Tessera with the pinned versions: docker build -t tessera . (docs/install.md)
FROM python:3.11-slim-bookworm

# git: provenance of results; g++: compiled kernels, without which plain PyTorch does the same
RUN apt-get update && apt-get install -y --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/*

WORKDIR /tessera
ENV PATH=/tessera/.venv/bin:$PATH OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PIP_NO_CACHE_DIR=1
COPY requirements.txt pyproject.toml run_all.sh ./
RUN ./run_all.sh setup

COPY . .
RUN pip install --no-deps --no-build-isolation -e .
CMD ["tessera", "list"]
