"""McQuic."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import SPEED, WEEK, curve, made, training
from experiments.plan.task import Task


def mcquic() -> Iterator[Task]:
    """Trainings, curves and speed of McQuic."""
    yield curve("mcquic", "mcquic", "kodak", "points=2")
    yield curve("mcquic", "mcquic", "clic_professional_test", "points=2")
    small = "python -m vq train with method=mcquic_small dataset=bsds500 half=True"
    trained = ["train-mcquic_small-4", "train-mcquic_small-2", "train-mcquic_small-8"]
    yield training(
        "mcquic",
        "mcquic_small-4",
        f"{small} params.m=4 steps=4000 folder=runs/mse4",
        "bsds500",
        ("checkpoints/mcquic_small/mse4", "runs/mse4"),
    )
    for m in (2, 8):
        yield training(
            "mcquic",
            f"mcquic_small-{m}",
            f"{small} params.m={m} steps=2200 init=runs/mse4 params.free=1 lr=5e-4 folder=runs/mse{m}",
            "bsds500",
            (f"checkpoints/mcquic_small/mse{m}", f"runs/mse{m}"),
            trained[:1],
        )
    ssim = [f"{name}-ms_ssim" for name in trained]
    for m in (4, 2, 8):
        yield training(
            "mcquic",
            f"mcquic_small-{m}-ms_ssim",
            f"{small} params.m={m} params.target=ms_ssim steps=1000 "
            f"init=runs/mse{m} params.free=0 lr=5e-4 crop=192 batch=4 folder=runs/ssim{m}",
            "bsds500",
            (f"checkpoints/mcquic_small/ssim{m}", f"runs/ssim{m}"),
            [f"train-mcquic_small-{m}"],
        )
    for dataset in ("kodak", "clic_professional_test"):
        yield curve("mcquic", "mcquic_small", dataset, after=trained)
        yield curve("mcquic", "mcquic_small", dataset, "params.target=ms_ssim", f"mcquic_small-ms_ssim-{dataset}", ssim)
        yield curve(
            "mcquic", "mcquic_small", dataset, "params.context=False", f"mcquic_small-order0-{dataset}", trained
        )
    for m in (2, 12):
        yield training(
            "mcquic",
            f"mcquic-{m}",
            f"python -m vq train with paper method=mcquic dataset=lmdb:data/photos params.m={m} device=cuda "
            f"folder=runs/mcquic-{m}",
            "lmdb:data/photos",
            (f"runs/mcquic-{m}",),
            minutes=2 * WEEK,
        )
        yield curve(
            "mcquic",
            "mcquic",
            "kodak",
            f"points={m} weights=runs/mcquic-{m}",
            f"mcquic-{m}-ours-kodak",
            [f"train-mcquic-{m}"],
        )
    yield made("mcquic", "speed-mcquic", f"{SPEED} method=mcquic weights=fresh", ["tables/speed_mcquic.csv"])
