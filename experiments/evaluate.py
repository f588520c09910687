"""Evaluate methods on a data set: one cell per method, variant and point; cells that exist are not computed again."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any

from benchmarks.datasets import ImageSet, converted_name, open_dataset, stamps
from benchmarks.measure import harness
from benchmarks.measure.metrics import usable
from benchmarks.store import Cell, CellResult, Store
from core import checkpoint, crew, devices
from core.checkpoint import Weights
from core.codec import Codec, Method, MissingWeights, TesseraError
from core.places import default_results
from core.registry import Unusable, discover, make_method, reason, unknown
from experiments import lacking
from experiments.request import Evaluation
from experiments.wiring import default_params


@dataclass
class Outcome:
    """What an evaluation did: finished cells, reasoned skips, failures (sentences)."""

    cells: list[CellResult] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # pictures that cannot be measured as they are
    failed: list[str] = field(default_factory=list)
    images: ImageSet | None = None  # what is measured on
    lacking: dict[str, list[Method]] = field(default_factory=dict)  # methods at points without weights, by name
    unfetched: int = 0  # cells whose weights nobody has asked the network for
    pictures: str = ""  # the fingerprint of the images, as they are now

    @property
    def code(self) -> int:
        """Exit code: 0 when nothing failed, 1 when some cells or pictures did, 2 when there is nothing to show."""
        return (1 if self.failed or self.left_out else 0) if self.cells else 2


def evaluation_config() -> None:
    """Options of every command that evaluates (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"  # what to measure; params.NAME=VALUE sets its hyper-parameters
    methods = None  # several at once, e.g. qres3m_vr,jpeg,webp (then without params)
    dataset = "sample"  # sample, kodak, clic, cifar10, ..., folder:PATH
    points = None  # settings that move along the curve, e.g. 16,64; default: the method's own
    limit = None  # only the first images
    alpha = None  # white or black: what is put behind transparent pictures of folder:PATH, which are refused otherwise
    depth = None  # 8: other depths of pictures of folder:PATH are converted to 8 bits, and refused otherwise
    rate = "file"  # bytes written; or another way to count bits that the method knows, such as ideal
    device = "cpu"  # or cuda
    weights = "auto"  # auto, official, ours, or a path
    seed = 0  # of the weights that were trained here
    search = 0  # steps or candidates of a search at the encoder (docs/methods/search.md); its curve is another one
    metrics = None  # beside the default ones, e.g. vmaf,ciede2000; stored cells gain them (docs/protocol.md)
    params = default_params(method)
    results = default_results()
    data_root = None  # where data sets are; default: TESSERA_DATA, ./data
    jobs = None  # cells measured at once, of one thread each; default: one for each processor; 1 to compare seconds
    keep_images = dataset == "sample"  # keep decoded pictures for the report (about 0.6 MB an image and point)


def drawing_config() -> None:
    """Options of the figures (a Sacred config scope: each variable is one)."""
    curves = None  # what stands beside: labels of stored and published curves, files of your own (a.csv, b.json)
    names = None  # other names for curves: LABEL:NAME,LABEL:NAME
    title = None  # of the figures
    width = "page"  # or column


@dataclass(frozen=True)
class Job:
    """One cell to measure: its method at a point and its weights."""

    cell: Cell
    method: Method
    weights: Weights | None
    effort: int = 0  # of the search at the encoder

    def codec(self) -> tuple[Codec, Codec]:
        """The plain codec and the one to be measured, which are the same without a search."""
        try:
            model = checkpoint.load(self.method, self.weights).to(self.cell.device) if self.weights else None
            plain = self.method.codec(model)
            return plain, self.method.searching(plain, self.effort)
        except ModuleNotFoundError as error:
            raise TesseraError(f"{reason(error)}.") from error


def plan_jobs(request: Evaluation, outcome: Outcome) -> tuple[ImageSet, list[Job]]:
    """The images and cells of a request; mistakes raise, reasoned skips and missing weights are noted."""
    discover()
    device = devices.available(request.device)
    name = converted_name(request.dataset, request.alpha, request.depth)
    images = open_dataset(name, request.limit, request.data_root)
    outcome.images = images
    outcome.left_out.extend(images.left_out)
    outcome.pictures = stamps.fingerprint(images, request.folder / "fingerprints")
    jobs: list[Job] = []
    missing: dict[str, list[str]] = {}  # method -> the first sentence, then the other points
    reasons: dict[tuple[str, str], list[Method]] = {}  # method and why it lacks weights -> at its points
    for method in _methods(request, images, outcome):
        try:
            weights = checkpoint.find(method, request.weights)
        except TesseraError as error:  # none, or ones that cannot be used
            outcome.unfetched += isinstance(error, checkpoint.NotFetched)
            if isinstance(error, MissingWeights) and error.why:
                reasons.setdefault((method.name, error.why), []).append(method)
                outcome.lacking.setdefault(method.name, []).append(method)
                continue
            known = missing.setdefault(method.name, [])
            known.append(str(method.point) if known else str(error).rstrip("."))
            continue
        cell = _cell(method, images, request, weights)
        jobs.append(Job(replace(cell, device=device, pictures=outcome.pictures), method, weights, request.search))
    for sentence, *others in missing.values():
        outcome.failed.append(sentence + (f"; likewise at {', '.join(others)}." if others else "."))
    outcome.failed.extend(_lack(methods, why) for (_, why), methods in reasons.items())
    return images, jobs


def _lack(methods: Sequence[Method], why: str) -> str:
    """Which weights are missing, and why."""
    first = methods[0]
    at = f" at {first.curve}={', '.join(str(m.point) for m in methods)}" if first.curve else ""
    return f"there are no weights for {first.name}{at}: {why}."


def evaluate(request: Evaluation, sacred_run: str = "", announce: bool = True) -> Outcome:
    """Measure what is asked for. Mistakes of the user raise; a failing cell is recorded and the rest goes on.

    What is left out is said before, unless the caller did (``announce``).
    """
    store, outcome = Store(request.results), Outcome()
    discover()
    usable(request.metrics)
    images, jobs = plan_jobs(request, outcome)
    if announce:
        say_refused(images)
    if not all(store.has(job.cell) for job in jobs):
        outcome.pictures = images.fingerprint  # of the pictures themselves: the identity of what is measured now
        jobs = [replace(job, cell=replace(job.cell, pictures=outcome.pictures)) for job in jobs]
        _say_replaced(jobs, images, store)
    started = time.monotonic()
    lacking = {number: job for number, job in enumerate(jobs, 1) if _lacks(job, images, store, request)}
    works = [partial(_obtain, job, images, store, request, sacred_run) for job in lacking.values()]
    count = crew.jobs(request.jobs) if request.device == "cpu" else 1
    obtained = crew.each(works, count, partial(_prepare, lacking.values()))
    for number, job in enumerate(jobs, start=1):
        measured = next(obtained) if number in lacking else None
        if isinstance(measured, TesseraError):
            outcome.failed.append(f"{job.cell.label} at {job.cell.point} on {images.title}: {measured}")
            if not store.has(job.cell):
                store.record_failure(job.cell, str(measured))
            continue
        outcome.cells.append(store.read(job.cell))
        if measured:
            _tell(number, len(jobs), outcome.cells[-1], time.monotonic() - started)
    return outcome


def _lacks(job: Job, images: ImageSet, store: Store, request: Evaluation) -> bool:
    """Whether a cell, metrics that it is to have, or pictures of it that are to be kept, are not there."""
    if not store.has(job.cell) or (request.keep_images and harness.lacks_pictures(job.cell, images, store)):
        return True
    return bool(request.metrics and harness.lacks_metrics(store.read(job.cell), request.metrics))


def _obtain(job: Job, images: ImageSet, store: Store, request: Evaluation, sacred_run: str) -> bool | TesseraError:
    """Measure a cell, or what it lacks; whether it was measured, or why it could not be."""
    try:
        if not store.has(job.cell):
            _measure(job, images, store, request, sacred_run)
            return True
        _add_metrics(job, images, store, request.metrics, sacred_run)
        if request.keep_images and harness.lacks_pictures(job.cell, images, store):
            harness.keep_pictures(job.cell, job.codec()[1], images, store)
    except TesseraError as error:
        return error
    return False


def _prepare(jobs: Iterable[Job]) -> None:
    """Import once what workers need."""
    if any(job.weights for job in jobs):
        import_module("torch")
    import_module("benchmarks.measure.metrics")


def say(outcome: Outcome) -> None:
    """Print skips, pictures left out and failures, after everything else."""
    for sentence in outcome.skipped:
        print(f"skipped: {sentence}")
    for sentence in outcome.left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    for sentence in outcome.failed:
        print(f"failed: {sentence}", file=sys.stderr)
    for methods in outcome.lacking.values():
        print(*lacking.advice(methods, outcome.images.name if outcome.images else ""), sep="\n", file=sys.stderr)


def say_refused(images: ImageSet) -> None:
    """Say what is left out of a set, before it is used."""
    if images.left_out:
        print(images.refused(), file=sys.stderr, flush=True)


def _methods(request: Evaluation, images: ImageSet, outcome: Outcome) -> Iterator[Method]:
    """Every method at every point; builds all of them first, so a typing error stops the run before it starts."""
    built = []
    for asked in request.methods:
        try:
            built.append((make_method(asked.name, asked.params), asked.params))
        except Unusable as error:
            outcome.skipped.append(str(error))
    for method, _ in built:
        method.check_search(request.search)
    for method, params in built:
        reason = method.skip(images.name)
        if reason:
            outcome.skipped.append(f"{method.name} on {images.title}: {reason}")
            continue
        yield from (method.at(point) for point in _points(method, params, request.points, request.weights))


def _points(method: Method, params: Mapping[str, Any], asked: Sequence[Any] | None, weights: str) -> Sequence[Any]:
    """The points to measure: the requested ones, a curve parameter the user set, those of weights given by path, or
    the method's own."""
    if method.curve is None:
        if asked:
            raise TesseraError(f"{method.name} has no setting that moves along a curve: leave points=... out.")
        return [None]
    for point in asked or ():
        if any(isinstance(p, (int, float)) for p in method.points) and not isinstance(point, (int, float)):
            raise unknown(f"point of {method.name}", str(point), map(str, method.points))
    if asked or method.curve in params:
        return asked or [method.point]
    low, high = method.trained_range or (-math.inf, math.inf)
    inside = [p for p in method.points if isinstance(p, str) or low <= p <= high]
    return checkpoint.points(method, weights) or inside


def _say_replaced(jobs: Sequence[Job], images: ImageSet, store: Store) -> None:
    """Say what was measured on other pictures of the data set and is measured again."""
    older = store.others(job.cell for job in jobs if not store.has(job.cell))
    if older:
        names = ", ".join(dict.fromkeys(result.label for result in older))
        print(
            f"the pictures of {images.title} are not those of {len(older)} stored cells ({names}): measured again on "
            "the present ones; the older cells stay apart.",
            flush=True,
        )


def _cell(method: Method, images: ImageSet, request: Evaluation, weights: Weights | None) -> Cell:
    """The cell of a method, but for the device and the pictures that are really here."""
    return Cell(
        method=method.name,
        variant={**method.variant, "search": request.search} if request.search else method.variant,
        point=method.point,
        dataset=images.name,
        split=images.split,
        limit=images.limit,
        seed=request.seed,
        checkpoint=weights.id if weights else "",
        rate=request.rate,
    )


def _add_metrics(job: Job, images: ImageSet, store: Store, metrics: Sequence[str], sacred_run: str) -> None:
    """Give a stored cell the metrics that it lacks, from pictures coded again."""
    result = store.read(job.cell)
    if names := harness.lacks_metrics(result, metrics):
        about = harness.provenance(job.cell.device, sacred_run)
        harness.add_metrics(result, job.codec()[1], images, store, names, about)


def _measure(job: Job, images: ImageSet, store: Store, request: Evaluation, sacred_run: str) -> CellResult:
    method, weights = job.method, job.weights
    data = weights.meta.get("data", {}) if weights else {}
    plain, codec = job.codec()
    searched = f"The encoder searches: {job.effort} {method.searches}." if job.effort else ""
    return harness.measure(
        job.cell,
        codec,
        images,
        store,
        about=harness.describe(method, images, legend=weights.legend if weights else "", note=searched),
        provenance=harness.provenance(job.cell.device, sacred_run),
        train_fingerprints=checkpoint.seen(weights) if weights else (),
        trained_on=data.get("names", ()),
        keep_images=request.keep_images,
        warm=method.warming(plain),
        metrics=request.metrics,
    )


def _tell(number: int, total: int, result: CellResult, seconds: float) -> None:
    m, cell = result.means, result.cell
    quality = f"{m['psnr']:.2f} dB" if "psnr" in m else ""
    where = f"{result.label} {'' if cell.point is None else cell.point}".strip()
    left = f"{total - number} left" if number < total else "all done"
    print(
        f"[{number}/{total}] {where} on {cell.dataset}: {m['bpp']:.4f} bpp {quality} ({seconds:.0f} s, {left})",
        flush=True,
    )


def evaluate_command(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure a method and print the numbers."""
    from benchmarks.curves import curve
    from benchmarks.tables.files import for_screen
    from benchmarks.tables.results import rd_table

    request = Evaluation.of(config)
    outcome = evaluate(request, str(sacred_run._id or ""))
    if outcome.cells:
        keys = {result.key for result in outcome.cells}
        found = curve.measured(Store(request.results), outcome.cells[0].cell.dataset, pictures=outcome.pictures)
        print(for_screen(rd_table([c for c in found if keys & set(c.cells)]), outcome.cells[0].about["title"]))
    say(outcome)
    return outcome.code


COMMANDS = {"evaluate": (evaluation_config, evaluate_command, {"smoke": {"limit": 1}})}
