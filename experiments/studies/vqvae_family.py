"""The VQ-VAE family on one data set: every shipped model with static tables and with its prior, and several seeds;
the priors of one model with their seconds; and one set of weights for all sizes beside a model for each.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.curves.usage import usage_table, usages
from benchmarks.datasets import open_dataset
from benchmarks.figures import paper
from benchmarks.figures.figure import Axis, Figure, Series
from benchmarks.figures.gallery import save_gallery
from benchmarks.figures.usage import usage_figures
from benchmarks.measure import meter, single
from benchmarks.measure.provenance import processor
from benchmarks.store import CellResult, records
from benchmarks.store.names import slug
from benchmarks.tables.files import for_screen, to_files
from core import checkpoint
from core.codec import Image, Method
from core.places import default_results
from core.registry import discover, make_method, unknown
from experiments.evaluate import Outcome, evaluate, say
from experiments.request import Asked, Evaluation
from experiments.wiring import sequence

NAMED = {"smoke": {"limit": 2, "methods": "simvq", "parts": "family", "pictures": 1}}
SEEDED = {"vqvae": 256, "vqvae_ema": 256, "fsq": "8x6x5"}
SEEDS = (1, 2)  # beside seed 0, which is the one shipped for use
FOLDER = "vq"  # of checkpoints/
PRIORS = {False: "static tables", True: "autoregressive", "hyper": "hyperprior"}
WITH_HYPERPRIOR = {"vqvae_ema": 256}  # what is shipped with one
SIZES = {"raq": None, "vqvae_ema": (16, 64, 256)}  # one set of weights (all its points), and a model for each
TIMED = 100  # images, after a warm-up
PSNR = Axis("psnr", "PSNR", "dB")


def vq_family_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    methods = "vqvae,vqvae_ema,vqvae_rot,vqvae_cosine,vqvae_ec,simvq,rvq,pq,fsq,lfq,ifsq,bsq"
    parts = "family,sizes"  # tables to make: of the family, of RAQ's sizes, and with priors of their seconds in one run
    dataset = "fashion_mnist"
    channels = 1  # of the models: 1 (each colour is a grey image of its own), or 3
    weights = "ours"  # or a folder of runs
    limit = 1000  # only the first images; None: all
    pictures = 8  # in the figure of reconstructions; 0: no figure
    threads = 1
    device = "cpu"  # or cuda
    results = default_results()
    data_root = None


def vq_family(config: Mapping[str, Any], run: Any) -> int:
    """Measure what is missing, print and write tables and figures; the exit code says whether something failed."""
    discover()
    torch.set_num_threads(int(config["threads"]))
    parts = [str(part) for part in sequence(config["parts"]) or []]
    if unknown_parts := set(parts) - set(PARTS):
        raise unknown("part", sorted(unknown_parts)[0], PARTS)
    outcome = Outcome()
    for part in parts:
        print(*PARTS[part](config, outcome), sep="\n")
    say(outcome)
    return outcome.code


def _common(config: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        (), dataset=config["dataset"], limit=config["limit"], device=config["device"], weights=config["weights"],
        results=config["results"], data_root=config["data_root"],
    )  # fmt: skip


def _family(config: Mapping[str, Any], outcome: Outcome) -> list[Path]:
    """Tables and figures of every method."""
    names, written = [str(name) for name in sequence(config["methods"]) or []], list[Path]()
    common = _common(config)
    model = {} if config["channels"] == 1 else {"channels": int(config["channels"])}
    static = [r for name in names for r in _cells(name, model, common, outcome)]
    dearer = model | {"prior": True}
    dear = {(r.cell.method, r.cell.point): r for name in names for r in _cells(name, dearer, common, outcome)}
    seeds = [] if model else [r for name in names for r in _seeds(name, common, outcome)]
    if static:
        title = static[0].about["title"]
        stem = _stem(config, title)
        written = _table(bits_table(static, dear), stem, f"The VQ-VAE family on {title}")
        written += _table(usage_table(static), f"{stem}_usage", f"Use of the codes on {title}", shown=False)
        if seeds:
            written += _table(seed_table([*static, *seeds]), f"{stem}_seeds", f"Spread over seeds on {title}")
        for figure in figures(static, dear, names, title, config):
            written += paper.render(figure, Path(config["results"]) / "figures")
        written += _gallery(static, config, title)
    return written


def _priors(config: Mapping[str, Any], outcome: Outcome) -> list[Path]:
    """The table of what each prior of the same codes costs, in bits and in seconds of this run."""
    common, rows, title, table = _common(config), [], "", records.Table(config["device"])
    images = [i.read() for i in open_dataset(config["dataset"], TIMED, config["data_root"])]
    for name, point in WITH_HYPERPRIOR.items():
        plain = None
        for prior, called in PRIORS.items():
            for result in _cells(name, {"prior": prior}, common, outcome, points=(point,)):
                plain, title = plain or coded_bpp(result), result.about["title"]
                encode, decode = _seconds(result, config, images)
                rows.append(
                    {
                        "method": name,
                        "point": str(point),
                        "prior": called,
                        "coded bpp": coded_bpp(result),
                        "saves (%)": 100 * (1 - coded_bpp(result) / plain),
                        "PSNR (dB)": result.means["psnr"],
                        "encode (ms)": 1e3 * encode,
                        "decode (ms)": 1e3 * decode,
                        "processor": processor(config["device"]),
                    }
                )
    caption = f"Priors of one model on {title}; {meter.time_note(config['device'])}"
    if not rows:
        return []
    frame = pd.DataFrame(rows)
    print(for_screen(frame, caption))
    return table.write(frame, config["results"], _stem(config, title, "_priors").name, caption)


def _seconds(result: CellResult, config: Mapping[str, Any], images: Sequence[Image]) -> tuple[float, float]:
    """Seconds to encode and to decode an image, the mean over some."""
    method = make_method(result.cell.method, result.cell.variant).at(result.cell.point)
    codec, device = checkpoint.opened(method, config["weights"], config["device"])[0], config["device"]
    single.round_trip(codec, images[0], "the first image", device)  # warm-up
    seconds = [single.round_trip(codec, image, f"image {i}", device)[2:] for i, image in enumerate(images)]
    encode, decode = np.mean(seconds, axis=0)
    return float(encode), float(decode)


def _sizes(config: Mapping[str, Any], outcome: Outcome) -> list[Path]:
    """The table of one set of weights at all its sizes, beside a model for each size."""
    cells = [r for name, points in SIZES.items() for r in _cells(name, {}, _common(config), outcome, points=points)]
    if not cells:
        return []
    title = cells[0].about["title"]
    return _table(bits_table(cells, {}), _stem(config, title, "_sizes"), f"One codebook for all sizes on {title}")


PARTS = {"family": _family, "priors": _priors, "sizes": _sizes}


def _stem(config: Mapping[str, Any], title: str, end: str = "") -> Path:
    return Path(config["results"]) / "tables" / f"{slug(f'vqvae {title}')}{end}"


def _cells(
    name: str, params: Mapping[str, Any], common: Evaluation, outcome: Outcome, **seeded: Any
) -> list[CellResult]:
    """The cells of a method at all its points; ``seeded`` has other weights, their seed and their points."""
    done = evaluate(replace(common, methods=(Asked(name, params),), **seeded))
    outcome.cells += done.cells
    outcome.skipped += done.skipped
    outcome.failed += done.failed
    return done.cells


def _seeds(name: str, common: Evaluation, outcome: Outcome) -> list[CellResult]:
    """The cells of the same model trained with other seeds, as far as their weights are here."""
    found = []
    for seed in SEEDS if name in SEEDED else ():
        folder = checkpoint.SHIPPED / FOLDER / f"{name}-{SEEDED[name]}-seed{seed}"
        if folder.is_dir():
            found += _cells(name, {}, common, outcome, weights=str(folder), seed=seed, points=(SEEDED[name],))
        else:
            outcome.skipped.append(f"{name}, seed {seed}: its weights are not here ({folder.name}).")
    return found


def bits_table(static: Sequence[CellResult], dear: Mapping[Any, CellResult]) -> pd.DataFrame:
    """A row per model: use of its codes, bits per vector and pixel, what the prior saves, and quality."""
    rows = []
    for result in static:
        levels, other = usages(result), dear.get((result.cell.method, result.cell.point))
        coded, cheaper = coded_bpp(result), None if other is None else coded_bpp(other)
        rows.append(
            {
                "method": result.cell.method,
                "point": str(result.cell.point),
                "books": len(levels),
                "codes": sum(u.size for u in levels),
                "used": sum(u.used for u in levels),
                "entropy (bits)": sum(u.entropy_bits for u in levels),
                "coded bpp": coded,
                "with prior bpp": cheaper,
                "prior saves (%)": None if cheaper is None else 100 * (1 - cheaper / coded),
                "file bpp": result.means["bpp"],
                "PSNR (dB)": result.means["psnr"],
            }
        )
    return pd.DataFrame(rows)


def coded_bpp(result: CellResult) -> float:
    """Entropy-coded bits per pixel, the container left out: the mean over images."""
    images = result.images
    return float((images["payload_bits"] / (images["height"] * images["width"])).mean())


def seed_table(cells: Sequence[CellResult]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of models that were trained with several."""
    rows = []
    for method, point in SEEDED.items():
        same = [r for r in cells if r.cell.method == method and r.cell.point == point]
        if len(same) < 2:
            continue
        numbers: dict[str, list[float]] = {
            "used": [sum(u.used for u in usages(r)) for r in same],
            "perplexity": [usages(r)[0].perplexity for r in same],
            "coded bpp": [coded_bpp(r) for r in same],
            "PSNR (dB)": [r.means["psnr"] for r in same],
        }
        row: dict[str, Any] = {"method": method, "point": str(point), "seeds": len(same)}
        for name, values in numbers.items():
            row |= {name: statistics.mean(values), f"{name}, sd": statistics.stdev(values)}
        rows.append(row)
    return pd.DataFrame(rows)


