"""Bytes of the same latents in our streams and in files of the official QRes-VAE code.

python -m qres sizes with method=qres3m_vr points=4,16 dataset=kodak

Both files are really made, from the same weights and image, by ``qres.codec`` and ``qres.official``; the table goes to
<results>/tables/official_sizes_<method>.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.datasets import open_dataset
from benchmarks.store import records
from benchmarks.tables.files import for_screen
from core import checkpoint
from core.codec import Image, TesseraError
from core.images import as_rgb
from core.places import default_results
from core.registry import METHODS, make_method
from experiments.compress import codec_of
from experiments.wiring import changed, default_params, sequence
from qres import official
from qres.codec import QResCodec


def sizes_config() -> None:
    """Options of comparing sizes of files (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    dataset = "kodak"
    limit = None
    points = None  # default: the method's own
    data_root = None
    results = default_results()


def sizes(config: Mapping[str, Any], run: Any) -> int:
    """Write every image in both formats; print and write the table, a row for each point."""
    cls = METHODS[config["method"]]
    if not cls.__module__.startswith("qres") or cls.lossless:
        raise TesseraError(f"the official code has no lossy files of {config['method']}: use qres34m or another of it.")
    images = [named.read() for named in open_dataset(config["dataset"], config["limit"], config["data_root"]).images]
    base = make_method(config["method"], changed(config["params"], config["method"]))
    table, rows = records.Table(config["device"]), []
    for point in sequence(config["points"]) or checkpoint.points(base, str(config["weights"])) or cls.points:
        codec = codec_of(base.at(point), config)
        assert isinstance(codec, QResCodec)
        rows.append({str(base.curve): point, **_row(codec, images)})
        print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    caption = f"Bytes of {base.name} on {config['dataset']}, mean of {len(images)} images, same weights and latents"
    print(for_screen(frame, caption))
    print(*table.write(frame, config["results"], f"official_sizes_{base.name}", caption), sep="\n")
    return 0


def _row(codec: QResCodec, images: list[Image]) -> dict[str, float]:
    """Mean bytes of the official file and of ours, with and without what makes ours decodable elsewhere."""
    n = len(images)
    theirs = sum(len(official.file(codec.model, as_rgb(image))) for image in images) / n
    codec.portable = True
    ours = sum(len(codec.compress(image)) for image in images) / n
    codec.portable = False
    plain = sum(len(codec.compress(image)) for image in images) / n
    ideal = sum(codec.bits(image) for image in images) / n / 8
    pixels = sum(image.shape[0] * image.shape[1] for image in images) / n
    return {
        "bpp": 8 * ours / pixels,
        "model's estimate": ideal,
        "official file": theirs,
        "ours": ours,
        "ours, not portable": plain,
        "saved (%)": 100 * (1 - ours / theirs),
        "saved, not portable (%)": 100 * (1 - plain / theirs),
    }


COMMANDS = {"sizes": (sizes_config, sizes, None)}
