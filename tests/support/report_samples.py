"""A small results folder with made-up numbers, written through the store, for tests of figures and of the page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.figures import paper
from benchmarks.figures.figure import Axis, Figure, Series
from benchmarks.figures.toy import Line, rd_figure
from benchmarks.store import Cell, Store
from benchmarks.tables.files import to_files

HOSTILE = 'zz</script><img src=x onerror="window.hacked=1"><b>&"\'' + "{{7*7}}$data"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sample_results(
    root: Path,
    methods: tuple[str, ...] = ("alpha", "beta", "gamma"),
    datasets: tuple[tuple[str, str, int], ...] = (("kodak", "kodak", 3), ("cifar10", "cifar10, first 4 test", 4)),
    points: int = 5,
    kept: bool = True,
) -> Store:
    """Curves of every method on every data set (name, title, images), a lossless method, pictures for the first set.

    Later methods need more bits for the same quality. A title with 'first' is a subset, and a subset is small:
    it has no MS-SSIM.
    """
    store = Store(root)
    for dataset, title, count in datasets:
        for place, method in enumerate(methods):
            for point in range(points):
                write_cell(store, method, point, dataset, title, count, 1.3**place)
        write_cell(store, "exact", None, dataset, title, count, 1.0)
    if kept:
        dataset, _, count = datasets[0]
        for image in range(count):
            keep_picture(store.original(dataset, image_name(image)), 40)
            for result in store.cells(method="alpha", dataset=dataset):
                keep_picture(store.picture(result.key, image_name(image)), 60)
    return store


def image_name(number: int) -> str:
    """Names that must be quoted in an address."""
    return f"picture {number:02d} #1"


def write_cell(
    store: Store,
    method: str,
    point: int | None,
    dataset: str,
    title: str,
    count: int,
    factor: float,
    note: str = "",
    checkpoint: str = "",
    codes: Sequence[int] = (),
) -> None:
    """One cell whose images differ a little; ``factor`` multiplies its rate; point None makes it lossless.

    ``codes`` are the counts of a codebook.
    """
    rows = []
    for number in range(count):
        spread = 1 + 0.1 * math.sin(number + 0.3 * factor)
        bpp = (9.0 if point is None else 0.15 * 2**point) * factor * spread
        psnr = math.inf if point is None else 27 + 3.2 * point + 0.4 * math.cos(number)
        row = {"image": image_name(number), "bytes": 1000, "bpp": bpp, "bpd": bpp / 3, "psnr": psnr}
        row |= {"encode_s": 0.5 / factor, "decode_s": 0.1 * factor, "height": 24, "width": 32, "payload_bits": 7000}
        if "first" not in title and point is not None:
            row |= {"ms_ssim": 1 - 0.1 * 0.5**point, "ms_ssim_db": 10 + 3.0103 * point}
        rows.append(row)
    about = {"title": title, "subset": "first" in title, "lossless": point is None, "method_note": note, "defaults": {}}
    command = f"python benchmarks/rd_curve.py with method={method} dataset={dataset}"
    made = {"commit": COMMIT, "dirty": method == "beta", "versions": {"numpy": "2.4.6"}, "cpu": "a processor"}
    made |= {"threads": 1, "started": "2026-11-21T01:00:00Z", "wall_s": 1.5, "command": command}
    cell = Cell(method, {}, point, dataset, "test", checkpoint=checkpoint or f"{method}-ckpt")
    book = pd.DataFrame({"level": 0, "code": range(len(codes)), "count": list(codes)}) if codes else None
    store.write(cell, pd.DataFrame(rows), about | ({"codebook_sizes": [len(codes)]} if codes else {}), made, book)


def stored_figures(root: Path) -> None:
    """What other commands leave: a toy figure with a bound, a toy result, a picture, an overhead."""
    lines = [Line("code", (1.0, 2.0), (0.5, 0.1)), Line("bound: R(D)", (0.9, 1.9), (0.5, 0.1), "bound")]
    paper.render(rd_figure("toy_banana_rd", "banana: rate and distortion", 2, lines), root / "figures")
    overhead = Series("coder", (1.0, 2.0), (3.0, 4.0), "measured", 0)
    axes = Axis("kl", "KL", "bits", log=True), Axis("bits", "overhead", "bits")
    paper.render(Figure("rec_overhead_line", "overhead on a line", *axes, (overhead,)), root / "figures")
    to_files(pd.DataFrame({"coder": ["a", "b"], "bits": [3.0, 4.5]}), root / "tables" / "rec_overhead_line", "overhead")
    Image.new("RGB", (40, 30), "white").save(root / "figures" / "toy_banana_partitions.png")
    made = {"commit": COMMIT, "command": "python benchmarks/toy_sources.py with source=banana", "versions": {}}
    record = {"source": "banana", "title": "VECVQ", "curve": "lmb", "point": 1.0, "seed": 0, "rate": 2.25}
    path = root / "toy" / "banana" / "vecvq-1-s0-00000000.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record | {"distortion": 0.93, "provenance": made}))


def keep_picture(path: Path, level: int) -> None:
    """A picture of one grey level, 32x24 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 32, 3), level, np.uint8)).save(path, lossless=True)
