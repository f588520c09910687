"""Streams by themselves: what a file is, and its picture, without saying what made it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core import bitstream, manual
from core.codec import TesseraError
from core.commandline import options
from core.given import listed

INFO = """What a stream is: size, method, weights, setting; of a picture in another format, which.

    tessera info photo.tsr
    tessera info *.tsr
"""
DECOMPRESS = """Streams back to pictures; method, parameters and weights are found by the fingerprint in each stream.

    tessera decompress photo.tsr                          # photo.decoded.png beside it
    tessera decompress photo.tsr output=photo.png
    tessera decompress a.tsr b.tsr output=decoded         # a folder

Weights are looked for among those that made streams here before, the shipped ones, those that were fetched, and below
runs/. The first time may take a while, since weights have to be loaded to be compared.
"""
DEFAULTS = {
    "output": "",  # a .png or .webp for one stream, else a folder; default: NAME.decoded.png beside each stream
    "overwrite": "False",  # replace outputs that are there and differ
    "reference": "",  # the original picture, or a folder of originals of the same names, to give the PSNR
    "device": "cpu",  # or cuda
}


def info(words: Sequence[str]) -> int:
    """Say what each file is; 0, 1 when some cannot be read, 2 when none can."""
    if not words or any(word in manual.WORDS for word in words):
        print(manual.page(INFO))
        return 0
    failed = 0
    for word in words:
        try:
            print(described(Path(word)))
        except TesseraError as error:
            failed += 1
            print(f"error: {word}: {str(error).removeprefix(f'{word} ')}", file=sys.stderr)
    return 0 if not failed else 1 if failed < len(words) else 2


def described(path: Path) -> str:
    """What a file is, as lines; ``TesseraError`` for one that cannot be read or is no stream."""
    from experiments import compress, origins

    data = compress.read(path)
    stream = bitstream.unpack(data, None)
    payload = bitstream.payload_bits(data) // 8
    pixels = stream.height * stream.width
    rows = [
        ("picture", f"{stream.width}x{stream.height}, {'grey' if stream.channels == 1 else 'RGB'}"),
        ("bytes", f"{len(data)} ({payload} of them coded), {8 * len(data) / pixels:.4f} bpp"),
        ("fingerprint", stream.fingerprint.hex()),
    ]
    try:
        origin = origins.find(stream.fingerprint)
        params = {k: v for k, v in origin.params.items() if v != listed(origin.method.parameters()[k])}
        params.pop(origin.method.curve or "", None)
        rows.append(("method", " ".join([origin.method.name, *(f"params.{k}={v}" for k, v in params.items())])))
        rows.append(("setting", origins.setting(origin, data) or "not said by the stream"))
        rows.append(("weights", origin.weights))
    except TesseraError as error:
        rows.append(("method", str(error)))
    return f"{path}: a Tessera stream, version {bitstream.VERSION}\n{manual.columns(rows)}"


def decompress(words: Sequence[str]) -> int:
    """Decode files, grouped by what made them; the exit code of the worst group."""
    if not words or any(word in manual.WORDS for word in words):
        print(manual.page(DECOMPRESS, manual.table_options(DEFAULTS, manual.source_of(decompress))))
        return 0
    from experiments import compress, origins

    files = [word for word in words if "=" not in word and word != "with"]
    given = options("tessera decompress", DEFAULTS, [word for word in words if "=" in word])
    if not files:
        raise TesseraError("there is nothing to decompress: give files, as in tessera decompress photo.tsr.")
    if len(files) > 1 and Path(given["output"]).suffix.lower() in compress.PICTURES:
        raise TesseraError(f"output={given['output']} is one file for {len(files)} inputs: give a folder.")
    groups: dict[bytes, list[str]] = defaultdict(list)
    codes = []
    for name in files:
        try:
            groups[origins.fingerprint_of(compress.read(Path(name)))].append(name)
        except TesseraError as error:
            codes.append(_failed(name, error))
    for fingerprint, mine in groups.items():
        try:
            config = _config(origins.find(fingerprint), mine, given)
        except TesseraError as error:
            codes += [_failed(name, error) for name in mine]
        else:
            codes.append(compress.decompress(config, None))
    return 0 if not any(codes) else 1 if min(codes) < 2 else 2


def _failed(name: str, error: TesseraError) -> int:
    print(f"failed: {name}: {str(error).removeprefix(f'{name} ')}", file=sys.stderr)
    return 2


def _config(origin: Any, files: Sequence[str], given: dict[str, str]) -> dict[str, Any]:
    """The options of ``python -m FAMILY decompress`` for streams of one origin."""
    return {
        "method": origin.method.name,
        "params": origin.params,
        "weights": origin.weights,
        "device": given["device"],
        "input": list(files),
        "output": given["output"] or None,
        "overwrite": given["overwrite"] == "True",
        "reference": given["reference"] or None,
    }
