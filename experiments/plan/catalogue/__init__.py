"""Every task of the plan: the data, trainings, figures and tables of the five systems and the classical codecs.

Nothing but the standard library is imported, so that Snakemake can read the plan from an environment of its own.
"""

from experiments.plan.catalogue.classical import classical, prepare
from experiments.plan.catalogue.damage import fuzz
from experiments.plan.catalogue.lattice import lattice
from experiments.plan.catalogue.longer import longer
from experiments.plan.catalogue.mcquic import mcquic
from experiments.plan.catalogue.overfit import overfit
from experiments.plan.catalogue.qres import qres
from experiments.plan.catalogue.rec import rec
from experiments.plan.catalogue.search import search
from experiments.plan.catalogue.vq import vq
from experiments.plan.task import Task

__all__ = ["JOBS", "REPORT", "SYSTEMS", "TASKS"]

SYSTEMS = ("classical", "qres", "mcquic", "vecvq", "vqvae", "llvq", "rec", "overfit")
JOBS = ("quick", "paper", *SYSTEMS, "longer")
REPORT = Task("report", "report", "report", "python benchmarks/report.py", JOBS)
FOUND = (prepare, classical, qres, mcquic, vq, lattice, rec, overfit, fuzz, search, longer)
TASKS = (*(task for tasks in FOUND for task in tasks()), REPORT)
