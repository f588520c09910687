"""Every task of the plan: the data, trainings, figures and tables of the five systems and the classical codecs.

Nothing but the standard library is imported, so that Snakemake can read the plan from an environment of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from experiments.task import Task

STILLS = ("jpeg", "jpeg2000", "webp", "avif", "jpegxl", "heic")
PROGRAMS = ("bpg", "hm", "vtm")  # where they are installed
LOSSLESS = ("png", "webp_lossless", "jpegxl_lossless", "jpegls", "jpeg2000_lossless", "heic_lossless",
            "avif_lossless", "flif")  # fmt: skip
DATASETS = ("kodak", "clic_professional_test", "cifar10", "imagenet32", "fashion_mnist", "fashion_mnist_train",
            "cifar10_train", "bsds500", "celeba", "celeba_train", "ffhq", "ffhq_train")  # fmt: skip
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
LATTICES = {
    **{f"lattice_{name}": ("lmb", "0.1", "0.3", "1.0") for name in ("z", "a2", "d4", "e8", "leech", "full")},
    "llvq_sparse": ("codes", "512", "4294967296"),
    **{f"llvq_{name}": ("",) for name in ("dense", "vq", "vq_ema")},
}
UNSHIPPED = ("lattice_d4-0.1", "lattice_d4-1.0", "lattice_leech-0.1", "lattice_leech-1.0")  # measured where trained
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
LAMBDAS = {"qres34m": (16, 32, 64, 128, 256, 512, 1024, 2048), "qres17m": (1, 2, 4, 8, 16, 32, 64, 1024)}
BETAS = (0.001, 0.003, 0.01, 0.03, 0.05)
BLOCKS = {  # the largest blocks of latents of rvae_small that each coder takes; grs takes none
    "beam_search": 2048, "irec_importance": 2048, "irec_rejection": 64, "argmax": 8, "mrc": 8, "sp_orc": 8, "orc": 4,
    "sp_pfr": 4, "pfr": 2, "gprs": 1, "gprs_sample": 1, "gprs_dyadic": 1, "as_star": 1, "ad_star": 1, "dad_star": 1,
    "grcs": 1, "grcd": 1, "plain_rejection": 1,
}  # fmt: skip
DAY, WEEK = 24 * 60, 7 * 24 * 60  # minutes
RD, LOSSLESS_TABLE = "python benchmarks/rd_curve.py with", "python benchmarks/lossless_table.py with"
USAGE, SPEED = "python benchmarks/codebook_usage.py with", "python benchmarks/speed.py with"


def _after(dataset: str, *others: str) -> tuple[str, ...]:
    """What an evaluation comes after: its data, unless it is embedded, and other tasks."""
    return (*([] if dataset == "sample" else [f"data-{dataset}"]), *others)


def _curve(system: str, method: str, dataset: str, more: str = "", name: str = "", after: Sequence[str] = (),
           quick: bool = False, minutes: float = 240) -> Task:  # fmt: skip
    jobs = ("paper", system, *(["quick"] if quick else []))
    command = f"{RD} method={method} dataset={dataset}{' ' if more else ''}{more}"
    return Task(name or f"{method}-{dataset}", "evaluate", "cells", command, jobs, (), _after(dataset, *after), (),
                minutes)  # fmt: skip


def _lossless(
    system: str, method: str, dataset: str, more: str = "", after: Sequence[str] = (), name: str = ""
) -> Task:
    jobs = ("paper", system, *(["quick"] if dataset == "sample" else []))
    chosen = "method" if "params." in more else "methods"
    command = f"{LOSSLESS_TABLE} {chosen}={method} dataset={dataset}{' ' if more else ''}{more}"
    name = name or f"{method}-{dataset}-lossless"
    return Task(name, "evaluate", "cells", command, jobs, (), _after(dataset, *after), (), DAY)


def _train(system: str, name: str, command: str, data: str, folders: Sequence[str], after: Sequence[str] = (),
           minutes: float = DAY) -> Task:  # fmt: skip
    known = (f"data-{data}", *after) if data in DATASETS else tuple(after)
    return Task(
        f"train-{name}", "train", "weights", command, ("paper", system), tuple(folders), known, (data,), minutes
    )


def _made(system: str, name: str, command: str, outputs: Sequence[str], data: str = "sample",
          after: Sequence[str] = (), minutes: float = 240) -> Task:  # fmt: skip
    """An evaluation whose results are no cells but files."""
    known = () if data == "sample" else (data,)
    return Task(name, "evaluate", "files", command, ("paper", system), tuple(outputs), _after(data, *after), known,
                minutes)  # fmt: skip


def _prepare() -> Iterator[Task]:
    for name in DATASETS:
        yield Task(f"data-{name}", "prepare", "data", f"python -m experiments.prepare with dataset={name}", (),
                   (name,), minutes=DAY)  # fmt: skip


def _classical() -> Iterator[Task]:
    for dataset in ("sample", "kodak", "clic_professional_test"):
        for method in (*STILLS, "x265"):
            yield _curve("classical", method, dataset, quick=dataset == "sample")
        yield _curve("classical", "vvc", dataset, minutes=DAY)
        for method in PROGRAMS if dataset == "kodak" else ():
            yield _curve("classical", method, dataset, minutes=WEEK)
    for dataset in ("sample", "kodak", "cifar10", "imagenet32"):
        for method in LOSSLESS:
            yield _lossless("classical", method, dataset)


def _qres() -> Iterator[Task]:
    vr, ours = "python -m qres train with method=qres3m_vr", ("train-qres3m_vr",)
    then = "straight_through=True init=runs/qres3m_vr"
    yield _train("qres", "qres3m_vr-first", f"{vr} half=True folder=runs/first", "bsds500",
                 ("runs/first", "checkpoints/qres3m_vr"))  # fmt: skip
    yield _train("qres", "qres3m_vr", f"{vr} straight_through=True init=runs/first steps=10500 lr=8e-4 seed=1 "
                 "half=True folder=runs/qres3m_vr", "bsds500", ("checkpoints/qres3m_vr", "runs/qres3m_vr"),
                 ("train-qres3m_vr-first",))  # fmt: skip
    yield _train("qres", "qres3m_vr-ms_ssim", f"{vr} params.target=ms_ssim {then} crop=192 batch=2 steps=3000 lr=4e-4 "
                 "seed=3 half=True folder=runs/qres3m_vr-ms_ssim", "bsds500",
                 ("checkpoints/qres3m_vr_ms_ssim", "runs/qres3m_vr-ms_ssim"), ours)  # fmt: skip
    for lmb in (16, 64, 256):
        yield _train("qres", f"qres3m-{lmb}", f"python -m qres train with method=qres3m params.lmb={lmb} {then} "
                     f"steps=2000 lr=5e-4 seed=2 half=True folder=runs/qres3m-{lmb}", "bsds500",
                     (f"checkpoints/qres3m/lmb{lmb}", f"runs/qres3m-{lmb}"), ours)  # fmt: skip
    yield _curve("qres", "qres3m_vr", "sample", quick=True, after=ours)
    ssim = ("train-qres3m_vr-ms_ssim",)
    for dataset in ("kodak", "clic_professional_test"):
        yield _curve("qres", "qres3m_vr", dataset, after=ours)
        yield _curve("qres", "qres3m_vr", dataset, "params.target=ms_ssim", f"qres3m_vr-ms_ssim-{dataset}", ssim)
        yield _curve("qres", "qres3m", dataset, after=[f"train-qres3m-{lmb}" for lmb in (16, 64, 256)])
        yield _curve("qres", "qres34m", dataset, minutes=DAY)
    yield _curve("qres", "qres17m", "celeba", minutes=DAY)
    for dataset in ("kodak", "cifar10", "imagenet32"):
        yield _lossless("qres", "qres34m_lossless", dataset)
    yield from _qres_large()
    large = "qres34m,qres17m,qres34m_lossless"
    yield _made("qres", "speed-qres", f"{SPEED} methods={large} weights=fresh",
                [f"tables/speed_{large.replace(',', '_')}.csv"])  # fmt: skip
    yield _made("qres", "speed-training", f"{SPEED} experiment=training", ["tables/speed_training.csv"])
    yield _crossed("qres3m_vr", "method=qres3m_vr", ours)
    yield _crossed("qres3m_vr_whole", "method=qres3m_vr limit=24 crop=0", ours)
    yield _crossed("qres3m_vr_target_ms_ssim", "method=qres3m_vr params.target=ms_ssim", ssim)
    yield _crossed("qres3m_whole", "method=qres3m limit=24 crop=0", ("train-qres3m-64",))
    yield _crossed("qres3m", "method=qres3m", ("train-qres3m-64",))
    for lmb in (16, 256):
        yield _crossed(f"qres3m_lmb_{lmb}", f"method=qres3m params.lmb={lmb}", (f"train-qres3m-{lmb}",))
    kinds = ("samples", "progressive", "interpolation", "inpainting")
    yield _made("qres", "pictures-qres3m_vr", "python -m qres pictures with method=qres3m_vr",
                [f"qres_pictures/{kind}-*.json" for kind in kinds], after=ours)  # fmt: skip
    yield _made("qres", "sizes-qres3m_vr", "python -m qres sizes with method=qres3m_vr dataset=kodak",
                ["tables/official_sizes_qres3m_vr.csv"], "kodak", ours)  # fmt: skip
    yield _made("qres", "fuzz-qres3m_vr", "python benchmarks/fuzz.py with method=qres3m_vr mutations=100000",
                ["fuzz/qres3m_vr.json"], after=ours, minutes=DAY)  # fmt: skip


def _crossed(table: str, options: str, after: Sequence[str]) -> Task:
    """Streams of many settings, decoded by each."""
    command = f"python benchmarks/cross_decode.py with {options}"
    return _made("qres", f"cross_decode-{table}", command, [f"tables/cross_decode_{table}.csv"], "kodak", after)


def _qres_large() -> Iterator[Task]:
    """The published models trained from nothing, on two GPUs, and measured beside the authors' weights."""
    base = "torchrun --nproc-per-node 2 -m qres train with paper device=cuda"
    for method, lambdas in LAMBDAS.items():
        data, dataset = ("folder:coco/train2017", "kodak") if method == "qres34m" else ("celeba_train", "celeba")
        for lmb in lambdas:
            folder = f"runs/{method}-{lmb}"
            yield _train("qres", f"{method}-{lmb}", f"{base} method={method} params.lmb={lmb} dataset={data} "
                         f"folder={folder}", data, (folder,), minutes=2 * WEEK)  # fmt: skip
            yield _curve("qres", method, dataset, f"points={lmb} weights={folder}", f"{method}-{lmb}-ours-{dataset}",
                         [f"train-{method}-{lmb}"])  # fmt: skip
    yield _train("qres", "qres34m_lossless", f"{base} method=qres34m_lossless folder=runs/qres34m_lossless",
                 "folder:coco/train2017", ("runs/qres34m_lossless",), minutes=2 * WEEK)  # fmt: skip
    for dataset in ("kodak", "cifar10", "imagenet32"):
        yield _lossless("qres", "qres34m_lossless", dataset, "weights=runs/qres34m_lossless",
                        ["train-qres34m_lossless"], f"qres34m_lossless-ours-{dataset}-lossless")  # fmt: skip


