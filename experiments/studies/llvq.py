"""The table of LL-VQ-VAE, published beside measured: distinct vectors, quality, entropy, coded bits, pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.curves.curve import PUBLISHED
from benchmarks.datasets import ImageSet, MissingData, NamedImage, open_dataset, stamps, training_set
from benchmarks.figures.gallery import save_gallery
from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from benchmarks.tables.files import for_screen, to_files
from core import checkpoint, places
from core.checkpoint import Weights
from core.codec import Image, Method, MissingWeights, TesseraError
from core.download import DownloadError
from core.registry import discover, make_method, unknown
from experiments.studies.distinct import DistinctCounter
from experiments.wiring import sequence

DATASETS = ("fashion_mnist", "celeba", "ffhq")
QUANTIZERS = ("vq", "vq_ema", "sparse", "dense")
FILES = {"fashion_mnist": "fashion-mnist", "celeba": "celeba", "ffhq": "ffhq1024"}  # official folders
NAMES = {"vq": "vq", "vq_ema": "vq-ema", "sparse": "sparse_lattice", "dense": "dense_lattice"}  # official files
CELEBA_SIDE = 148  # the published central crop
AT_ONCE = 512  # images that are read together


NAMED = {"smoke": {"dataset": "fashion_mnist", "limit": 20}}


def llvq_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    dataset = None  # fashion_mnist, celeba, ffhq; default: all three
    quantizers = "vq,vq_ema,sparse,dense"
    weights = "official"  # or a folder with files such as fashion-mnist_sparse_lattice.safetensors
    limit = None  # only the first images, of both splits
    coded = 500  # images of the evaluation split whose streams are made
    sketch = False  # count with HyperLogLog (error 0.8 %, no disk) instead of exactly
    pictures = 8  # reconstructions in the figure; 0: no figure
    threads = 1
    results = places.default_results()
    data_root = None


@dataclass(frozen=True)
class Row:
    """One model of the table."""

    dataset: str
    quantizer: str
    method: Method
    weights: Weights


def llvq(config: Mapping[str, Any], run: Any) -> int:
    """Measure what is missing, print and write the table and the figures; 1 when something could not be measured."""
    discover()
    torch.set_num_threads(int(config["threads"]))
    results, measured, missing = Path(config["results"]), [], []
    for dataset in _chosen(config["dataset"], DATASETS, "data set of LL-VQ-VAE"):
        shown: list[tuple[str, list[Image]]] = []
        for quantizer in _chosen(config["quantizers"], QUANTIZERS, "quantizer of LL-VQ-VAE"):
            try:
                row = _row(dataset, quantizer, config["weights"])
                record = _stored(row, config, results)
                shown += _pictures(row, config, shown)
            except (MissingData, MissingWeights, DownloadError) as error:
                missing.append(f"{dataset}, {quantizer}: {error}")
                continue
            measured.append(record)
            print(f"{dataset}, {quantizer}: {record['distinct']} of {record['vectors']} vectors", flush=True)
        if shown:
            print(*save_gallery(shown, results / "figures" / f"llvq_{dataset}_reconstructions"), sep="\n")
    frame = table(measured, config)
    caption = "LL-VQ-VAE: effective codebook size, published and measured"
    print(for_screen(frame, caption))
    print(*to_files(frame, results / "tables" / "codebook_llvq", caption), sep="\n")
    print(*(f"not measured: {sentence}" for sentence in missing), sep="\n")
    return (1 if measured else 2) if missing else 0


def table(measured: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> pd.DataFrame:
    """A row per data set and quantiser that is measured or published, in the paper's order."""
    entries = json.loads((PUBLISHED / "llvq.json").read_text(encoding="utf-8"))["codebook"]
    published = {(e["dataset"], e["quantizer"]): e for e in entries}
    known = {(m["dataset"], m["quantizer"]): m for m in measured}
    rows = []
    for dataset in _chosen(config["dataset"], DATASETS, "data set"):
        for quantizer in _chosen(config["quantizers"], QUANTIZERS, "quantizer"):
            cited, mine = published.get((dataset, quantizer), {}), known.get((dataset, quantizer), {})
            asserted = " (asserted)" if cited.get("asserted") else ""
            rows.append(
                {
                    "data set": dataset,
                    "quantizer": quantizer,
                    "published codes": f"{cited['distinct']:,}{asserted}" if cited else None,
                    "published vectors": f"{cited['vectors']:,}" if cited else None,
                    "codes": _count(mine),
                    "vectors": f"{mine['vectors']:,}" if mine else None,
                    "counted on": mine.get("counted"),
                    **{name: mine.get(key) for name, key in COLUMNS.items()},
                }
            )
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


COLUMNS = {
    "entropy (bits/vector)": "entropy",
    "coded (bits/vector)": "coded",
    "coded bpp": "coded_bpp",
    "PSNR (dB)": "psnr",
    "MSE": "mse",
    "evaluated on": "evaluated",
}


def _count(mine: Mapping[str, Any]) -> str | None:
    if not mine:
        return None
    return f"{mine['distinct']:,}" + (f" +- {100 * mine['error']:.1f} %" if mine["error"] else "")


