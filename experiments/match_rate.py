"""The operating point of a method at a target rate or quality, each setting measured with real files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmarks.curves import curve as curves
from benchmarks.curves import matching
from benchmarks.store import CellResult, Store
from benchmarks.store.names import label_name, set_name, stem_of
from benchmarks.tables import files
from benchmarks.tables import results as tables
from core import checkpoint
from core.codec import Method, Point, TesseraError
from core.options import POSITIVE
from core.places import default_results
from core.registry import make_method
from experiments.evaluate import Outcome, evaluate, plan_jobs
from experiments.request import Evaluation
from experiments.wiring import default_params, sequence

FOLDER = "match_rate"  # of the results: cells and tables of searches
SHOWN = ("bpp", "psnr", "ms_ssim_db")
UNITS = {"bpp": "bpp", "psnr": "dB"}
PRESETS = {"jpeg_ai": (0.06, 0.12, 0.25, 0.5, 0.75)}  # bits per pixel


def match_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "qres3m_vr"  # params.NAME=VALUE sets its hyper-parameters, but for the one that is searched
    target_bpp = None  # bits per pixel; several as a,b; or jpeg_ai, for the rate points of its test conditions
    target_psnr = None  # or dB; several as a,b
    tolerance = None  # default: 0.5 % of target_bpp, 0.02 dB of target_psnr
    dataset = "sample"  # sample, kodak, clic, cifar10, ..., folder:PATH
    limit = None  # only the first images
    alpha = None  # white or black, see benchmarks/rd_curve.py
    depth = None  # 8, likewise
    device = "cpu"  # or cuda
    weights = "auto"  # auto, official, ours, or a path
    seed = 0  # of the weights that were trained here
    search = 0  # steps or candidates of a search at the encoder, at each setting (docs/methods/search.md)
    params = default_params(method)
    results = default_results()
    data_root = None  # where data sets are; default: TESSERA_DATA, ./data


def match_rate(config: Mapping[str, Any], run: Any) -> int:
    """Search, print and write the table, and say in words how near the answers are."""
    metric, targets, tolerances = _targets(config)
    request = Evaluation.of(config)
    method = _method(request)
    tried, start = matching.settings(method)
    ruler, grid = Ruler(request, str(run._id or "")), tried is not method.points and isinstance(tried[0], float)
    if tried is method.points:
        tried, start = ruler.with_weights(checkpoint.points(method, request.weights) or tried)
    frames, lines, found = [], [], []
    for target, tolerance in zip(targets, tolerances, strict=True):
        match = matching.search(tried, start, lambda point: ruler.result(point).means[metric], target, tolerance)
        frame = table(match, {point: ruler.result(point) for point in match.tried}, metric, target)
        frames.append(frame if len(targets) == 1 else frame.assign(target=target))
        lines += sentences(match, method, metric, target, grid)[:-1]
        found.append(match)
    lines = [*dict.fromkeys(lines), f"{len(ruler.found)} settings of {method.curve} were measured."]
    best = ruler.result(found[0].best)
    title = best.about["title"]
    name = f"{method.name} search {request.search}" if request.search else method.name
    caption = f"{name} at {', '.join(f'{t:g}' for t in targets)} {UNITS[metric]} on {title}"
    frame = pd.concat(frames, ignore_index=True)
    print(files.for_screen(frame, caption))
    for line in (*ruler.missing, *lines):
        print(line)
    curve, where = curves.of_cells([best])[0], set_name(best.cell.dataset, title, best.pictures)
    aims = "+".join(f"{target:g}" for target in targets)
    stem = request.folder / FOLDER / stem_of(f"{label_name(curve.label)}_{metric}_{aims}_{where}")
    print(*files.to_files(frame, stem, caption), sep="\n")
    return 0 if all(match.in_range for match in found) else 1


def _targets(config: Mapping[str, Any]) -> tuple[str, list[float], list[float]]:
    """The metric, its targets and the tolerance of each, all in the metric's unit."""
    named = [name for name in UNITS if config[f"target_{name}"] is not None]
    if len(named) != 1:
        raise TesseraError("give one of target_bpp=0.25 and target_psnr=35.")
    metric, asked, tolerance = named[0], config[f"target_{named[0]}"], config["tolerance"]
    preset = PRESETS.get(str(asked).casefold()) if metric == "bpp" else None
    targets = list(dict.fromkeys(preset or sequence(asked) or [asked]))
    for value in (*targets, *(() if tolerance is None else (tolerance,))):
        if value not in POSITIVE:
            more = f", or {' or '.join(PRESETS)} for the former" if metric == "bpp" else ""
            raise TesseraError(f"target_{metric}={asked} and tolerance={tolerance} must be numbers above 0{more}.")
    usual = [0.005 * target if metric == "bpp" else 0.02 for target in targets]
    return metric, [float(t) for t in targets], usual if tolerance is None else [float(tolerance)] * len(targets)