def _mcquic() -> Iterator[Task]:
    yield _curve("mcquic", "mcquic", "kodak", "points=2")
    yield _curve("mcquic", "mcquic", "clic_professional_test", "points=2")
    small = "python -m vq train with method=mcquic_small dataset=bsds500 half=True"
    trained = ["train-mcquic_small-4", "train-mcquic_small-2", "train-mcquic_small-8"]
    yield _train("mcquic", "mcquic_small-4", f"{small} params.m=4 steps=4000 folder=runs/mse4", "bsds500",
                 ("checkpoints/mcquic_small/mse4", "runs/mse4"))  # fmt: skip
    for m in (2, 8):
        yield _train("mcquic", f"mcquic_small-{m}", f"{small} params.m={m} steps=2200 init=runs/mse4 params.free=1 "
                     f"lr=5e-4 folder=runs/mse{m}", "bsds500", (f"checkpoints/mcquic_small/mse{m}", f"runs/mse{m}"),
                     trained[:1])  # fmt: skip
    ssim = [f"{name}-ms_ssim" for name in trained]
    for m in (4, 2, 8):
        yield _train("mcquic", f"mcquic_small-{m}-ms_ssim", f"{small} params.m={m} params.target=ms_ssim steps=1000 "
                     f"init=runs/mse{m} params.free=0 lr=5e-4 crop=192 batch=4 folder=runs/ssim{m}", "bsds500",
                     (f"checkpoints/mcquic_small/ssim{m}", f"runs/ssim{m}"),
                     [f"train-mcquic_small-{m}"])  # fmt: skip
    for dataset in ("kodak", "clic_professional_test"):
        yield _curve("mcquic", "mcquic_small", dataset, after=trained)
        yield _curve(
            "mcquic", "mcquic_small", dataset, "params.target=ms_ssim", f"mcquic_small-ms_ssim-{dataset}", ssim
        )
        yield _curve(
            "mcquic", "mcquic_small", dataset, "params.context=False", f"mcquic_small-order0-{dataset}", trained
        )
    for m in (2, 12):
        yield _train("mcquic", f"mcquic-{m}", "python -m vq train with paper method=mcquic dataset=lmdb:data/photos "
                     f"params.m={m} device=cuda", "lmdb:data/photos", (f"runs/mcquic-{m}-seed0",),
                     minutes=2 * WEEK)  # fmt: skip
        yield _curve("mcquic", "mcquic", "kodak", f"points={m} weights=runs/mcquic-{m}-seed0",
                     f"mcquic-{m}-ours-kodak", [f"train-mcquic-{m}"])  # fmt: skip
    yield _made("mcquic", "speed-mcquic", f"{SPEED} method=mcquic weights=fresh", ["tables/speed_mcquic.csv"])


