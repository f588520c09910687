# The plan (experiments/plan/catalogue/) as a file DAG, on this machine, SLURM or Kubernetes:
#
#   ./run_all.sh snakemake quick                      # makes Snakemake's own environment, then profiles/local
#   snakemake --profile profiles/slurm paper          # any job of the plan, or results/local/plan/NAME.done for a task
#   snakemake --profile profiles/local -n qres        # what would be run
#
# A task's file is results/local/plan/NAME.done. What is done by any means is known before the DAG is made; a task that
# cannot be done here (weights or data to be had only elsewhere) is marked as such and tried again by the next run.
# config: results=DIR, python=PATH (the interpreter with requirements.txt), root=DIR (the repository, where Snakemake
# runs in another folder), markers=keep to take the files as they are.

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(config.get("root", workflow.basedir))
sys.path.insert(0, str(ROOT))
from core.places import VARIABLE, default_results
from experiments.plan.catalogue import JOBS, REPORT, TASKS
from experiments.plan.task import chosen

USUAL = default_results()  # told to every job, whose environment may be another
RESULTS = config.get("results", USUAL)
OWN = ROOT / ".venv" / "bin" / "python"
PYTHON = config.get("python", str(OWN) if OWN.exists() else "python")
BY_NAME = {task.name: task for task in TASKS}
PLAN = f"{VARIABLE}={shlex.quote(USUAL)} {shlex.quote(PYTHON)} -m experiments.plan"
IN_ROOT, WRITING = f"cd {shlex.quote(str(ROOT))} && {PLAN}", f"results={RESULTS}"
REPORT_COMMAND = f"{IN_ROOT} run report {shlex.quote(WRITING)}"


def markers(names):
    return [str(BY_NAME[name].marker(RESULTS)) for name in names]


def members(job):
    return [task for task in chosen(TASKS, [job]) if task is not REPORT]


def asked():
    """The jobs and tasks on Snakemake's command line, which it has not parsed yet."""
    words = [Path(word).name.removesuffix(".done") for word in sys.argv[1:]]
    return [word for word in words if word in JOBS or word in BY_NAME] or [JOBS[0]]


if workflow.is_main_process and config.get("markers") != "keep":
    subprocess.run([PYTHON, "-m", "experiments.plan", "markers", *asked(), WRITING], cwd=ROOT, check=True)


wildcard_constraints:
    name=r"[^/]+",


for job in JOBS:

    rule:
        name: job
        localrule: True
        input:
            [task.marker(RESULTS) for task in members(job)],
        shell:
            REPORT_COMMAND


rule task:
    input:
        lambda found: markers(BY_NAME[found.name].after),
    output:
        str(Path(RESULTS) / "plan" / "{name}.done"),
    params:
        command=lambda found: BY_NAME[found.name].command,
    threads: lambda found: BY_NAME[found.name].processes
    resources:
        runtime=lambda found: int(3 * BY_NAME[found.name].minutes) + 10,
        mem_mb=lambda found: 8000 + 24000 * BY_NAME[found.name].gpus,
        gpu=lambda found: BY_NAME[found.name].gpus or None,
        scale=lambda found: 0 if BY_NAME[found.name].gpus else None,  # Kubernetes: GPUs need a limit, too
    shell:
        "here=$PWD && " + IN_ROOT + " task {wildcards.name:q} " + shlex.quote(WRITING) + " && cd $here && "
        "(test -e {output:q} || cp " + shlex.quote(str(ROOT / RESULTS)) + "/plan/{wildcards.name}.done {output:q})"


onerror:
    shell(REPORT_COMMAND)  # of what is there