def figures(
    static: Sequence[CellResult],
    dear: Mapping[Any, CellResult],
    names: Sequence[str],
    title: str,
    config: Mapping[str, Any],
) -> list[Figure]:
    """Rate against distortion (static tables, then the prior), use over training, histogram and coverage."""
    stem, coded = slug(f"vqvae {title}"), Axis("bpp", "coded codes, container left out", "bits per pixel")
    largest = [
        [r for r in static if r.cell.method == name][-1] for name in dict.fromkeys(r.cell.method for r in static)
    ]
    one_book = [r for r in largest if len(usages(r)) == 1]
    return [
        Figure(f"{stem}_rd", f"{title}: static tables", coded, PSNR, _curves(static, names)),
        Figure(f"{stem}_rd_prior", f"{title}: learned prior", coded, PSNR, _curves(list(dear.values()), names)),
        Figure(
            f"{stem}_training",
            "Use over training (256 training images)",
            Axis("step", "step"),
            Axis("perplexity", "perplexity of the first book", "% of its codes"),
            _training(largest, names, config["weights"]),
        ),
        *usage_figures(one_book, f"vqvae {title}", title),
    ]


def _curves(cells: Sequence[CellResult], names: Sequence[str]) -> tuple[Series, ...]:
    made = []
    for style, name in enumerate(names):
        found = sorted((r for r in cells if r.cell.method == name), key=coded_bpp)
        if found:
            rates, quality = tuple(map(coded_bpp, found)), tuple(r.means["psnr"] for r in found)
            settings, keys = tuple(str(r.cell.point) for r in found), tuple(r.key for r in found)
            made.append(Series(name, rates, quality, "measured", style, settings, keys))
    return tuple(made)


