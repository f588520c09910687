"""Bits back over a chain of images: what it costs after its first bits, and what it costs before them.

A *row* is a model and an order of its levels: Bit-Swap and BB-ANS on one Markov-chain VAE, HiLLoC on the ResNet VAE.
Its images go on one stack, which is decoded again and compared; then each goes into a file of its own. A result is one
file, ``<results>/bits_back/<row>-<hash>.json``; running a command again measures only what is not there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.datasets import ImageSet, open_dataset
from benchmarks.measure import harness
from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from benchmarks.store.names import set_name, slug
from benchmarks.tables.files import for_screen, to_files
from core import checkpoint, places
from core.codec import Image, Method, TesseraError
from core.registry import discover, make_method, unknown
from experiments.wiring import sequence
from rec.lossless_bitsback import ChainCodec

NAMED = {"smoke": {"limit": 2}}
CHAIN = "bitswap_small"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "Bit-Swap": (CHAIN, {"order": "bit_swap"}),
    "BB-ANS": (CHAIN, {"order": "bb_ans"}),
    "HiLLoC": ("rvae_small", {"coder": "bits_back"}),
}


def bits_back_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    dataset = "cifar10"
    limit = None  # the first so many images; default: all that are here
    rows = None  # a list: Bit-Swap,BB-ANS,HiLLoC (default: all)
    files = None  # images that also go into a file of their own, from the first on; default: all
    weights = "auto"  # of the Markov-chain VAE
    results = places.default_results()
    data_root = None


@dataclass(frozen=True)
class Job:
    """One row: a method with its weights."""

    label: str
    method: Method
    weights: checkpoint.Weights
    files: int

    def codec(self) -> ChainCodec:
        """The codec."""
        codec = self.method.codec(checkpoint.load(self.method, self.weights))
        assert isinstance(codec, ChainCodec), f"{self.method.name} codes with bits back"
        return codec

    def path(self, results: Path, images: ImageSet) -> Path:
        """Where its result lives."""
        facts = {"params": dict(self.method.variant), "weights": self.weights.id, "images": images.fingerprint}
        mark = records.digest({**facts, "files": self.files})[:8]
        return results / "bits_back" / f"{slug(self.label)}-{mark}.json"


def jobs(config: Mapping[str, Any], images: ImageSet) -> list[Job]:
    """What a configuration asks for."""
    discover()
    labels = sequence(config["rows"]) or list(ROWS)
    for label in labels:
        if label not in ROWS:
            raise unknown("row", label, ROWS)
    files = len(images) if config["files"] is None else config["files"]
    if not 1 <= files <= len(images):
        raise TesseraError(f"files={files} must be from 1 to the {len(images)} images.")
    found = []
    for label in labels:
        method = make_method(*ROWS[label])
        weights = checkpoint.find(method, config["weights"] if method.name == CHAIN else "auto")
        assert weights is not None, f"{method.name} has weights"
        harness.refuse_leaks(images, checkpoint.seen(weights), weights.meta.get("data", {}).get("names", ()))
        found.append(Job(label, method, weights, files))
    return found


def measure(job: Job, images: Sequence[Image]) -> dict[str, Any]:
    """Chain, unchain, compare, and the same for files of single images; bits per dimension, CPU seconds of an image."""
    codec, dims = job.codec(), sum(image.size for image in images)
    elbo = sum(codec.rated("ideal", image)[0] for image in images)
    started = time.process_time()
    packed = codec.chain(images)
    encoded = time.process_time()
    shape = images[0].shape
    decoded = codec.unchain(packed.payload, len(images), (shape[0], shape[1], shape[2]))
    ended = time.process_time()
    _same(job, images, decoded)
    alone = _alone(job, codec, images[: job.files])
    return {
        "row": job.label,
        "method": job.method.name,
        "params": dict(job.method.variant),
        "weights": job.weights.id,
        "images": len(images),
        "elbo_bpd": elbo / dims,
        "net_bpd": sum(packed.net_bits) / dims,
        "chain_bpd": 8 * len(packed.payload) / dims,
        "initial_bits": packed.initial_bits,
        "encode_s": (encoded - started) / len(images),
        "decode_s": (ended - encoded) / len(images),
        **alone,
    }


def _alone(job: Job, codec: ChainCodec, images: Sequence[Image]) -> dict[str, Any]:
    """Files of single images, each decoded again."""
    made = [codec.pack(image) for image in images]
    _same(job, images, [codec.decompress(stream) for stream, _ in made])
    dims = sum(image.size for image in images)
    return {
        "files": len(images),
        "file_bpd": sum(8 * len(stream) for stream, _ in made) / dims,
        "file_initial_bits": float(np.mean([packed.initial_bits for _, packed in made])),
    }


def _same(job: Job, images: Sequence[Image], decoded: Sequence[Image]) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(images, decoded, strict=True)):
        raise TesseraError(f"{job.label} does not decode what it coded: this is a defect.")


def table(made: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row each; first bits in bits, and per dimension of one image."""
    return pd.DataFrame(
        {
            "order": record["row"],
            "model": record["method"],
            "images": record["images"],
            "negative ELBO (bpd)": record["elbo_bpd"],
            "chain, net (bpd)": record["net_bpd"],
            "chain, whole (bpd)": record["chain_bpd"],
            "first bits of the chain": record["initial_bits"],
            "first bits of an image": record["file_initial_bits"],
            "a file per image (bpd)": record["file_bpd"],
            "encode (s)": record["encode_s"],
            "decode (s)": record["decode_s"],
        }
        for record in made
    )


def bits_back(config: Mapping[str, Any], run: Any) -> int:
    """Measure what is missing, make the table; returns the exit code 0."""
    torch.set_num_threads(1)
    results = Path(config["results"])
    images = open_dataset(config["dataset"], config["limit"], config["data_root"])
    wanted = jobs(config, images)
    pictures: list[Image] = []
    made = []
    for job in wanted:
        path = job.path(results, images)
        record = records.read(places.find(path, results))
        if record is None:
            pictures = pictures or [image.read() for image in images]
            where = provenance(sacred_run=str(run._id or ""))
            record = {"dataset": images.title, **measure(job, pictures), "provenance": where}
            records.write(path, record)
            print(f"{job.label}: net {record['net_bpd']:.4f}, first bits {record['initial_bits']}", flush=True)
        made.append(record)
    frame, place = table(made), set_name(images.name, images.title, images.fingerprint)
    caption = f"Bits back on {images.title}: one chain, and a file per image; CPU seconds of one thread per image"
    print(for_screen(frame, caption))
    print(*to_files(frame, results / "tables" / f"bits_back_{place}", caption), sep="\n")
    return 0
