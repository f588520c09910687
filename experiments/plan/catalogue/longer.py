"""Longer trainings, of which the weights in ``checkpoints/`` are to be replaced: hours to days of one CPU thread each.

They are a job of their own, ``longer``, and no part of the paper: ``python -m experiments.plan run longer``, or one of
them by its name. What they leave is measured from its folder; shipped weights move to ``checkpoints/``, with the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from experiments.plan.catalogue.kinds import DAY, WEEK, curve, lossless, training
from experiments.plan.catalogue.lattice import LATTICES
from experiments.plan.catalogue.vq import CODEBOOKS
from experiments.plan.task import Task

RUNS = "runs/longer"
PHOTOS = "dataset=photos scales=[1.0]"
GROWING = "crop=128 first_crop=64 first_share=0.5 hold=0.5"
WATCHED = "validation=photos_valid half=True"
FASHION = "dataset=fashion_mnist steps=10000 half=True"
SEEDED = ("vqvae-256", "vqvae_ema-256", "fsq-8x6x5", "llvq_sparse-512", "lattice_e8-0.3")
WIDER = "params.level_1_filters=96 params.level_2_filters=48"  # 48 numbers for 16 x 16 pixels end below 28 dB
BETAS = {0.01: None, 0.003: 0.01, 0.001: 0.003, 0.03: 0.01, 0.05: 0.03}  # each from the one behind it


def longer() -> Iterator[Task]:
    """Trainings and the evaluations of what they leave."""
    for task in (*_qres(), *_mcquic(), *_rec(), *_fashion_mnist()):
        yield replace(task, jobs=("longer",))


def _pair(system: str, name: str, command: str, data: str, evaluation: Task, start: str = "") -> Iterator[Task]:
    """A training in ``runs/longer/NAME``, from another one there, and the evaluation of its weights."""
    folder = f"{RUNS}/{name}"
    more = f" init={RUNS}/{start}" if start else ""
    before = (f"train-longer-{start}",) if start else ()
    task = training(system, f"longer-{name}", f"{command}{more} folder={folder}", data, (folder,), before, WEEK)
    yield task
    yield replace(evaluation, after=(*evaluation.after, task.name))


def _qres() -> Iterator[Task]:
    own = f"{PHOTOS} straight_through=True"
    small, target = "python -m qres train with method=qres3m_vr", "params.target=ms_ssim"
    yield from _pair(
        "qres", "qres3m_vr",
        f"{small} {own} steps=150000 batch=4 first_batch=8 {GROWING} lr=2e-3 ema=0.9995 {WATCHED}",
        "photos", curve("qres", "qres3m_vr", "kodak", f"weights={RUNS}/qres3m_vr", "longer-qres3m_vr-kodak"),
    )  # fmt: skip
    yield from _pair(
        "qres", "qres3m_vr-ms_ssim",
        f"{small} {target} {own} steps=60000 batch=2 crop=192 hold=0.3 lr=8e-4 ema=0.9995 seed=1 {WATCHED}",
        "photos",
        curve("qres", "qres3m_vr", "kodak", f"{target} weights={RUNS}/qres3m_vr-ms_ssim",
              "longer-qres3m_vr-ms_ssim-kodak"),
        "qres3m_vr",
    )  # fmt: skip


def _mcquic() -> Iterator[Task]:
    small, target = "python -m vq train with method=mcquic_small_vr", "params.target=ms_ssim"
    yield from _pair(
        "mcquic", "mcquic_small_vr",
        f"{small} {PHOTOS} steps=80000 batch=8 first_batch=32 {GROWING} lr=1e-3 warmup=200 ema=0.999 params.free=1000 "
        f"{WATCHED}",
        "photos",
        curve("mcquic", "mcquic_small_vr", "kodak", f"weights={RUNS}/mcquic_small_vr", "longer-mcquic_small_vr-kodak"),
    )  # fmt: skip
    yield from _pair(
        "mcquic", "mcquic_small_vr-ms_ssim",
        f"{small} {target} {PHOTOS} steps=30000 batch=4 crop=192 hold=0.3 lr=5e-4 warmup=200 ema=0.999 params.free=0 "
        f"seed=1 {WATCHED}",
        "photos",
        curve("mcquic", "mcquic_small_vr", "kodak", f"{target} weights={RUNS}/mcquic_small_vr-ms_ssim",
              "longer-mcquic_small_vr-ms_ssim-kodak"),
        "mcquic_small_vr",
    )  # fmt: skip


def _rec() -> Iterator[Task]:
    small = f"python -m rec train with method=irec2_small {WIDER} {PHOTOS}"
    for beta, start in BETAS.items():
        steps = "steps=60000 lr=2e-3" if start is None else "steps=15000 lr=1e-3 warmup=50"
        yield from _pair(
            "rec", f"irec2_small-{beta}",
            f"{small} params.beta={beta} {steps} batch=8 first_batch=32 {GROWING} ema=0.999 {WATCHED}",
            "photos",
            curve("rec", "irec2_small", "kodak", f"{WIDER} points={beta} weights={RUNS}/irec2_small-{beta}",
                  f"longer-irec2_small-{beta}-kodak", minutes=DAY),
            f"irec2_small-{start}" if start else "",
        )  # fmt: skip
    for beta in (0.003, 0.01, 0.03):
        yield from _pair(
            "rec", f"irec2_small-{beta}-ms_ssim",
            f"{small} params.beta={beta} params.target=ms_ssim steps=15000 batch=4 crop=192 hold=0.3 lr=5e-4 warmup=50 "
            f"ema=0.999 seed=1 {WATCHED}",
            "photos",
            curve("rec", "irec2_small", "kodak",
                  f"{WIDER} params.target=ms_ssim points={beta} weights={RUNS}/irec2_small-{beta}-ms_ssim",
                  f"longer-irec2_small-{beta}-ms_ssim-kodak", minutes=DAY),
            f"irec2_small-{beta}",
        )  # fmt: skip
    wider = "params.num_res_blocks=8 params.deterministic_filters=64 params.stochastic_filters=12"
    yield from _pair(
        "rec", "rvae_small",
        f"python -m rec train with method=rvae_small {wider} dataset=lossless_pictures steps=150000 batch=16 hold=0.5 "
        "lr=2e-3 ema=0.9995 half=True",
        "lossless_pictures",
        lossless("rec", "rvae_small", "cifar10", f"{wider} limit=20 weights={RUNS}/rvae_small",
                 name="longer-rvae_small-cifar10"),
    )  # fmt: skip


def _fashion_mnist() -> Iterator[Task]:
    """Ten times the steps; three seeds of some."""
    for family, system, methods in (("vq", "vqvae", CODEBOOKS), ("lattice", "llvq", LATTICES)):
        for method, (setting, *points) in methods.items():
            for point in points or [""]:
                stem = f"{method}-{point}" if point and method != "rvq" else method
                for seed in (0, 1, 2) if stem in SEEDED else (0,):
                    yield from _small(family, system, method, setting, point, stem, seed)


def _small(family: str, system: str, method: str, setting: str, point: str, stem: str, seed: int) -> Iterator[Task]:
    one = bool(point) and method != "rvq"  # set of weights for one setting
    name = f"{stem}-seed{seed}" if seed else stem
    options = {
        "vq": "params.prior=True",
        "lattice": "" if method.startswith("llvq_") else "rate_warmup=0.3 straight_through=True",
    }[family]
    if method == "lattice_full":
        options = "rate_warmup=0.3"
    words = (f"method={method}", f"params.{setting}={point}" if one else "", options, FASHION, f"seed={seed}")
    command = f"python -m {family} train with {' '.join(filter(None, words))}"
    where = f"points={point} " if one else ""
    evaluation = curve(
        system, method, "fashion_mnist", f"{where}weights={RUNS}/{name} limit=1000", f"longer-{name}-fashion_mnist"
    )
    yield from _pair(system, name, command, "fashion_mnist_train", evaluation)