def _method(request: Evaluation) -> Method:
    (asked,) = request.methods
    method = make_method(asked.name, asked.params)
    method.check_search(request.search)
    if method.curve in asked.params:
        raise TesseraError(f"{method.curve} is what is searched: leave params.{method.curve} out.")
    return method


class Ruler:
    """What a setting measures: a stored cell, or a new one in the folder of searches."""

    def __init__(self, request: Evaluation, sacred_run: str) -> None:
        self.known, self.sacred_run = Store(request.results), sacred_run
        self.request = replace(request, results=str(request.folder / FOLDER))
        self.found: dict[Point, CellResult] = {}
        self.missing: list[str] = []

    def result(self, point: Point) -> CellResult:
        """The cell of a setting; TesseraError when it cannot be measured."""
        if point not in self.found:
            self.found[point] = self._measured(point)
        return self.found[point]

    def _measured(self, point: Point) -> CellResult:
        outcome, wanted = Outcome(), replace(self.request, points=(point,))
        _, jobs = plan_jobs(wanted, outcome)
        if jobs and self.known.has(jobs[0].cell):
            return self.known.read(jobs[0].cell)
        outcome = evaluate(wanted, self.sacred_run, announce=not self.found)
        if not outcome.cells:
            raise TesseraError(" ".join([*outcome.failed, *outcome.skipped]))
        return outcome.cells[0]

    def with_weights(self, points: tuple[Point, ...]) -> tuple[tuple[Point, ...], tuple[int, int]]:
        """The points that have weights here, and the first and last index; the others are noted."""
        outcome = Outcome()
        _, jobs = plan_jobs(replace(self.request, points=points), outcome)
        found = tuple(job.method.point for job in jobs if job.method.point is not None)
        if not found:
            raise TesseraError(" ".join([*outcome.failed, *outcome.skipped]))
        self.missing = [f"left out: {sentence}" for sentence in outcome.failed]
        return found, (0, len(found) - 1)


def table(match: matching.Match, cells: dict[Point, CellResult], metric: str, target: float) -> pd.DataFrame:
    """The nearest setting first; when it is not within the tolerance, also the one on the other side of the target."""
    chosen = {match.best: "nearest"}
    if not match.within:
        sides = {match.below: "next below", match.above: "next above"}
        chosen |= {point: side for point, side in sides.items() if point is not None and point not in chosen}
    rows = []
    for point, role in chosen.items():
        result = cells[point]
        legend = f" [{result.about['legend']}]" if result.about.get("legend") else ""
        row: dict[str, Any] = {"curve": result.label + legend, "data set": result.about["title"], "point": str(point)}
        row |= {tables.UNITS.get(n, n): result.means[n] for n in SHOWN if n in result.means}
        off = result.means[metric] - target
        row |= {"error (%)": 100 * off / target} if metric == "bpp" else {"error (dB)": off}
        rows.append({**row, "match": role if match.in_range else f"{role}, out of range"})
    return pd.DataFrame(rows)


def sentences(match: matching.Match, method: Method, metric: str, target: float, grid: bool = False) -> list[str]:
    """What the table does not say; ``grid`` says that the settings tried are some of a continuous parameter."""
    what, lines = f"{target:g} {UNITS[metric]}", []
    if not match.in_range:
        value = match.tried[match.best]
        end = "the lowest" if target < value else "the highest"
        lines.append(
            f"{what} is out of range: {end} that {method.name} reaches here, of the settings measured, is "
            f"{value:.4g} {UNITS[metric]}, at {method.curve}={match.best}."
        )
    elif not match.within:
        sides = f"{method.curve}={match.below} and {method.curve}={match.above}"
        lines.append(
            f"{what} lies between {sides}, and {'none was tried' if grid else 'there is no setting'} between them."
        )
    if not match.monotone:
        lines.append(f"{metric} does not move one way along {method.curve}: another setting may be as near.")
    return [*lines, f"{len(match.tried)} settings of {method.curve} were measured."]
