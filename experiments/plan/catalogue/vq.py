"""The VQ-VAE family on Fashion-MNIST and on CIFAR-10 in colour, and the toy sources."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
LATER = {  # trained in float32
    "ifsq": ("levels", "5x3", "4x4x4", "8x6x5"),
    "rfsq": ("stages", "4"),
    "bsq": ("bits", "8", "16"),
    "gsq": ("groups", "2", "4"),
    "leech_sq": ("",),
}
COLOUR = {  # on the training pictures of CIFAR-10, in float32
    **{name: CODEBOOKS[name] for name in ("vqvae_ema", "simvq", "fsq", "lfq", "pq", "rvq")},
    **LATER,
}
VARIABLE = ("rvq", "rfsq")  # one file for 1 to 4 stages


class Place(NamedTuple):
    """Where models are trained and kept: the data set, the folder of runs, and the end of names in checkpoints/."""

    data: str
    runs: str = "runs"
    end: str = ""


FASHION = Place("fashion_mnist")
IN_COLOUR = Place("cifar10", "runs/colour", "-cifar10")
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


def codebooks(
    family: str, system: str, methods: dict[str, tuple[str, ...]], more: str, where: Place = FASHION
) -> Iterator[Task]:
    """Trainings of small models on one data set, one for each setting of the curve."""
    for method, (setting, *points) in methods.items():
        for point in points or [""]:
            stem = f"{method}-{point}" if point and method not in VARIABLE else method
            set_to = f" params.{setting}={point}" if stem != method else ""
            command = f"python -m {family} train with method={method}{set_to} {more} half=True"
            run = f"{where.runs}/{stem}"
            command += f" folder={run}"
            folders = (f"checkpoints/{family}/{stem}{where.end}", run)
            yield training(system, f"{stem}{where.end}", command, f"{where.data}_train", folders, minutes=120)


def _where_trained(trained: Sequence[Task], where: Place, more: str) -> Iterator[Task]:
    """Curves of what is not shipped, from the folders of its trainings."""
    for task in trained:
        options, folder = task.options, task.outputs[-1]
        setting = [v for k, v in options.items() if k in {f"params.{s}" for s in ("size", "levels", "bits", "groups")}]
        at = f"points={setting[0]} " if setting else ""
        stem = task.name.removeprefix("train-")
        yield curve(
            "vqvae",
            options["method"],
            where.data,
            f"{more}{at}weights={folder} limit=1000",
            f"{stem}-trained",
            [task.name],
        )


def vq() -> Iterator[Task]:
    """Trainings, curves and codebook usage of the VQ-VAE family, and the toy sources."""
    options = "params.prior=True dataset=fashion_mnist"
    trained = list(codebooks("vq", "vqvae", CODEBOOKS, options))
    later = list(codebooks("vq", "vqvae", LATER, f"{options} amp=False"))
    yield from later
    yield from _where_trained(later, FASHION, "")
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
    names = [task.name for task in trained]
    for method in CODEBOOKS:
        mine = [name for name in names if name.startswith(f"train-{method}")]
        yield curve("vqvae", method, "fashion_mnist", "limit=1000", after=mine)
    yield from _tables(names)
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


def _tables(names: Sequence[str]) -> Iterator[Task]:
    """Priors and codebooks of any size, the family in colour, and the tables of all."""
    first, found = "vqvae_fashion_mnist_first_1000_test", list(_indices())
    yield from found
    indices = [task.name for task in found if task.stage == "train"]
    yield from _colour()
    yield made(
        "vqvae",
        "usage-vqvae",
        "python benchmarks/vqvae_table.py",
        [f"tables/{first}{end}.csv" for end in ("", "_usage", "_seeds", "_sizes")],
        "fashion_mnist",
        [*names, *indices],
    )
    yield made(
        "vqvae",
        "speed-priors",
        "python benchmarks/vqvae_table.py with parts=priors",
        [f"tables/{first}_priors.csv"],
        "fashion_mnist",
        indices,
    )


def _indices() -> Iterator[Task]:
    """A hyperprior for codes of a model that is there; one codebook for all sizes, made of that model's or trained."""
    model, hyper = "checkpoints/vq/vqvae_ema-256", "vqvae_ema-256-hyper"
    command = (
        f"python -m vq train with method=vqvae_ema params.prior=hyper dataset=fashion_mnist init={model} steps=0 "
        f"half=True folder=runs/{hyper}"
    )
    yield training(
        "vqvae", hyper, command, "fashion_mnist_train", (f"checkpoints/vq/{hyper}", f"runs/{hyper}"), minutes=120
    )
    command = "python -m vq train with method=raq dataset=fashion_mnist"
    after = f"{command} init={model} steps=0 half=True folder=runs/raq"
    yield training("vqvae", "raq", after, "fashion_mnist_train", ("checkpoints/vq/raq", "runs/raq"), minutes=120)
    whole = f"{command} amp=False half=True folder=runs/raq-trained"
    yield training("vqvae", "raq-trained", whole, "fashion_mnist_train", ("runs/raq-trained",), minutes=120)
    more = "params.prior=hyper points=256 limit=1000"
    yield curve("vqvae", "vqvae_ema", "fashion_mnist", more, "vqvae_ema-hyper-fashion_mnist", [f"train-{hyper}"])
    yield curve("vqvae", "raq", "fashion_mnist", "limit=1000", after=["train-raq"])
    more = "weights=runs/raq-trained limit=1000"
    yield curve("vqvae", "raq", "fashion_mnist", more, "raq-trained", ["train-raq-trained"])


def _colour() -> Iterator[Task]:
    """The family in colour: trained on the training pictures of CIFAR-10, measured on its test pictures."""
    options = "params.channels=3 params.prior=True dataset=cifar10 crop=32 amp=False"
    trained = list(codebooks("vq", "vqvae", COLOUR, options, IN_COLOUR))
    yield from trained
    yield from _where_trained(trained, IN_COLOUR, "params.channels=3 ")
    yield made(
        "vqvae",
        "usage-vqvae-cifar10",
        f"python benchmarks/vqvae_table.py with parts=family dataset=cifar10 channels=3 weights={IN_COLOUR.runs} "
        f"methods={','.join(COLOUR)}",
        [f"tables/vqvae_cifar10_first_1000_test{end}.csv" for end in ("", "_usage")],
        "cifar10",
        [task.name for task in trained],
    )
