"""Do the stored numbers come out again? Cells measured once more on this machine, and tables made once more from them.

    python benchmarks/verify.py                                   # a sample: the cheapest cell of every method
    python benchmarks/verify.py with method=jpeg,webp dataset=kodak
    python benchmarks/verify.py with at_most_s=60                 # all cells that took a minute or less
    python benchmarks/verify.py with all=True                     # everything; what cannot run here is named

A cell is run with the settings that it records, the cheapest first, into a scratch folder that is removed, and
compared: sizes of files and counts of codes must be equal, pictures within 0.001 dB, and within one grey level where
pictures were kept. Weights are looked for among the shipped ones, below runs/, and among the official ones that are on
this machine; the network is not asked. Each outcome is written into ``<results>/verify`` as it comes, and the same
command goes on after the last one; outcomes of other code or another machine are measured again, unless again=False.
Then curve and table files are made once more and their bytes compared. The table goes to ``<results>/tables/verify``.
Exit code 1: something came out differently.
"""

# ruff: noqa: F841 (Sacred reads the local variables of a config scope)

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.datasets import parse_name
from benchmarks.measure import reproduced
from benchmarks.measure.harness import describe
from benchmarks.measure.provenance import ROOT, provenance
from benchmarks.measure.reproduced import Comparison
from benchmarks.store import CellResult, Store, records
from benchmarks.tables import redrawn
from benchmarks.tables.files import for_screen, to_files
from core import checkpoint, places
from core.codec import TesseraError
from core.registry import METHODS, discover
from experiments.evaluate import Job, Outcome, evaluate, plan_jobs
from experiments.request import Asked, Evaluation
from experiments.wiring import experiment, guarded, run, sequence

SAMPLE_S = 60.0  # seconds that a cell of the sample took when it was stored
CAPTION = (
    "Stored cells measured again: identical in every number; reproduced: sizes and codes equal, pictures within "
    f"{reproduced.DB:g} dB"
)


def verify_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = None  # only cells of these methods, e.g. jpeg,webp
    dataset = None  # only cells of these data sets
    at_most_s = None  # only cells that took at most so many seconds when they were stored
    all = False  # every cell; without any of these a sample
    again = True  # also what other code or another machine has verified; False: only what has no outcome
    tables = True  # make curve and table files once more
    results = places.default_results()
    data_root = None  # where data sets are; default: TESSERA_DATA, ./data


ex = experiment(__file__, "verify", verify_config)


def chosen(cells: Sequence[CellResult], config: Mapping[str, Any]) -> list[CellResult]:
    """The cells that a config asks for, cheapest first."""
    found = sorted(cells, key=lambda r: (_seconds(r), r.key))
    asked = False
    for name in ("method", "dataset"):
        if (values := sequence(config[name])) is not None:
            known = {getattr(r.cell, name) for r in cells}
            for value in values:
                if value not in known:
                    raise TesseraError(f"there is no stored cell of {name}={value}: known are {', '.join(known)}.")
            found, asked = [r for r in found if getattr(r.cell, name) in values], True
    if config["at_most_s"] is not None:
        if not isinstance(config["at_most_s"], (int, float)):
            raise TesseraError(f"at_most_s={config['at_most_s']} must be a number of seconds.")
        found, asked = [r for r in found if _seconds(r) <= config["at_most_s"]], True
    if asked or config["all"]:
        return found
    first = {r.cell.method: r for r in reversed(found) if _seconds(r) <= SAMPLE_S}
    return [r for r in found if first.get(r.cell.method) is r]


def _seconds(result: CellResult) -> float:
    return float(result.provenance.get("wall_s") or 0.0)


# -- one cell -------------------------------------------------------------------------------------------------------