def _chosen(given: Any, known: Sequence[str], kind: str) -> list[str]:
    names = [str(name) for name in sequence(given) or known]
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return names


def _row(dataset: str, quantizer: str, weights: str) -> Row:
    method = make_method(f"llvq_{quantizer}", {"backbone": dataset})
    if Path(weights).is_dir():
        weights = str(Path(weights) / f"{FILES[dataset]}_{NAMES[quantizer]}.safetensors")
    found = checkpoint.find(method, weights)
    if found is None:
        raise TesseraError(f"{method.name} has no weights.")
    return Row(dataset, quantizer, method, found)


def _stored(row: Row, config: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """The record of a row, measured first when it is missing."""
    how = "-sketch" if config["sketch"] else ""
    cut = f"-first{config['limit']}" if config["limit"] else ""
    path = results / "llvq" / f"{row.dataset}_{row.quantizer}_{row.weights.id.rpartition('-')[2]}{cut}{how}.json"
    now, known = _fingerprints(row, config, results), records.read(places.find(path, results))
    if known is not None and (not now or known.get("pictures", now) == now):
        return known
    if known is not None:
        print(f"the pictures of {row.dataset} are not those of {path.name}: measured again.", flush=True)
    record: dict[str, Any] = {"dataset": row.dataset, "quantizer": row.quantizer, "weights": row.weights.id}
    record |= {"pictures": now}
    record |= measure(row, config) | {"provenance": provenance()}
    records.write(path, record)
    return record


def _fingerprints(row: Row, config: Mapping[str, Any], results: Path) -> list[str]:
    """Of the training and the evaluation images as they are now; empty where they are not here."""
    try:
        sets = (
            training_set(row.dataset, config["data_root"], config["limit"]),
            open_dataset(row.dataset, config["limit"], config["data_root"]),
        )
    except MissingData:
        return []
    return [stamps.fingerprint(images, results / "fingerprints") for images in sets]


def measure(row: Row, config: Mapping[str, Any]) -> dict[str, Any]:
    """Counts over training images; entropy, error and coded bits of the evaluation split."""
    train = training_set(row.dataset, config["data_root"], config["limit"])
    test = open_dataset(row.dataset, config["limit"], config["data_root"])
    net: Any = checkpoint.load(row.method, row.weights)
    net.calibrate([prepared(i, row.dataset) for i in train.images[:: max(1, -(-len(train) // 10_000))]])
    counter = DistinctCounter(sketch=config["sketch"])
    for part in _parts(train, row.dataset):
        for k in net.points(part):
            counter.add(k.flatten(0, 2).flatten(1).cpu().numpy())
    found = counter.result()
    error, samples = 0.0, 0
    for part in _parts(test, row.dataset):
        for image in part:
            x = net.planes(image)
            decoded = net.decode(net.encode(x))
            error += float((decoded - x).double().square().sum())
            samples += x.numel()
    codec: Any = row.method.codec(net)
    some = [prepared(i, row.dataset) for i in test.images[: config["coded"]]]
    bits = [codec.payload_bits(codec.compress(image)) for image in some]
    vectors = [int(np.prod(codec.points(image).shape[:3])) for image in some]
    pixels = [image.shape[0] * image.shape[1] for image in some]
    return {
        "vectors": found.vectors, "distinct": found.distinct, "entropy": found.entropy_bits, "error": found.error,
        "counted": train.title, "evaluated": f"{test.title}; coded: {len(some)}",
        "mse": error / samples, "psnr": -10 * math.log10(error / samples),
        "coded": sum(bits) / sum(vectors), "coded_bpp": sum(bits) / sum(pixels),
    }  # fmt: skip


def prepared(image: NamedImage, dataset: str) -> Image:
    """An image as the published evaluation has it: CelebA's central 148 x 148 (or what there is of it)."""
    array = image.read()
    if dataset != "celeba":
        return array
    height, width = array.shape[:2]
    top, left = max(0, height - CELEBA_SIDE) // 2, max(0, width - CELEBA_SIDE) // 2
    return array[top : top + CELEBA_SIDE, left : left + CELEBA_SIDE]


def _parts(images: ImageSet, dataset: str) -> Any:
    """Lists of images, a few hundred at a time."""
    for start in range(0, len(images), AT_ONCE):
        yield [prepared(i, dataset) for i in images.images[start : start + AT_ONCE]]


def _pictures(row: Row, config: Mapping[str, Any], shown: Sequence[Any]) -> list[tuple[str, list[Image]]]:
    """Reconstructions of the first evaluation images, below the originals; none of a private data set."""
    test = open_dataset(row.dataset, config["pictures"] or None, config["data_root"])
    if not config["pictures"] or test.private:
        return []
    codec = row.method.codec(checkpoint.load(row.method, row.weights))
    originals = [prepared(image, row.dataset) for image in test]
    first = [] if shown else [("original", originals)]
    return [*first, (row.quantizer, [codec.decompress(codec.compress(image)) for image in originals])]
