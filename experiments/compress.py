"""Files to streams and back with any method: ``python -m FAMILY compress`` and ``decompress``.

python -m qres compress with method=qres3m_vr params.lmb=64 input=photo.png output=photo.tsr
python -m qres compress with method=qres3m_vr input='photos/**/*.jpg' output=streams psnr=True
python -m qres compress with method=qres3m_vr params.lmb=16 search=300 input=photo.png  # smaller, in minutes
python -m qres decompress with method=qres3m_vr input=streams output=decoded

One input that cannot be coded is reported, and the rest goes on; so is an output that is there already and is not the
same. Exit code 0: all done or there already, 1: some failed, 2: none succeeded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.datasets.files import SUFFIXES, is_image, natural
from benchmarks.measure.metrics import METRICS
from core import atomic, bitstream, checkpoint
from core.bitstream import BitstreamError
from core.codec import Codec, HasFingerprint, Image, Method, TesseraError
from core.images import open_image, save_image
from core.places import default_results
from experiments import origins
from experiments.wiring import configured, default_params, sequence

STREAM = ".tsr"
STREAMS = (STREAM, ".mcq")  # what is decompressed; the latter are files of McQuic
PICTURES = (".png", ".webp")  # what decoded pictures are saved as


def compress_config() -> None:
    """Options of compressing files (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"  # params.NAME=VALUE sets its hyper-parameters
    params = default_params(method)
    weights = "auto"  # auto, official, ours, or a path
    device = "cpu"  # or cuda
    input = None  # pictures, folders (with all below them) or glob patterns, several as a,b
    output = None  # a .tsr file for one picture, else a folder; default: beside each picture
    overwrite = False  # replace outputs that are there and differ; else they are left as they are, and reported
    psnr = False  # decode and compare
    search = 0  # smaller files from the same weights, for more time: N steps or candidates (docs/methods/search.md)
    results = default_results()


def decompress_config() -> None:
    """Options of decompressing files (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"  # the method, parameters and weights that compressed; others are refused
    params = default_params(method)
    weights = "auto"
    device = "cpu"
    input = None  # .tsr files, folders or glob patterns, several as a,b
    output = None  # a .png or .webp for one stream, else a folder; default: NAME.decoded.png beside each stream
    overwrite = False
    reference = None  # the original picture, or a folder of originals of the same names, to give the PSNR
    results = default_results()


@dataclass(frozen=True)
class Job:
    """One file to code: where it is, its name below a folder that was given, and where it goes."""

    source: Path
    name: Path
    target: Path


@dataclass(frozen=True)
class Coded:
    """One coded file; ``same`` says whether what was there already is the same, None where nothing was."""

    stream: bytes
    image: Image
    psnr: float | None
    same: bool | None = None


@dataclass
class Report:
    """What happened to the files."""

    done: int = 0
    bytes: int = 0
    bpp: float = 0.0  # sum over files
    skipped: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """Exit code: 0 nothing failed, 1 some did, 2 all did."""
        return 0 if not self.failed else 1 if self.done or self.skipped else 2


def open_codec(config: Mapping[str, Any], effort: int = 0) -> tuple[Method, Codec]:
    """The method a config names, and its codec with the config's weights and device, and a search at the encoder."""
    method = configured(config)
    method.check_search(effort)
    return method, method.searching(codec_of(method, config), effort)


def codec_of(method: Method, config: Mapping[str, Any]) -> Codec:
    """The codec of a method with the weights and on the device a config asks for."""
    codec, weights = checkpoint.opened(method, str(config["weights"]), config["device"])
    origins.remember(codec, method, weights)
    return codec


def compress(config: Mapping[str, Any], run: Any) -> int:
    """Compress every input of a config and print what each takes."""
    report = Report()
    jobs = list(_jobs(config, is_image, STREAMS, STREAM, report))
    if not jobs:
        return _finish(report)
    method, codec = open_codec(config, config["search"])
    if any(job.target.suffix == ".mcq" for job in jobs) and method.suffix != ".mcq":
        raise TesseraError("files named .mcq are those of McQuic: add params.container=mcq, or name the output .tsr.")

    def code(job: Job) -> Coded:
        image = open_image(job.source)
        known = read(job.target) if job.target.exists() and not config["overwrite"] else None
        if known is not None and _foreign(known, method, codec, image):
            raise _refusal(job.target)
        stream = codec.compress(image)
        if known is not None:
            return Coded(stream, image, None, known == stream)
        quality = METRICS["psnr"](image, codec.decompress(stream)) if config["psnr"] else None
        atomic.write_bytes(job.target, stream)
        return Coded(stream, image, quality)

    return _work(jobs, code, report)


def decompress(config: Mapping[str, Any], run: Any) -> int:
    """Decompress every input of a config and print what each took."""
    report = Report()
    jobs = list(_jobs(config, lambda name: name.endswith(STREAMS), PICTURES, ".decoded.png", report))
    if not jobs:
        return _finish(report)
    _, codec = open_codec(config)

    def code(job: Job) -> Coded:
        stream, original = read(job.source), _original(config["reference"], job)
        image = codec.decompress(stream)
        if job.target.exists() and not config["overwrite"]:
            return Coded(stream, image, None, _shows(job.target, image))
        quality = None if original is None else METRICS["psnr"](open_image(original), image)
        save_image(job.target, image)
        return Coded(stream, image, quality)

    return _work(jobs, code, report)


def read(path: Path) -> bytes:
    """The bytes of a file; ``TesseraError`` when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise TesseraError(f"{path} cannot be read ({error.strerror or error}): check the path.") from None


COMMANDS: dict[str, tuple[Callable[[], None], Callable[..., int], None]] = {
    "compress": (compress_config, compress, None),
    "decompress": (decompress_config, decompress, None),
}


# -- which files ----------------------------------------------------------------------------------------------------


def _jobs(
    config: Mapping[str, Any], wanted: Callable[[str], bool], suffixes: tuple[str, ...], beside: str, report: Report
) -> Iterator[Job]:
    """What to code and where it goes; inputs that are not there and clashing targets go to the report."""
    found = list(_found(config["input"], wanted, report))
    output = config["output"]
    single = output is not None and Path(str(output)).suffix.lower() in suffixes
    if single and len(found) + len(report.failed) > 1:
        raise TesseraError(f"output={output} is one file for {len(found)} inputs: give a folder.")
    taken: dict[Path, Path] = {}
    for source, name in found:
        if output is None:
            target = source.with_name(source.stem + beside)
        elif single:
            target = Path(str(output))
        else:
            target = Path(str(output)) / name.with_suffix(suffixes[0])
        if target in taken and taken[target] != source:
            report.failed.append(f"{source} would go to {target} as {taken[target]} does: give it its own output.")
        elif target not in taken:
            taken[target] = source
            yield Job(source, name, target)


def _found(given: Any, wanted: Callable[[str], bool], report: Report) -> Iterator[tuple[Path, Path]]:
    """(path, name below what was given) of every input, folders and patterns opened up, in natural order."""
    words = [given] if isinstance(given, str) and Path(given).exists() else sequence(given)
    if not words:
        raise TesseraError("there is nothing to do: give input=FILE, a folder, or a pattern in quotes.")
    for word in map(str, words):
        path = Path(word)
        if path.is_file():
            yield path, Path(path.name)
        elif path.is_dir():
            inside = sorted(
                (p for p in path.rglob("*") if p.is_file() and wanted(p.name)), key=lambda p: natural(str(p))
            )
            yield from ((p, p.relative_to(path)) for p in inside)
            if not inside:
                report.failed.append(f"{word} holds no such files: check the folder.")
        elif matches := sorted(_matches(path), key=lambda pair: natural(str(pair[0]))):
            yield from matches
        else:
            report.failed.append(f"{word} is not there: check the path.")


def _matches(pattern: Path) -> Iterator[tuple[Path, Path]]:
    """The files of a glob pattern, and their names below its part without wildcards."""
    parts = pattern.parts
    fixed = next((i for i, part in enumerate(parts) if any(c in part for c in "*?[")), None)
    if fixed is not None:
        folder = Path(*parts[:fixed])
        yield from ((p, p.relative_to(folder)) for p in folder.glob("/".join(parts[fixed:])) if p.is_file())


def _original(reference: str | None, job: Job) -> Path | None:
    """The original of a stream: the reference itself, or the picture of the stream's name in it."""
    if reference is None:
        return None
    path = Path(str(reference))
    if not path.is_dir():
        return path
    beside = (path / job.name.with_suffix(suffix) for suffix in sorted(SUFFIXES))
    original = next((p for p in beside if p.exists()), None)
    if original is None:
        raise TesseraError(f"{job.source} has no original of its name in {path}: leave reference=... out.")
    return original


# -- work -----------------------------------------------------------------------------------------------------------


def _work(jobs: list[Job], code: Callable[[Job], Coded], report: Report) -> int:
    """Code every job, say what each file takes and what all do; returns the exit code."""
    bar = tqdm(jobs, unit="file", disable=None if len(jobs) > 1 else True)  # None: off where there is no terminal
    for job in bar:
        try:
            coded = code(job)
            if coded.same is False:
                raise _refusal(job.target)
        except (TesseraError, OSError, MemoryError) as error:
            report.failed.append(_sentence(job.source, error))
            continue
        if coded.same:
            report.skipped += 1
            tqdm.write(f"skipped: {job.target} is there already, the same")
            continue
        size, (height, width, _) = len(coded.stream), coded.image.shape
        bpp = 8 * size / (height * width)
        report.done, report.bytes, report.bpp = report.done + 1, report.bytes + size, report.bpp + bpp
        decibel = "" if coded.psnr is None else f", {coded.psnr:.2f} dB"
        tqdm.write(f"{job.source} -> {job.target}: {size} bytes, {bpp:.4f} bpp{decibel}")
    return _finish(report)


def _finish(report: Report) -> int:
    """Print failures and totals, after everything else; returns the exit code."""
    for sentence in report.failed:
        print(f"failed: {sentence}", file=sys.stderr)
    if report.done + report.skipped + len(report.failed) > 1:
        mean = f", {report.bpp / report.done:.4f} bpp on average" if report.done else ""
        print(f"{report.done} files, {report.bytes} bytes{mean}; {report.skipped} skipped, {len(report.failed)} failed")
    return report.code


def _sentence(source: Path, error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, TesseraError):
        return f"{source}: {error.filename or 'the output'} cannot be written ({error.strerror or error})."
    text = str(error) or "there is not enough memory for it"
    return text if str(source) in text else f"{source}: {text}"


def _refusal(target: Path) -> TesseraError:
    return TesseraError(
        f"{target} is there already and is not what this would write: give another output, or overwrite=True."
    )


def _foreign(known: bytes, method: Method, codec: Codec, image: Image) -> bool:
    """Whether the header of a stream says that it is of another picture, method or checkpoint: no need to compress."""
    try:
        read = bitstream.unpack(known, codec.fingerprint) if isinstance(codec, HasFingerprint) else None
    except BitstreamError:
        return method.suffix != ".mcq"
    return read is not None and (read.height, read.width, read.channels) != image.shape


def _shows(path: Path, image: Image) -> bool:
    """Whether a file holds just this picture."""
    try:
        return np.array_equal(open_image(path), image)
    except TesseraError:
        return False