def request(result: CellResult, scratch: Path, data_root: str | None, pictures: bool) -> Evaluation:
    """The evaluation that a stored cell says it is of; raises TesseraError where it cannot be had here."""
    cell = result.cell
    if cell.method not in METHODS:
        raise TesseraError(f"there is no method {cell.method} here")
    facts, argument, _ = parse_name(cell.dataset)
    params = {name: value for name, value in cell.variant.items() if name != "search"}
    if lost := sorted(set(params) - set(METHODS[cell.method].parameters())):
        raise TesseraError(f"{cell.method} has no parameter {', '.join(lost)} today")
    return Evaluation(
        (Asked(cell.method, params),),
        None if cell.point is None else (cell.point,),
        cell.dataset if argument or cell.split in facts.default else f"{cell.dataset}_{cell.split}",
        limit=cell.limit, rate=cell.rate, device=cell.device, seed=cell.seed, search=cell.variant.get("search", 0),
        weights=weights_of(result), results=str(scratch), data_root=data_root, keep_images=pictures,
    )  # fmt: skip


def weights_of(result: CellResult) -> str:
    """How to ask for the weights of a cell: a kind, or the folder of those with its id below checkpoints or runs."""
    wanted = result.cell.checkpoint
    folders = [path for root in (checkpoint.SHIPPED, ROOT / "runs") for path in sorted(root.glob("**/meta.json"))]
    found = next((path.parent for path in folders if wanted and _id(path) == wanted), None)
    kind = str(result.about.get("legend") or "auto")
    if not wanted or kind in ("ours", "official"):
        return kind if wanted else "auto"
    if found is None:
        raise TesseraError(f"the weights {wanted} are not here")
    return str(found)


@cache
def _id(path: Path) -> str:
    known = records.read(path) or {}
    return str(known.get("id", ""))


def job_of(result: CellResult, asked: Evaluation) -> Job:
    """The one cell that a request asks for; TesseraError says why it is none, or not the stored one."""
    outcome = Outcome()
    images, jobs = plan_jobs(asked, outcome)
    if not jobs:
        raise TesseraError(" ".join([*outcome.failed, *outcome.skipped]) or "it cannot run here")
    job, stored = jobs[0], result.cell
    if images.fingerprint != result.about.get("data_fingerprint"):
        raise TesseraError(f"the pictures of {images.title} here are not those that were measured")
    if job.cell.checkpoint != stored.checkpoint:
        raise TesseraError(f"the weights here are {job.cell.checkpoint}, not {stored.checkpoint}")
    if job.cell.variant != stored.variant:
        names = sorted(k for k, v in job.cell.variant.items() if stored.variant.get(k) != v)
        raise TesseraError(f"{stored.method} has other parameters today ({', '.join(names)})")
    note, was = describe(job.method, images)["method_note"], result.about.get("method_note")
    if job.weights is None and note != was:
        raise TesseraError(f"the codec here is another: {note}; the cell is of {was}")
    return job


def verified(result: CellResult, store: Store, data_root: str | None) -> Comparison:
    """Measure a cell again and compare."""
    with tempfile.TemporaryDirectory(prefix="tessera-verify-") as folder, checkpoint.offline():
        pictures = any(store.picture(result.key, str(name)).is_file() for name in result.images["image"])
        try:
            asked = request(result, Path(folder), data_root, pictures)
            job_of(result, asked)
        except TesseraError as error:
            return Comparison("cannot run", (str(error).rstrip("."),))
        _threads(result)
        with redirect_stdout(io.StringIO()):  # its lines are of measuring something new
            outcome = evaluate(asked)
        if not outcome.cells:
            return Comparison("failed", tuple(outcome.failed))
        again = outcome.cells[0]
        return reproduced.compare(result, again, reproduced.picture_levels(result, store, again, Store(folder)))


def _threads(result: CellResult) -> None:
    """As many threads as the cell was measured with, where its codec computes with torch."""
    count = result.provenance.get("threads")
    if result.cell.checkpoint and isinstance(count, int) and count > 0:
        import torch

        torch.set_num_threads(count)


# -- records --------------------------------------------------------------------------------------------------------


def record_path(result: CellResult, results: Path) -> Path:
    """Where the outcome of a cell is written: named by what is compared, so that a key of another version changes
    nothing."""
    return results / "verify" / f"{result.cell.method}_{result.digest}.json"


@cache
def code() -> str:
    """What names the code that measures: a digest of every module of the packages beside this one."""
    hasher = hashlib.sha256()
    for package in sorted(path.parent for path in ROOT.glob("*/__init__.py")):
        for path in sorted(package.rglob("*.py")) if package.name != "tests" else ():
            hasher.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:16]


