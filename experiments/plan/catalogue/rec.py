"""Relative entropy coding."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.plan.catalogue.kinds import DAY, WEEK, curve, lossless, made, training
from experiments.plan.task import Task

BETAS = (0.001, 0.003, 0.01, 0.03, 0.05)
BLOCKS = {  # the largest blocks of latents of rvae_small that each coder takes; grs takes none
    "beam_search": 2048,
    "irec_importance": 2048,
    "irec_rejection": 64,
    "argmax": 8,
    "mrc": 8,
    "sp_orc": 8,
    "orc": 4,
    "ring_toss": 4,
    "sp_pfr": 4,
    "pfr": 2,
    "ers": 2,
    "gprs": 1,
    "gprs_sample": 1,
    "gprs_dyadic": 1,
    "as_star": 1,
    "ad_star": 1,
    "dad_star": 1,
    "grcs": 1,
    "grcd": 1,
    "plain_rejection": 1,
}


def _irec2_small(beta: float) -> Task:
    """The small two-level VAE: the middle beta from nothing, each other one from its neighbour."""
    start = {0.003: 0.01, 0.03: 0.01, 0.001: 0.003, 0.05: 0.03}.get(beta)
    more = "" if start is None else f"steps=600 lr=5e-4 warmup=50 init=runs/b{start} "
    folders = (f"checkpoints/irec2_small/*{beta}", f"runs/b{beta}")
    before = () if start is None else (f"train-irec2_small-{start}",)
    command = f"python -m rec train with method=irec2_small half=True params.beta={beta} {more}folder=runs/b{beta}"
    return training("rec", f"irec2_small-{beta}", command, "bsds500", folders, before)


def _bitswap() -> Iterator[Task]:
    """The Markov-chain VAE: training, files in both orders, what a long chain costs, chains of every method."""
    folder, trained = "runs/bitswap_small", ["train-bitswap_small"]
    yield training(
        "rec",
        "bitswap_small",
        f"python -m rec train with method=bitswap_small half=True folder={folder}",
        "cifar10_train",
        ("checkpoints/bitswap_small", folder),
    )
    weights = f"weights={folder}"  # until they are shipped
    for dataset in ("cifar10", "imagenet32", "kodak"):
        yield lossless("rec", "bitswap_small", dataset, weights, trained)
    for name, more in (("bb_ans", "params.order=bb_ans"), ("asymptotic", "rate=asymptotic"), ("ideal", "rate=ideal")):
        yield lossless(
            "rec", "bitswap_small", "cifar10", f"{weights} {more}", trained, f"bitswap_small-{name}-cifar10-lossless"
        )
    outputs = ["bits_back/*.json", "tables/bits_back_cifar10_first_1000_test.csv"]
    command = f"python benchmarks/bits_back.py with limit=1000 {weights}"
    yield made("rec", "bits_back", command, outputs, "cifar10", [*trained, "train-rvae_small"], DAY)


def rec() -> Iterator[Task]:
    """Trainings, curves, lossless rows and overhead of relative entropy coding."""
    yield training(
        "rec",
        "rvae_small",
        "python -m rec train with method=rvae_small half=True folder=runs/rvae_small",
        "cifar10_train",
        ("checkpoints/rvae_small", "runs/rvae_small"),
    )
    yield training(
        "rec",
        "rvae",
        "torchrun --nproc-per-node 2 -m rec train with paper method=rvae dataset=cifar10 device=cuda folder=runs/rvae",
        "cifar10_train",
        ("runs/rvae",),
        minutes=2 * WEEK,
    )
    for dataset in ("cifar10", "imagenet32", "kodak"):
        yield lossless("rec", "rvae_small", dataset, after=["train-rvae_small"])
        yield lossless("rec", "rvae", dataset, "weights=runs/rvae", ["train-rvae"])
    for coder, size in BLOCKS.items():
        yield lossless(
            "rec",
            "rvae_small",
            "cifar10",
            f"limit=3 params.coder={coder} params.block_size={size}",
            ["train-rvae_small"],
            f"rvae_small-{coder}-cifar10-lossless",
        )
    photos = "folder:data/clic/train"  # the published training set; no split of ours
    for beta in BETAS:
        yield _irec2_small(beta)
        for method in ("irec1", "irec2", "irec4"):
            folder = f"runs/{method}-{beta}"
            yield training(
                "rec",
                f"{method}-{beta}",
                f"python -m rec train with paper method={method} "
                f"params.beta={beta} dataset={photos} device=cuda folder={folder}",
                photos,
                (folder,),
                minutes=2 * WEEK,
            )
            yield curve(
                "rec",
                method,
                "kodak",
                f"points={beta} weights={folder}",
                f"{method}-{beta}-kodak",
                [f"train-{method}-{beta}"],
                minutes=WEEK,
            )
    yield curve("rec", "irec2_small", "kodak", after=[f"train-irec2_small-{beta}" for beta in BETAS], minutes=DAY)
    yield from _bitswap()
    outputs = ["rec_overhead/*/*.json", "tables/rec_overhead_line.csv", "tables/rec_overhead_block.csv"]
    yield made("rec", "rec_overhead", "python benchmarks/rec_overhead.py", outputs, minutes=DAY)
