"""The VQ-VAE family on Fashion-MNIST, and the toy sources."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import DAY, USAGE, curve, made, training
from experiments.plan.task import Task

CODEBOOKS = {
    "vqvae": ("size", "16", "64", "256"),
    "vqvae_ema": ("size", "16", "64", "256"),
    "vqvae_rot": ("size", "256"),
    "vqvae_cosine": ("size", "256"),
    "vqvae_ec": ("rate_weight", "0.5"),
    "simvq": ("size", "256"),
    "fsq": ("levels", "5x3", "4x4x4", "8x6x5"),
    "lfq": ("bits", "8"),
    "pq": ("books", "4"),
    "rvq": ("stages", "4"),  # one file for 1 to 4 stages
}
SEEDED = {"vqvae": "size=256", "vqvae_ema": "size=256", "fsq": "levels=8x6x5"}
TOY = (
    ("banana", "source=banana"),
    ("laplace", "source=laplace"),
    ("normal2d", "source=normal2d"),
    ("normal2d-k7", "source=normal2d method=vecvq params.k=7 points=5 seeds=8"),
    ("normal2d_rho09", "source=normal2d_rho09 methods=ecvq,vecvq,ecsq,vq"),
    ("sphere", "source=sphere methods=ecvq,vecvq,ecsq,vq vectors=100000"),
    *(
        (name, f"source={name} source_params.points=64 methods=ecvq,vecvq,ecsq,vq vectors=100000")
        for name in ("ramp", "sawbridge", "sinusoid")
    ),
)


def codebooks(family: str, system: str, methods: dict[str, tuple[str, ...]], more: str) -> Iterator[Task]:
    """Trainings of small models on Fashion-MNIST, one for each setting of the curve."""
    for method, (setting, *points) in methods.items():
        for point in points or [""]:
            stem = f"{method}-{point}" if point and method != "rvq" else method
            set_to = f" params.{setting}={point}" if stem != method else ""
            command = f"python -m {family} train with method={method}{set_to} {more} half=True"
            run = f"runs/{method}-{point or None}-seed0" if method != "rvq" else "runs/rvq-4-seed0"
            yield training(
                system, stem, command, "fashion_mnist_train", (f"checkpoints/{family}/{stem}", run), minutes=120
            )


def vq() -> Iterator[Task]:
    """Trainings, curves and codebook usage of the VQ-VAE family, and the toy sources."""
    trained = list(codebooks("vq", "vqvae", CODEBOOKS, "params.prior=True dataset=fashion_mnist"))
    for method, setting in SEEDED.items():
        stem = f"{method}-{setting.partition('=')[2]}"
        for seed in (1, 2):
            command = (
                f"python -m vq train with method={method} params.{setting} seed={seed} dataset=fashion_mnist half=True"
            )
            folders = (f"checkpoints/vq/{stem}-seed{seed}", f"runs/{stem}-seed{seed}")
            trained.append(
                training("vqvae", f"{stem}-seed{seed}", command, "fashion_mnist_train", folders, minutes=120)
            )
    yield from trained
    names, first = [task.name for task in trained], "vqvae_fashion_mnist_first_1000_test"
    for method in CODEBOOKS:
        mine = [name for name in names if name.startswith(f"train-{method}")]
        yield curve("vqvae", method, "fashion_mnist", "limit=1000", after=mine)
    yield made(
        "vqvae",
        "usage-vqvae",
        "python benchmarks/vqvae_table.py",
        [f"tables/{first}{end}.csv" for end in ("", "_usage", "_seeds")],
        "fashion_mnist",
        names,
    )
    yield Task(
        "usage-whole-test",
        "evaluate",
        "cells",
        f"{USAGE} dataset=fashion_mnist methods=vqvae,vqvae_ema,fsq",
        ("paper", "vqvae"),
        (),
        ("data-fashion_mnist", *names),
    )
    yield made("vqvae", "speed-search", "python benchmarks/search_speed.py", ["tables/speed_search.csv"])
    for name, options in TOY:
        yield Task(
            f"toy-{name}",
            "evaluate",
            "toy",
            f"python benchmarks/toy_sources.py with {options}",
            ("paper", "vecvq"),
            minutes=DAY,
        )
