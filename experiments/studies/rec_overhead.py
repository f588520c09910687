"""Coders of relative entropy coding against each other: what their codes cost above the KL, and what they take.

A *case* is a target and a prior that every coder codes ``samples`` times, all into one payload, which is decoded again
and compared. The effective overhead is (code length - log2 q(z)/p(z)) / KL: what a sample costs above the information
it gives, whether the coder is exact or not.

A result is one file, ``<results>/rec_overhead/<case>/<coder>-<hash of the settings>.json``; running a command again
measures only what is not there.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import paper
from benchmarks.measure.provenance import provenance
from benchmarks.store import records
from benchmarks.store.names import slug
from benchmarks.tables.files import for_screen, to_files
from core import places
from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from experiments.studies.rec_overhead_figures import figures, table
from experiments.wiring import sequence
from rec.blocks import decode_blocks, encode_blocks
from rec.coders.contract import CODERS, BlockCoder, Coded, TracedCoder, coder_options, make_coder
from rec.gaussian import Gaussian, kl, log_ratio, max_log_ratio
from rec.randomness import Key

LN2 = math.log(2)
LINE_KL = (1, 2, 4, 6, 8, 10, 12)  # bits
LINE_EXCESS = (1.0, 3.0)  # D_inf - KL, bits
BLOCKS = {8: (4, 6, 8, 10), 32: (4, 8, 11, 14), 1024: (36, 72, 144, 289, 577)}  # dimensions: KL in bits
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # other settings of coders, beside everyone's defaults
    "beam_search, power law": ("beam_search", {"schedule": "power_law"}),
    "beam_search, power law, eps 0.2": ("beam_search", {"schedule": "power_law", "extra_samples": 1.2}),
    "beam_search, 200 beams": ("beam_search", {"n_beams": 200}),
    "pfr, truncated": ("pfr", {"truncated": True}),
}
SLOW = {"beam_search, 200 beams": 2, "irec_rejection": 20}  # these code so many times fewer samples
UP_TO = {"irec_rejection": 100.0}  # bits of KL beyond which a coder is left out: it takes minutes for a block
NAMED = {"smoke": {"samples": 20, "block_samples": 4}, "paper": {"samples": 5000, "block_samples": 400}}

Floats = NDArray[np.float64]


def overhead_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    coders = None  # a list: beam_search,pfr (default: all, with the variants)
    samples = 500  # of each target of one dimension
    block_samples = 120  # of each block
    seed = 42
    results = places.default_results()


@dataclass(frozen=True)
class Case:
    """A target under a standard normal prior, (D,)."""

    name: str
    track: str  # "line" or "block"
    target: Gaussian

    @property
    def prior(self) -> Gaussian:
        """The coding distribution."""
        return Gaussian(np.zeros(self.target.shape), np.ones(self.target.shape))

    @property
    def kl_bits(self) -> float:
        """KL(target || prior)."""
        return float(kl(self.target, self.prior).sum()) / LN2

    @property
    def top_bits(self) -> float:
        """D_inf(target || prior)."""
        return float(max_log_ratio(self.target, self.prior)) / LN2


def line_case(kl_bits: float, excess_bits: float) -> Case:
    """The one-dimensional Gaussian with this KL and D_inf = KL + excess (from 0.73 bits on), by bisection."""
    nats, wanted = kl_bits * LN2, excess_bits * LN2

    def square(s: float) -> float:
        return 2 * (nats + math.log(s)) + (1 - s) * (1 + s)

    def excess(s: float) -> float:
        return square(s) / (2 * (1 - s) * (1 + s)) - math.log(s) - nats

    low, high = math.exp(-nats - 0.5), 1 - 1e-9
    while square(low) < 0:
        low += (high - low) / 1024
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < wanted else (low, middle)
    target = Gaussian(np.array([math.sqrt(max(square(low), 0.0))]), np.array([low]))
    return Case(f"line_kl{kl_bits:g}_excess{excess_bits:g}", "line", target)


def block_case(dims: int, kl_bits: float) -> Case:
    """A block whose dimensions share one scale, exp(-KL / D), and whose means are normal quantiles: no randomness."""
    nats = kl_bits * LN2
    scale = math.exp(-nats / dims)
    spread = np.array([statistics.NormalDist().inv_cdf((d + 0.5) / dims) for d in range(dims)])
    squares = 2 * nats - dims * (2 * nats / dims - (1 - scale) * (1 + scale))
    loc = spread * math.sqrt(squares / float(spread @ spread))
    return Case(f"block{dims}_kl{kl_bits:g}", "block", Gaussian(loc, np.full(dims, scale)))


def cases() -> list[Case]:
    """Both tracks."""
    line = [line_case(bits, excess) for excess in LINE_EXCESS for bits in LINE_KL]
    return line + [block_case(dims, bits) for dims, grid in BLOCKS.items() for bits in grid]


@dataclass(frozen=True)
class Job:
    """One coder on one case."""

    label: str
    case: Case
    samples: int
    seed: int

    @property
    def coder(self) -> BlockCoder:
        """The coder, told the KL where it has an option for it."""
        name, options = VARIANTS.get(self.label, (self.label, {}))
        knows = "kl_bits" in coder_options(name)
        return make_coder(name, **options, **({"kl_bits": round(self.case.kl_bits, 6)} if knows else {}))

    def path(self, results: Path) -> Path:
        """Where its result lives."""
        identity = f"{self.coder!r} {self.samples} {self.seed} {self.case.target.loc.tobytes().hex()}"
        mark = hashlib.sha256(identity.encode()).hexdigest()[:8]
        return results / "rec_overhead" / self.case.name / f"{slug(self.label)}-{mark}.json"


def jobs(config: Mapping[str, Any]) -> Iterator[Job]:
    """What a configuration asks for."""
    for option in ("samples", "block_samples"):
        if config[option] < 1:
            raise TesseraError(f"{option}={config[option]} must be at least 1.")
    make_coder("beam_search")  # registers all the others
    labels = sequence(config["coders"]) or [*sorted(CODERS), *VARIANTS]
    for label in labels:
        if label not in VARIANTS:
            CODERS[label]  # an unknown one is answered with the nearest
    for case in cases():
        for label in labels:
            if case.kl_bits > UP_TO.get(label, math.inf):
                continue
            wanted = config["samples"] if case.track == "line" else config["block_samples"]
            yield Job(label, case, max(1, wanted // SLOW.get(label, 1)), config["seed"])


def measure(job: Job) -> dict[str, Any]:
    """Code, write, read, decode and compare; what a coder refuses is said in ``refused``."""
    case, coder = job.case, job.coder
    keys = [Key(job.seed, 0, i) for i in range(job.samples)]
    facts: dict[str, Any] = {"case": case.name, "track": case.track, "coder": job.label, "settings": repr(coder)}
    facts |= {
        "dims": case.target.shape[0],
        "kl_bits": case.kl_bits,
        "d_inf_bits": case.top_bits,
        "samples": job.samples,
    }
    try:
        coder.encode(case.target, case.prior, Key(job.seed, 1))  # what is made once is not counted
        started = time.process_time()
        coded, steps = _encode(coder, case, keys)
        encoded = time.process_time()
    except TesseraError as error:
        return {**facts, "refused": str(error)}
    encoder = Encoder()
    symbols = [c.symbols for c in coded]
    coder.write(symbols, encoder)
    payload = encoder.finish()
    if (found := coder.read(len(keys), Decoder(payload))) != symbols:
        raise TesseraError(f"{job.label} does not read what it wrote for {case.name}: this is a defect.")
    before = time.process_time()
    decoded = decode_blocks(coder, found, _rows(case.prior, len(keys)), keys)
    spent = time.process_time() - before
    samples = np.stack([c.sample for c in coded])
    if not np.array_equal(decoded, samples):
        raise TesseraError(f"{job.label} does not decode what it coded for {case.name}: this is a defect.")
    ratios = log_ratio(samples, case.target, case.prior) / LN2
    bits = 8 * len(payload) / job.samples
    nats = job.samples * case.kl_bits * LN2
    deviation = float(ratios.std(ddof=1) / math.sqrt(job.samples)) if job.samples > 1 else math.nan
    return facts | {
        "file_bits": bits,
        "ideal_bits": float(np.mean([c.ideal_nats for c in coded])) / LN2,
        "log_ratio_bits": float(ratios.mean()),
        "overhead_bits": bits - float(ratios.mean()),
        "overhead_percent": 100 * (bits - float(ratios.mean())) / case.kl_bits,
        "error_percent": 100 * deviation / case.kl_bits,
        "candidates": steps,
        "ks": _distance(samples, case.target) if case.track == "line" else None,
        "encode_ms_per_nat": 1e3 * (encoded - started) / nats,
        "decode_ms_per_nat": 1e3 * spent / nats,
    }


def _encode(coder: BlockCoder, case: Case, keys: list[Key]) -> tuple[list[Coded], float | None]:
    """The coded samples, and the mean number of candidates where the coder counts them."""
    if isinstance(coder, TracedCoder):
        pairs = [coder.trace(case.target, case.prior, key) for key in keys]
        return [c for c, _ in pairs], float(np.mean([steps for _, steps in pairs]))
    return encode_blocks(coder, _rows(case.target, len(keys)), _rows(case.prior, len(keys)), keys), None


def _rows(gaussian: Gaussian, count: int) -> Gaussian:
    return Gaussian(np.tile(gaussian.loc, (count, 1)), np.tile(gaussian.scale, (count, 1)))


def _distance(samples: Floats, target: Gaussian) -> float:
    """The Kolmogorov-Smirnov distance of samples (N, 1) to the target."""
    x = np.sort((samples[:, 0] - target.loc[0]) / target.scale[0])
    law = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()])
    places = np.arange(len(x) + 1) / len(x)
    return float(max((places[1:] - law).max(), (law - places[:-1]).max()))


def result(job: Job, results: Path, sacred_run: str = "") -> dict[str, Any]:
    """The stored result of a job, measured first when it is missing."""
    path = job.path(results)
    if (known := records.read(places.find(path, results))) is not None:
        return known
    record = measure(job) | {"provenance": provenance(sacred_run=sacred_run)}
    records.write(path, record)
    return record


def overhead(config: Mapping[str, Any], run: Any) -> int:
    """Measure what is missing, make tables and figures; returns the exit code 0."""
    results, made = Path(config["results"]), []
    for job in jobs(config):
        new = not places.find(job.path(results), results).is_file()
        record = result(job, results, str(run._id or ""))
        made.append(record)
        if new and "refused" not in record:
            cost = f"{record['file_bits']:.2f} bits, overhead {record['overhead_percent']:.1f} %"
            print(f"{job.case.name} {job.label}: {cost}, {record['encode_ms_per_nat']:.3g} ms/nat", flush=True)
    for track, caption in (("line", "one dimension"), ("block", "blocks")):
        chosen = [r for r in made if r["track"] == track]
        title = f"Coders of relative entropy coding, {caption}: bits of decoded payloads, CPU time of one thread"
        frame = table(chosen)
        print(for_screen(frame, title))
        print(*to_files(frame, results / "tables" / f"rec_overhead_{track}", title), sep="\n")
    for figure in figures(made):
        print(*paper.render(figure, results / "figures"), sep="\n")
    return 0