def known(path: Path, again: bool) -> dict[str, Any] | None:
    """The outcome of an earlier run that still stands."""
    record = records.read(path, ("code", "outcome", "said", "largest", "provenance"))
    here, then = provenance(), (record or {}).get("provenance", {})
    same = record is not None and record["code"] == code() and all(then.get(k) == here[k] for k in ("cpu", "versions"))
    return record if same or not again else None


def outcomes(cells: Sequence[CellResult], results: Path) -> Iterator[dict[str, Any]]:
    """All stored outcomes of these cells."""
    for result in cells:
        if (
            record := records.read(places.find(record_path(result, results), results), ("outcome", "said", "largest"))
        ) is not None:
            yield record


def attempt(result: CellResult, config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Verify one cell, write the outcome, and say it in a line."""
    results, started = Path(config["results"]), time.perf_counter()
    made = provenance(result.cell.device)
    found = verified(result, Store(results), config["data_root"])
    record = {
        "curve": f"{result.label} [{result.about['legend']}]" if result.about.get("legend") else result.label,
        "data set": result.about.get("title", result.cell.dataset),
        "rate": result.cell.rate, "point": result.cell.point, "cell": result.key,
        "outcome": found.outcome, "said": list(found.said), "largest": dict(found.largest),
        "stored versions": result.provenance.get("versions", {}), "code": code(),
        "provenance": {**made, "wall_s": round(time.perf_counter() - started, 3)},
    }  # fmt: skip
    records.write(record_path(result, results), record)
    point = "" if result.cell.point is None else f" at {result.cell.point}"
    said = f": {'; '.join(found.said)}" if found.said else ""
    print(f"{place} {record['curve']}{point} on {record['data set']}: {found.outcome}{said}", flush=True)
    return record


@ex.main
@guarded
def verify(config: dict[str, Any], sacred_run: Any) -> int:
    """Measure again, compare, write the table; then make curve and table files again."""
    discover()
    results = Path(config["results"])
    cells = Store(results).cells()
    asked = chosen(cells, config)
    if not asked:
        raise TesseraError(f"there are no such cells in {results}: measure some first.")
    mine = []
    for number, result in enumerate(asked, start=1):
        record = known(places.find(record_path(result, results), results), config["again"])
        mine.append(record or attempt(result, config, f"[{number}/{len(asked)}]"))
    every = list(outcomes(cells, results))
    frame = reproduced.table(every)
    print(for_screen(frame, CAPTION))
    print(*to_files(frame, results / "tables" / "verify", CAPTION), sep="\n")
    print(f"asked for: {reproduced.summary(mine)}")
    print(f"in the table: {reproduced.summary(every)}; {len(cells) - len(every)} cells have no outcome")
    wrong = sum(record["outcome"] in ("differs", "failed") for record in mine)
    return 1 if wrong + (sum(_redrawn(root, results) for root in _drawn(results)) if config["tables"] else 0) else 0


def _drawn(results: Path) -> list[Path]:
    """The folders with files of curves and tables: the shipped ones follow from the shipped cells alone."""
    every = places.roots(results)
    return [root for root in every if reproduced.table_files(root)] or [*every[:1]]


def _redrawn(drawn: Path, results: Path) -> int:
    """How many files of curves and tables in ``drawn`` came out differently; the record in ``results`` names all."""
    made = provenance()
    with tempfile.TemporaryDirectory(prefix="tessera-verify-") as folder:
        found = redrawn.redraw(drawn, Path(folder))
    facts = {name: list(getattr(found, name)) for name in ("identical", "differs", "unmade", "others")}
    name = "tables.json" if drawn == results else "tables_shipped.json"
    records.write(results / "verify" / name, {**facts, "code": code(), "provenance": made})
    print(f"{drawn}: curves and tables made again: {len(found.identical)} files identical, {len(found.differs)} differ")
    print(*(f"differs: {name}" for name in found.differs), sep="\n")
    if found.unmade:
        print(f"{len(found.unmade)} files are not there yet: python benchmarks/report.py makes them")
    print(f"{len(found.others)} files are not made from cells alone: the commands that write them have records")
    return len(found.differs)


if __name__ == "__main__":
    run(ex)