def _codebooks(family: str, system: str, methods: dict[str, tuple[str, ...]], more: str) -> Iterator[Task]:
    """Trainings of small models on Fashion-MNIST, one for each setting of the curve."""
    for method, (curve, *points) in methods.items():
        for point in points or [""]:
            stem = f"{method}-{point}" if point and method != "rvq" else method
            set_to = f" params.{curve}={point}" if stem != method else ""
            command = f"python -m {family} train with method={method}{set_to} {more} half=True"
            run = f"runs/{method}-{point or None}-seed0" if method != "rvq" else "runs/rvq-4-seed0"
            yield _train(system, stem, command, "fashion_mnist_train", (f"checkpoints/{family}/{stem}", run),
                         minutes=120)  # fmt: skip


def _vq() -> Iterator[Task]:
    trained = list(_codebooks("vq", "vqvae", CODEBOOKS, "params.prior=True dataset=fashion_mnist"))
    for method, setting in SEEDED.items():
        stem = f"{method}-{setting.partition('=')[2]}"
        for seed in (1, 2):
            command = (
                f"python -m vq train with method={method} params.{setting} seed={seed} dataset=fashion_mnist half=True"
            )
            folders = (f"checkpoints/vq/{stem}-seed{seed}", f"runs/{stem}-seed{seed}")
            trained.append(_train("vqvae", f"{stem}-seed{seed}", command, "fashion_mnist_train", folders, minutes=120))
    yield from trained
    names, first = [task.name for task in trained], "vqvae_fashion_mnist_first_1000_test"
    for method in CODEBOOKS:
        mine = [name for name in names if name.startswith(f"train-{method}")]
        yield _curve("vqvae", method, "fashion_mnist", "limit=1000", after=mine)
    yield _made("vqvae", "usage-vqvae", f"{USAGE} experiment=vqvae", [f"tables/{first}{end}.csv" for end in
                ("", "_usage", "_seeds")], "fashion_mnist", names)  # fmt: skip
    yield Task("usage-whole-test", "evaluate", "cells", f"{USAGE} dataset=fashion_mnist methods=vqvae,vqvae_ema,fsq",
               ("paper", "vqvae"), (), ("data-fashion_mnist", *names))  # fmt: skip
    yield _made("vqvae", "speed-search", f"{SPEED} experiment=search", ["tables/speed_search.csv"])
    for name, options in TOY:
        yield Task(f"toy-{name}", "evaluate", "toy", f"python benchmarks/toy_sources.py with {options}",
                   ("paper", "vecvq"), minutes=DAY)  # fmt: skip


