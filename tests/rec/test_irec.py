"""iREC: golden vectors, closed forms and Monte Carlo rows, schedules, and what the better schedule gains."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest
from scipy.stats import chisquare

from rec.coders.contract import make_coder
from rec.coders.irec.auxiliary import condition, kl_until, marginal
from rec.coders.irec.coders import BeamSearch
from rec.coders.irec.schedule import CODES, HALVES, POWER_LAW, choose, losses, make_schedule
from rec.coders.irec.search import Batch, replay, search
from rec.gaussian import Gaussian, kl, log_ratio
from rec.randomness import Key
from tests.support.golden_irec import family, sparse, standard
from tests.support.shared import shared


@cache
def golden() -> dict:
    return json.loads(shared("golden/irec_cases.json").read_text())


def runs(target: Gaussian, code: int, steps: int, samples: int, beams: int, count: int) -> np.ndarray:
    """Samples (count, D) of independent searches of one block with a schedule."""
    dims = target.shape[0]
    shares = [make_schedule(code, steps, dims, 3.0)] * count
    rows = (np.tile(target.loc, (count, 1)), np.tile(target.scale**2, (count, 1)))
    batch = Batch(*rows, shares, 7, 0, np.arange(count))
    return replay(search(batch, samples, beams), shares, dims, 7, 0, batch.blocks)


# Golden vectors and closed forms


def test_auxiliary_gaussians() -> None:
    for case in golden()["deterministic_vectors"]["aux_gaussian"]:
        given = case["inp"]
        q = Gaussian(np.array([given["q_mean"]]), np.array([given["q_std"]]))
        p = Gaussian(np.array([given["p_mean"]]), np.array([given["p_std"]]))
        found = (*marginal(q, p, given["aux_var"]), *condition(q, p, given["aux_var"], given["aux_sample"]))
        for name, gaussian in zip(("aux_target", "aux_coder", "cond_target", "cond_coder"), found, strict=True):
            assert [gaussian.loc[0], gaussian.scale[0]] == pytest.approx(case[name], abs=1e-12)


def test_the_bridge_is_what_conditioning_makes() -> None:
    """Marginals of b_k by repeated conditioning have the KL that ``kl_until`` says, on average over a."""
    target, shares = family(6, 9.0), (0.2, 0.5, 0.3)
    spent = np.cumsum(shares)
    total = kl_until(target.loc, target.scale**2, spent)
    rng = np.random.default_rng(1)
    first, law = marginal(target, standard(6), 0.2)
    assert kl(first, law).sum() == pytest.approx(total[0], rel=1e-9)
    later = []
    for _ in range(4000):
        q, p = condition(target, standard(6), 0.2, rng.normal(first.loc, first.scale))
        later.append(kl(*marginal(q, p, 0.5)).sum())
    assert np.mean(later) == pytest.approx(total[1] - total[0], abs=4 * np.std(later) / 4000**0.5)
    assert total[2] == pytest.approx(kl(target, standard(6)).sum(), rel=1e-9)


def test_power_law() -> None:
    for case in golden()["schedule"]["cumulative"]:
        assert make_schedule(POWER_LAW, case["K"], 100, 3.0).spent == pytest.approx(case["c"], abs=1e-12)


def test_expected_kl_of_the_steps() -> None:
    for case in golden()["schedule"]["expected_step_kl"]:
        target = family(case["D"], case["KL"])
        code = {"power": POWER_LAW, "matched": 1}[case["schedule"]]
        spent = make_schedule(code, case["K"], case["D"], 3.0).spent
        found = np.diff(kl_until(target.loc, target.scale**2, spent), prepend=0.0)
        assert found == pytest.approx(case["step_kl"], abs=1e-8)


def test_numbers_of_candidates() -> None:
    for case in golden()["deterministic_vectors"]["n_samples"]:
        made = BeamSearch(kl_per_partition=case["Omega"], extra_samples=case["extra"])
        assert made.samples == case["n"]


def test_monte_carlo_rows() -> None:
    """The rows of small blocks; the signed candidates that paths share make no difference to independent ones."""
    scores = []
    for row in (row for row in golden()["monte_carlo"] if row["D"] * row["K"] < 4500):
        target, count = family(row["D"], row["KL"]), 40
        code = {"power": POWER_LAW, "matched": 1}[row["schedule"]]
        z = runs(target, code, row["K"], row["n"], max(row["B"], 1), count)
        squares = np.square((z - target.loc) / target.scale).mean(1)
        for found, name in ((log_ratio(z, target, standard(row["D"])), "log_ratio"), (squares, "z2")):
            mean, error = row[f"{name}_mean_se"]
            scores.append((found.mean() - mean) / math.hypot(error, found.std() / count**0.5))
    assert len(scores) == 60 and np.abs(scores).max() < 3.5 and abs(np.mean(scores)) < 0.5


def test_one_step_in_one_dimension() -> None:
    """Index and sample of one step against the closed forms: argmax, and drawing in proportion to the weights."""
    case = next(c for c in golden()["one_dimensional"]["analytic"] if c["n"] == 21 and c["KL"] == 3.0)
    target, count = Gaussian(np.array([[case["mu"]]]), np.array([[case["sigma"]]])), 20 * 21 * 4
    keys = [Key(3, 1, block) for block in range(count)]
    rows_ = Gaussian(np.tile(target.loc, (count, 1)), np.tile(target.scale, (count, 1)))
    for options, name in (({}, "argmax"), ({"alpha": 1.0}, "mrc")):
        # one step whatever the KL, of 21 candidates
        made = make_coder("irec_importance", kl_per_partition=3.0001, coding_bits=math.log2(20.5), **options)
        coded = made.encode_many(rows_, Gaussian(np.zeros((count, 1)), np.ones((count, 1))), keys)
        z = np.array([c.sample[0] for c in coded])
        assert z.mean() == pytest.approx(case[f"{name}_mean"], abs=4 * z.std() / count**0.5 + 0.002)
        ratios = log_ratio(z[:, None], Gaussian(target.loc[0], target.scale[0]), standard(1))
        assert ratios.max() <= case["log_rmax"] + 1e-9
        assert ratios.mean() == pytest.approx(case[f"{name}_Elogr"], abs=4 * ratios.std() / count**0.5 + 0.01)
        assert chisquare(np.bincount([c.symbols[1] for c in coded], minlength=21)).pvalue > 1e-4


# Schedules


@pytest.mark.parametrize("code", [POWER_LAW, 1, 1 + HALVES * 4 + 3, CODES - 1])
@pytest.mark.parametrize("steps", [1, 2, 7, 300])
def test_schedules_share_out_the_variance(code: int, steps: int) -> None:
    made = make_schedule(code, steps, 1000, 3.0)
    assert (made.step >= 0).all() and math.fsum(made.step.tolist()) == pytest.approx(1, abs=1e-12)
    assert np.cumsum(made.step) == pytest.approx(made.spent, abs=1e-12) and made.left[-1] == 0
    assert made.spent + made.left == pytest.approx(np.ones(steps), abs=1e-12)


def test_pinned_schedules() -> None:
    """Streams depend on every bit of them."""
    assert [x.hex() for x in make_schedule(POWER_LAW, 3, 10, 3.0).step] == [
        "0x1.af948207ed486p-2", "0x1.5776a1e563fe9p-2", "0x1.f1e9b8255d723p-3",
    ]  # fmt: skip
    assert [x.hex() for x in make_schedule(1 + HALVES * 2 + 3, 3, 100, 3.0).step] == [
        "0x1.9c50d5324e962p-2", "0x1.565e36b0eca39p-2", "0x1.0d50f41cc4c66p-2",
    ]  # fmt: skip


def test_equal_dimensions_get_equal_steps() -> None:
    target = family(1024, 200.0)
    table = losses(target.loc, target.scale**2, 67, 3.0, 1.5)
    spent = make_schedule(int(choose([table])[0]), 67, 1024, 3.0).spent
    assert np.diff(kl_until(target.loc, target.scale**2, spent), prepend=0.0).max() < 1.1 * 200 / 67


def test_blocks_agree_on_few_schedules() -> None:
    table = np.full((5, CODES), 100.0)
    table[:, 3] = 1.2
    table[[0, 1, 2, 3], [10, 11, 12, 13]] = 1.0
    table[4, 3], table[4, 20] = 50.0, 0.0
    assert choose(list(table)).tolist() == [3, 3, 3, 3, 20]


SPARSE = [(1000, 0.3, 150.0, 1.0), (1000, 0.1, 60.0, 1.0), (1000, 0.1, 150.0, 0.7)]


@pytest.mark.parametrize(("dims", "share", "nats", "spread"), SPARSE)
def test_never_worse_than_the_power_law(dims: int, share: float, nats: float, spread: float) -> None:
    target, steps = sparse(dims, share, nats, spread), round(nats / 3)
    assert kl(target, standard(dims)).sum() == pytest.approx(nats)
    code = int(choose([losses(target.loc, target.scale**2, steps, 3.0, math.log(20) / 2)])[0])
    power, chosen = (log_ratio(runs(target, c, steps, 20, 20, 12), target, standard(dims)) for c in (POWER_LAW, code))
    assert chosen.mean() > power.mean() - 3 * math.hypot(chosen.std(), power.std()) / 12**0.5


def test_overhead_of_the_better_schedule() -> None:
    """The issue's target: at most 17 % where the published scheme has 28 %."""
    target = family(1024, 200.0)
    for options, low, high in (({}, 0.10, 0.17), ({"schedule": "power_law"}, 0.26, 0.31)):
        made, tiled = BeamSearch(**options), Gaussian(np.tile(target.loc, (8, 1)), np.tile(target.scale, (8, 1)))
        coded = made.encode_many(
            tiled, Gaussian(np.zeros((8, 1024)), np.ones((8, 1024))), [Key(9, 0, i) for i in range(8)]
        )
        overheads = [(c.ideal_nats - log_ratio(c.sample, target, standard(1024))) / 200 for c in coded]
        assert low < np.mean(overheads) < high