def _training(cells: Sequence[CellResult], names: Sequence[str], kept: str) -> tuple[Series, ...]:
    """Perplexity of the first book over steps, from the logs beside the weights."""
    made = []
    for result in cells:
        method = _method(result)
        weights = checkpoint.find(method, kept)
        log = None if weights is None else weights.path.with_name("train.csv")
        if log is not None and log.is_file():
            rows = pd.read_csv(log).dropna(subset=["perplexity0"])
            share = 100 * rows["perplexity0"] / usages(result)[0].size
            label = f"{method.name} {method.point}"
            x, y = (tuple(float(v) for v in column) for column in (rows["step"], share))
            made.append(Series(label, x, y, "measured", list(names).index(method.name)))
    return tuple(made)


def _gallery(static: Sequence[CellResult], config: Mapping[str, Any], title: str) -> list[Path]:
    """Originals and what each method's largest model makes of them."""
    count = int(config["pictures"])
    if not count:
        return []
    images = [i.read() for i in open_dataset(config["dataset"], count, config["data_root"])]
    rows: list[tuple[str, Sequence[Image]]] = [("original", images)]
    for name in dict.fromkeys(r.cell.method for r in static):
        result = [r for r in static if r.cell.method == name][-1]
        codec, _ = checkpoint.opened(_method(result), config["weights"])
        shown = [np.asarray(codec.decompress(codec.compress(image))) for image in images]
        numbers = f"{coded_bpp(result):.2f} bpp, {result.means['psnr']:.1f} dB"
        rows.append((f"{name} {result.cell.point}\n{numbers}", shown))
    return save_gallery(rows, Path(config["results"]) / "figures" / f"{slug(f'vqvae {title}')}_pictures")


def _method(result: CellResult) -> Method:
    """What was measured, but for its prior."""
    channels = result.cell.variant.get("channels", 1)
    method: Method = make_method(result.cell.method, {"channels": channels}).at(result.cell.point)
    return method


def _table(frame: pd.DataFrame, stem: str | Path, caption: str, shown: bool = True) -> list[Path]:
    if shown:
        print(for_screen(frame, caption))
    return to_files(frame, stem, caption)