def _lattice() -> Iterator[Task]:
    trained = list(_codebooks("lattice", "llvq", LATTICES, "dataset=fashion_mnist"))
    yield from trained
    for method in LATTICES:
        mine = [task.name for task in trained if task.name.startswith(f"train-{method}")]
        yield _curve("llvq", method, "fashion_mnist", "limit=1000", after=mine)
    for stem in UNSHIPPED:
        method, _, lmb = stem.partition("-")
        yield _curve("llvq", method, "fashion_mnist", f"points={lmb} weights=runs/{stem}-seed0 limit=1000",
                     f"{stem}-ours-fashion_mnist", [f"train-{stem}"])  # fmt: skip
    yield _made("llvq", "usage-llvq", f"{USAGE} experiment=llvq", ["tables/codebook_llvq.csv"],
                "fashion_mnist", ["data-celeba", "data-ffhq"])  # fmt: skip
    yield _made("llvq", "lattice_gap", "python benchmarks/lattice_gap.py", ["tables/lattice_gap_normal2d.csv"])
    yield _made("llvq", "speed-quantizers", f"{SPEED} experiment=quantizers", ["tables/speed_quantizers.csv"])
    for data in ("celeba", "ffhq"):
        for quantizer in ("vq", "vq-ema", "sparse_lattice", "dense_lattice"):
            folder = f"runs/llvq_{quantizer}-{data}"
            yield _train("llvq", f"llvq-{quantizer}-{data}", f"python -m lattice train with dataset={data} quantizer="
                         f"{quantizer} reproduce=True device=cuda folder={folder}", f"{data}_train", (folder,),
                         minutes=WEEK)  # fmt: skip
            method = f"llvq_{quantizer.removesuffix('_lattice').replace('-', '_')}"
            point = "points=512 " if quantizer == "sparse_lattice" else ""
            yield _curve("llvq", method, data, f"params.backbone={data} {point}weights={folder}",
                         f"{method}-ours-{data}", [f"train-llvq-{quantizer}-{data}"])  # fmt: skip


