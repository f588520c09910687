"""LL-VQ-VAE and the lattices."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import WEEK, curve, made, training
from experiments.plan.catalogue.vq import codebooks
from experiments.plan.task import Task

LATTICES = {
    **{f"lattice_{name}": ("lmb", "0.1", "0.3", "1.0") for name in ("z", "a2", "d4", "e8", "leech", "full")},
    "llvq_sparse": ("codes", "512", "4294967296"),
    **{f"llvq_{name}": ("",) for name in ("dense", "vq", "vq_ema")},
}
UNSHIPPED = ("lattice_d4-0.1", "lattice_d4-1.0", "lattice_leech-0.1", "lattice_leech-1.0")  # measured where trained


def lattice() -> Iterator[Task]:
    """Trainings, curves, codebook usage and speed of the lattices."""
    trained = list(codebooks("lattice", "llvq", LATTICES, "dataset=fashion_mnist"))
    yield from trained
    for method in LATTICES:
        mine = [task.name for task in trained if task.name.startswith(f"train-{method}")]
        yield curve("llvq", method, "fashion_mnist", "limit=1000", after=mine)
    for stem in UNSHIPPED:
        method, _, lmb = stem.partition("-")
        yield curve(
            "llvq",
            method,
            "fashion_mnist",
            f"points={lmb} weights=runs/{stem} limit=1000",
            f"{stem}-ours-fashion_mnist",
            [f"train-{stem}"],
        )
    yield made(
        "llvq",
        "usage-llvq",
        "python benchmarks/llvq_table.py",
        ["tables/codebook_llvq.csv"],
        "fashion_mnist",
        ["data-celeba", "data-ffhq"],
    )
    yield made("llvq", "lattice_gap", "python benchmarks/lattice_gap.py", ["tables/lattice_gap_normal2d.csv"])
    yield made("llvq", "speed-quantizers", "python benchmarks/quantizer_speed.py", ["tables/speed_quantizers.csv"])
    for data in ("celeba", "ffhq"):
        for quantizer in ("vq", "vq-ema", "sparse_lattice", "dense_lattice"):
            folder = f"runs/llvq_{quantizer}-{data}"
            yield training(
                "llvq",
                f"llvq-{quantizer}-{data}",
                f"python -m lattice train with dataset={data} quantizer="
                f"{quantizer} reproduce=True device=cuda folder={folder}",
                f"{data}_train",
                (folder,),
                minutes=WEEK,
            )
            method = f"llvq_{quantizer.removesuffix('_lattice').replace('-', '_')}"
            point = "points=512 " if quantizer == "sparse_lattice" else ""
            yield curve(
                "llvq",
                method,
                data,
                f"params.backbone={data} {point}weights={folder}",
                f"{method}-ours-{data}",
                [f"train-llvq-{quantizer}-{data}"],
            )
