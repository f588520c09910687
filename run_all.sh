#!/usr/bin/env bash
# The main jobs, each from nothing: makes .venv, installs requirements.txt, then
#   ./run_all.sh quick    real RD curves on the embedded images with the weights we ship (a few minutes, then seconds)
#   ./run_all.sh test     lint, types and tests
#   ./run_all.sh paper    every cell of the paper that can be computed here, resuming; lists what cannot and why
#   ./run_all.sh report   figures, tables and results/local/report/index.html from the results that are there
#   ./run_all.sh snakemake JOB ...   the same through Snakemake (profiles/local; --profile profiles/slurm for another)
#   ./run_all.sh setup    the environment alone (setup-snakemake: Snakemake's own)
set -euo pipefail
cd "$(dirname "$0")"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # spinning threads crawl on shared machines
export PIP_DISABLE_PIP_VERSION_CHECK=1

setup() {
  local stamp=.venv/.requirements wanted
  wanted=$(cat requirements.txt pyproject.toml | sha256sum)
  if [ ! -x .venv/bin/python ]; then
    echo "making .venv"
    "${PYTHON:-python3}" -m venv .venv || {
      echo "error: python3 -m venv failed: install Python 3.11 with its venv module (Debian: apt-get install python3-venv)." >&2
      exit 2
    }
  fi
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing requirements.txt (a few minutes the first time)"
    .venv/bin/python -m pip install -q -r requirements.txt
    echo "$wanted" > "$stamp"
  fi
}

setup_snakemake() {
  local own=.venv/snakemake stamp=.venv/snakemake/.requirements wanted
  wanted=$(sha256sum < requirements-snakemake.txt)
  [ -x "$own/bin/python" ] || .venv/bin/python -m venv "$own"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing requirements-snakemake.txt into $own (half a minute)"
    "$own/bin/python" -m pip install -q -r requirements-snakemake.txt
    echo "$wanted" > "$stamp"
  fi
}

job=${1:-help}
case "$job" in
  quick | paper) setup && exec .venv/bin/python -m experiments.plan run "$@" ;;
  report) setup && shift && exec .venv/bin/python benchmarks/report.py "$@" ;;
  test)
    setup && shift
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    exec .venv/bin/python -m pytest -n 2 --dist worksteal "$@"
    ;;
  snakemake)
    setup && setup_snakemake && shift
    case " $* " in *" --profile"*) ;; *) set -- --profile profiles/local "$@" ;; esac
    exec .venv/snakemake/bin/snakemake "$@"
    ;;
  setup) setup ;;
  setup-snakemake) setup && setup_snakemake ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    [ "$job" = help ] || { echo "error: unknown job '$job'." >&2; exit 2; }
    ;;
esac
