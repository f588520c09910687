"""Commands of McQuic beside those of every family: its data set, a table of file sizes, its training recipe."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image as pillow

from benchmarks.datasets.files import below
from benchmarks.datasets.lmdb_images import key, metadata, refuse_cut
from benchmarks.tables.files import for_screen
from core import atomic
from core.codec import TesseraError
from core.images import decode_image, open_image
from core.places import default_results
from experiments import compress as files
from experiments.wiring import default_params

SUFFIXES = (".png", ".jpg", ".jpeg")
SMALLEST = 512  # pixels of a side
MAP_SIZE = 2**40  # the largest the file may grow, in bytes; it takes what it holds
AT_ONCE = 64  # images of one transaction: what an interruption loses


def dataset_config() -> None:
    """Options of building a data set (a Sacred config scope: each variable is one)."""
    input = None  # a folder of photographs, subfolders included
    output = None  # the folder of the data set
    seed = 3407  # of the order
    results = default_results()


def sizes_config() -> None:
    """Options of the table of file sizes (a Sacred config scope: each variable is one)."""
    method = "mcquic"
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    input = None  # a picture
    results = default_results()


def build(config: Mapping[str, Any], run: Any) -> int:
    """Build an LMDB data set of the photographs below a folder; the same command resumes, and verifies it."""
    if config["input"] is None or config["output"] is None:
        raise TesseraError("give input=FOLDER with photographs and output=FOLDER for the data set.")
    source, target = Path(str(config["input"])), Path(str(config["output"]))
    if not (target / "metadata.json").exists():
        paths, refused = _plan(source, target, int(config["seed"]))
        for sentence in refused:
            print(f"left out: {sentence}")
        _write(source, target, paths)
    length, digest = metadata(target)
    (target / "plan.json").unlink(missing_ok=True)
    if atomic.sha256(target / "data.mdb") != digest:
        raise TesseraError(f"{target / 'data.mdb'} is not what its metadata describe: delete {target}, build it again.")
    print(f"{target}: {length} images, verified; train with dataset=lmdb:{target}")
    return 0


def _plan(source: Path, target: Path, seed: int) -> tuple[list[str], list[str]]:
    """The shuffled names of usable photographs, kept for resuming, and why others are left out."""
    stored = target / "plan.json"
    if stored.exists():
        return json.loads(stored.read_text()), []
    if not source.is_dir():
        raise TesseraError(f"input={source} is not a folder.")
    if target.exists() and any(target.iterdir()):
        raise TesseraError(f"output={target} is not empty and was not begun by this command: give another folder.")
    names, refused = [], []
    files = (p for p in below(source) if p.suffix.lower() in SUFFIXES and (p.is_file() or p.is_symlink()))
    for path in sorted(files):
        reason = _refusal(path)
        (refused.append(reason) if reason else names.append(path.relative_to(source).as_posix()))
    if not names:
        raise TesseraError(f"{source} holds no PNG or JPEG files with sides of at least {SMALLEST} pixels.")
    random.Random(seed).shuffle(names)
    atomic.write_text(stored, json.dumps(names))
    return names, refused


def _refusal(path: Path) -> str:
    """Why a photograph is left out; empty if it is not."""
    try:
        with pillow.open(path) as picture:
            size = picture.size
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        return f"{path} cannot be read ({type(error).__name__})"
    return "" if min(size) >= SMALLEST else f"{path} is {size[0]}x{size[1]}, smaller than {SMALLEST}"


def _write(source: Path, target: Path, names: list[str]) -> None:
    """Add the files that are not in the data set yet; the metadata come last, so that their presence means done."""
    import lmdb

    try:
        environment = lmdb.open(str(target), map_size=MAP_SIZE, subdir=True)
    except lmdb.Error as error:
        raise TesseraError(f"{target} cannot be opened as LMDB ({error}): delete it and build it again.") from None
    refuse_cut(environment, target)
    with environment:
        for start in range(environment.stat()["entries"], len(names), AT_ONCE):
            with environment.begin(write=True) as transaction:
                for number, name in list(enumerate(names))[start : start + AT_ONCE]:
                    data = (source / name).read_bytes()
                    decode_image(data, str(source / name))  # a broken file ends the build here, not in training
                    transaction.put(key(number), data)
            print(f"{min(start + AT_ONCE, len(names))} of {len(names)} images", flush=True)
    facts = {"length": len(names), "hash": atomic.sha256(target / "data.mdb")}
    atomic.write_text(target / "metadata.json", json.dumps(facts))


def sizes(config: Mapping[str, Any], run: Any) -> int:
    """Print what one picture takes in each container, with and without the context model where weights have one."""
    if config["input"] is None:
        raise TesseraError("give input=PICTURE.")
    image = open_image(Path(str(config["input"])))
    pixels = image.shape[0] * image.shape[1]
    rows = []
    for title, params in (
        ("Tessera, context model", {"container": "tessera", "context": True}),
        ("Tessera, order 0", {"container": "tessera", "context": False}),
        (".mcq of version 0.1", {"container": "mcq", "context": False}),
    ):
        if params["context"] and not config["params"].get("context"):
            continue
        _, codec = files.open_codec({**config, "params": {**config["params"], **params}})
        stream = codec.compress(image)
        payload = codec.payload_bits(stream) // 8  # type: ignore[attr-defined]
        rows.append({"file": title, "bytes": len(stream), "payload": payload, "header": len(stream) - payload,
                     "bpp": 8 * len(stream) / pixels})  # fmt: skip
    print(for_screen(pd.DataFrame(rows), f"{Path(str(config['input'])).name}, {image.shape[1]}x{image.shape[0]}"))
    return 0


COMMANDS: dict[str, tuple[Callable[[], None], Callable[..., int], None]] = {
    "dataset": (dataset_config, build, None),
    "sizes": (sizes_config, sizes, None),
}