def _irec2_small(beta: float) -> Task:
    """The small two-level VAE: the middle beta from nothing, each other one from its neighbour."""
    start = {0.003: 0.01, 0.03: 0.01, 0.001: 0.003, 0.05: 0.03}.get(beta)
    more = "" if start is None else f"steps=600 lr=5e-4 warmup=50 init=runs/b{start} "
    folders = (f"checkpoints/irec2_small/*{beta}", f"runs/b{beta}")
    before = () if start is None else (f"train-irec2_small-{start}",)
    command = f"python -m rec train with method=irec2_small half=True params.beta={beta} {more}folder=runs/b{beta}"
    return _train("rec", f"irec2_small-{beta}", command, "bsds500", folders, before)


def _rec() -> Iterator[Task]:
    yield _train("rec", "rvae_small", "python -m rec train with method=rvae_small half=True folder=runs/rvae_small",
                 "cifar10_train", ("checkpoints/rvae_small", "runs/rvae_small"))  # fmt: skip
    yield _train("rec", "rvae", "torchrun --nproc-per-node 2 -m rec train with paper method=rvae dataset=cifar10 "
                 "device=cuda folder=runs/rvae", "cifar10_train", ("runs/rvae",), minutes=2 * WEEK)  # fmt: skip
    for dataset in ("cifar10", "imagenet32", "kodak"):
        yield _lossless("rec", "rvae_small", dataset, after=["train-rvae_small"])
        yield _lossless("rec", "rvae", dataset, "weights=runs/rvae", ["train-rvae"])
    for coder, size in BLOCKS.items():
        yield _lossless("rec", "rvae_small", "cifar10", f"limit=3 params.coder={coder} params.block_size={size}",
                        ["train-rvae_small"], f"rvae_small-{coder}-cifar10-lossless")  # fmt: skip
    photos = "folder:data/clic/train"  # the published training set; no split of ours
    for beta in BETAS:
        yield _irec2_small(beta)
        for method in ("irec1", "irec2", "irec4"):
            folder = f"runs/{method}-{beta}"
            yield _train("rec", f"{method}-{beta}", f"python -m rec train with paper method={method} "
                         f"params.beta={beta} dataset={photos} device=cuda folder={folder}", photos, (folder,),
                         minutes=2 * WEEK)  # fmt: skip
            yield _curve("rec", method, "kodak", f"points={beta} weights={folder}", f"{method}-{beta}-kodak",
                         [f"train-{method}-{beta}"], minutes=WEEK)  # fmt: skip
    yield _curve("rec", "irec2_small", "kodak", after=[f"train-irec2_small-{beta}" for beta in BETAS], minutes=DAY)
    outputs = ["rec_overhead/*/*.json", "tables/rec_overhead_line.csv", "tables/rec_overhead_block.csv"]
    yield _made("rec", "rec_overhead", "python benchmarks/rec_overhead.py", outputs, minutes=DAY)


SYSTEMS = ("classical", "qres", "mcquic", "vecvq", "vqvae", "llvq", "rec")
JOBS = ("quick", "paper", *SYSTEMS)
REPORT = Task("report", "report", "report", "python benchmarks/report.py", JOBS)
TASKS = (*_prepare(), *_classical(), *_qres(), *_mcquic(), *_vq(), *_lattice(), *_rec(), REPORT)
