"""Search at the encoder: curves with search=N beside the plain ones, and the figure of rate saved over seconds."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import DAY, WEEK, curve, lossless, made
from experiments.plan.task import Task

STEPS = (30, 100)
GAIN = "python benchmarks/search_gain.py with"
PRIOR = "limit=1000 params.prior=True"


def search() -> Iterator[Task]:
    """Curves of every family that searches, at two efforts, and the figure and table of each set of pictures."""
    photographs, grey = [], []
    for system, method in (("qres", "qres3m_vr"), ("mcquic", "mcquic_small"), ("rec", "irec2_small")):
        for steps in STEPS:
            name = f"{method}-kodak-search-{steps}"
            photographs.append(
                curve(system, method, "kodak", f"search={steps}", name, [f"{method}-kodak"], minutes=WEEK)
            )
    for method in ("vqvae_ema", "fsq"):
        plain = curve("vqvae", method, "fashion_mnist", PRIOR, f"{method}-fashion_mnist-prior")
        grey.append(plain)
        for steps in STEPS:
            name = f"{method}-fashion_mnist-search-{steps}"
            grey.append(
                curve("vqvae", method, "fashion_mnist", f"{PRIOR} search={steps}", name, [plain.name], minutes=DAY)
            )
    yield from (*photographs, *grey)
    yield lossless("rec", "rvae_small", "cifar10", "limit=1000 search=100", name="rvae_small-cifar10-search-100")
    yield made(
        "qres",
        "search-kodak",
        f"{GAIN} dataset=kodak",
        ["tables/search_kodak_psnr.csv"],
        "kodak",
        [task.name for task in photographs],
    )
    yield made(
        "vqvae",
        "search-fashion_mnist",
        f"{GAIN} dataset=fashion_mnist limit=1000",
        ["tables/search_fashion_mnist_first_1000_test_psnr.csv"],
        "fashion_mnist",
        [task.name for task in grey],
    )
