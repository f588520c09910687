"""QRes-VAE and QARV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from experiments.plan.catalogue.kinds import DAY, SPEED, WEEK, curve, lossless, made, training
from experiments.plan.task import Task

LAMBDAS = {"qres34m": (16, 32, 64, 128, 256, 512, 1024, 2048), "qres17m": (1, 2, 4, 8, 16, 32, 64, 1024)}


OURS, SSIM = ("train-qres3m_vr",), ("train-qres3m_vr-ms_ssim",)


def qres() -> Iterator[Task]:
    """Trainings, curves, lossless rows and evidence of QRes-VAE and QARV."""
    yield from _small()
    yield curve("qres", "qres3m_vr", "sample", quick=True, after=OURS)
    for dataset in ("kodak", "clic_professional_test"):
        yield curve("qres", "qres3m_vr", dataset, after=OURS)
        yield curve("qres", "qres3m_vr", dataset, "params.target=ms_ssim", f"qres3m_vr-ms_ssim-{dataset}", SSIM)
        yield curve("qres", "qres34m", dataset, minutes=DAY)
    yield curve("qres", "qres17m", "celeba", minutes=DAY)
    yield curve("qres", "qres34m_vr", "kodak", "weights=runs/qres34m_vr", after=("train-qres34m_vr",), minutes=DAY)
    for dataset in ("kodak", "cifar10", "imagenet32"):
        yield lossless("qres", "qres34m_lossless", dataset)
    yield from _qres_small_lossless()
    yield from _qres_large()
    yield from _qarv()
    yield from _evidence()


def _small() -> Iterator[Task]:
    """The weights we train here."""
    vr = "python -m qres train with method=qres3m_vr"
    photos = "dataset=photos scales=[1.0] straight_through=True half=True validation=photos_valid"
    yield training(
        "qres",
        "qres3m_vr-first",
        f"{vr} {photos} steps=6600 batch=8 crop=64 schedule=constant ema=0.9995 folder=runs/first",
        "photos",
        ("runs/first",),
    )
    yield training(
        "qres",
        "qres3m_vr",
        f"{vr} {photos} init=runs/first steps=12500 hold=0.5 lr=1.5e-3 warmup=50 ema=0.9995 seed=3 "
        "folder=runs/qres3m_vr",
        "photos",
        ("checkpoints/qres3m_vr", "runs/qres3m_vr"),
        ("train-qres3m_vr-first",),
    )
    yield training(
        "qres",
        "qres3m_vr-ms_ssim",
        f"{vr} params.target=ms_ssim straight_through=True init=runs/qres3m_vr crop=192 batch=2 steps=3000 lr=4e-4 "
        "seed=3 half=True folder=runs/qres3m_vr-ms_ssim",
        "bsds500",
        ("checkpoints/qres3m_vr_ms_ssim", "runs/qres3m_vr-ms_ssim"),
        OURS,
    )
    yield training(
        "qres",
        "qres34m_vr",
        f"python -m qres train with method=qres34m_vr {photos} init=runs/qres3m_vr steps=1200 crop=64 lr=1.5e-4 "
        "warmup=50 ema=0.995 seed=2 folder=runs/qres34m_vr",
        "photos",
        ("checkpoints/qres34m_vr", "runs/qres34m_vr"),
        OURS,
    )


def _evidence() -> Iterator[Task]:
    """Speed, cross decoding, pictures, sizes and damaged streams."""
    large = "qres34m,qres17m,qres34m_lossless"
    yield made(
        "qres", "speed-qres", f"{SPEED} methods={large} weights=fresh", [f"tables/speed_{large.replace(',', '_')}.csv"]
    )
    yield made("qres", "speed-training", "python benchmarks/train_speed.py", ["tables/speed_training.csv"])
    yield _crossed("qres3m_vr", "method=qres3m_vr", OURS)
    yield _crossed("qres3m_vr_whole", "method=qres3m_vr limit=24 crop=0", OURS)
    yield _crossed("qres3m_vr_target_ms_ssim", "method=qres3m_vr params.target=ms_ssim", SSIM)
    kinds = ("samples", "progressive", "interpolation", "inpainting")
    yield made(
        "qres",
        "pictures-qres3m_vr",
        "python -m qres pictures with method=qres3m_vr",
        [f"qres_pictures/{kind}-*.json" for kind in kinds],
        after=OURS,
    )
    yield made(
        "qres",
        "sizes-qres3m_vr",
        "python -m qres sizes with method=qres3m_vr dataset=kodak",
        ["tables/official_sizes_qres3m_vr.csv"],
        "kodak",
        OURS,
    )
    yield made(
        "qres",
        "fuzz-qres3m_vr",
        "python benchmarks/fuzz.py with method=qres3m_vr mutations=100000",
        ["fuzz/qres3m_vr.json"],
        after=OURS,
        minutes=DAY,
    )


def _crossed(table: str, options: str, after: Sequence[str]) -> Task:
    """Streams of many settings, decoded by each."""
    command = f"python benchmarks/cross_decode.py with {options}"
    return made("qres", f"cross_decode-{table}", command, [f"tables/cross_decode_{table}.csv"], "kodak", after)


def _qres_small_lossless() -> Iterator[Task]:
    """The small lossless model; of the ImageNet sample it is measured on what it has not seen at another size."""
    yield training(
        "qres",
        "qres3m_lossless",
        "python -m qres train with method=qres3m_lossless dataset=lossless_pictures scales=[1.0] steps=60000 batch=4 "
        "crop=128 first_crop=32 first_batch=64 first_share=0.5 first_again=3 hold=0.5 lr=1e-3 ema=0.9995 half=True "
        "folder=runs/qres3m_lossless",
        "lossless_pictures",
        ("checkpoints/qres3m_lossless", "runs/qres3m_lossless"),
    )
    for dataset in ("kodak", "cifar10", "imagenet32_unseen"):
        yield lossless("qres", "qres3m_lossless", dataset, "weights=runs/qres3m_lossless", ["train-qres3m_lossless"])


def _qres_large() -> Iterator[Task]:
    """The published models trained from nothing, on two GPUs, and measured beside the authors' weights."""
    base = "torchrun --nproc-per-node 2 -m qres train with paper device=cuda"
    for method, lambdas in LAMBDAS.items():
        data, dataset = ("folder:coco/train2017", "kodak") if method == "qres34m" else ("celeba_train", "celeba")
        for lmb in lambdas:
            folder = f"runs/{method}-{lmb}"
            yield training(
                "qres",
                f"{method}-{lmb}",
                f"{base} method={method} params.lmb={lmb} dataset={data} folder={folder}",
                data,
                (folder,),
                minutes=2 * WEEK,
            )
            yield curve(
                "qres",
                method,
                dataset,
                f"points={lmb} weights={folder}",
                f"{method}-{lmb}-ours-{dataset}",
                [f"train-{method}-{lmb}"],
            )
    yield training(
        "qres",
        "qres34m_lossless",
        f"{base} method=qres34m_lossless folder=runs/qres34m_lossless",
        "folder:coco/train2017",
        ("runs/qres34m_lossless",),
        minutes=2 * WEEK,
    )
    for dataset in ("kodak", "cifar10", "imagenet32"):
        yield lossless(
            "qres",
            "qres34m_lossless",
            dataset,
            "weights=runs/qres34m_lossless",
            ["train-qres34m_lossless"],
            f"qres34m_lossless-ours-{dataset}-lossless",
        )


def _qarv() -> Iterator[Task]:
    """The published variable-rate model, its training on two GPUs, and its speed beside that of qres34m."""
    photos = "folder:coco/train2017"
    yield training(
        "qres",
        "qarv_base",
        "torchrun --nproc-per-node 2 -m qres train with paper method=qarv_base batch=32 "
        f"steps=2000000 schedule=cosine hold=0.5 device=cuda dataset={photos} folder=runs/qarv_base",
        photos,
        ("runs/qarv_base",),
        minutes=4 * WEEK,
    )
    for dataset in ("kodak", "clic_professional_test"):
        yield curve("qres", "qarv_base", dataset, minutes=DAY)
    yield curve(
        "qres", "qarv_base", "kodak", "weights=runs/qarv_base", "qarv_base-ours-kodak", ["train-qarv_base"], minutes=DAY
    )
    both = "qres34m,qarv_base"
    yield made(
        "qres", "speed-qarv", f"{SPEED} methods={both} weights=fresh", [f"tables/speed_{both.replace(',', '_')}.csv"]
    )
