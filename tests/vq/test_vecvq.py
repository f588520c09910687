"""VECVQ and its relatives: gradients and starts as specified, goldens of ECVQ, real bits."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from tests.support.shared import shared
from vq.toy import bounds, ecvq, ntc, vecvq
from vq.toy.codes import Codebook, CodeError, coded_bits, evaluate, nearest
from vq.toy.methods import make_toy
from vq.toy.sources import make_source

torch.set_num_threads(1)


def random_code(k: int = 20, dim: int = 2, lmb: float = 3.0) -> Codebook:
    rng = np.random.default_rng(k)
    p = rng.dirichlet(np.ones(k))
    return Codebook(torch.from_numpy(rng.normal(size=(k, dim))).float(), torch.from_numpy(p), lmb)


# The search and the bits


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_nearest_is_the_plain_argmin(dim):
    code, x = random_code(30, dim), torch.randn(9000, dim, generator=torch.Generator().manual_seed(0))
    scores = code.costs + code.lmb * (x.double()[:, None] - code.points.double()).square().sum(2)
    index, value = nearest(x, code.points, code.costs.float(), code.lmb)
    assert torch.allclose(value.double(), scores.min(1).values, atol=1e-4)
    assert torch.allclose(scores.gather(1, index[:, None])[:, 0], scores.min(1).values, atol=1e-4)


def test_an_infinite_lambda_is_the_nearest_codeword():
    code, x = random_code(30, 2, math.inf), torch.randn(500, 2)
    assert torch.equal(torch.from_numpy(code.quantize(x)[:, 0]).long(), torch.cdist(x, code.points).argmin(1))


def test_outcome_against_plain_sums_and_real_bits():
    code, source = random_code(), make_source("normal2d")
    found = evaluate(code, source, 20_000)
    x = source.sample(20_000, 82913749)
    codes = code.quantize(x)
    assert found.rate == pytest.approx(float(code.bits(codes).mean()))
    assert found.distortion == pytest.approx(float((x - code.dequantize(codes)).square().sum(1).mean()), rel=1e-5)
    assert found.coded_rate * 20_000 == coded_bits(codes, code.tables)
    assert found.entropy <= found.rate and found.rate == pytest.approx(found.coded_rate, abs=64 / 20_000 + 1e-4)
    assert found.live == len(np.unique(codes))


@pytest.mark.parametrize(
    "bad", [{"points": torch.full((3, 2), math.nan)}, {"lmb": 0.0}, {"probabilities": -torch.ones(3)}]
)
def test_bad_codebooks(bad):
    good = {"points": torch.zeros(3, 2), "probabilities": torch.ones(3).double() / 3, "lmb": 1.0}
    with pytest.raises(CodeError):
        Codebook(**{**good, **bad})


def test_vectors_that_cannot_be_quantised():
    code = random_code()
    with pytest.raises(CodeError, match=r"\(n, 2\), not \(4, 3\)"):
        code.quantize(torch.zeros(4, 3))
    with pytest.raises(CodeError, match="must be finite"):
        code.quantize(torch.tensor([[0.0, math.nan]]))


# VECVQ as specified


def test_gradients_are_those_of_the_hard_minimum():
    model = vecvq.VECVQ(torch.tensor([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]), torch.tensor([0.3, -0.2, 0.1]), 2.0)
    x = torch.tensor([[0.1, 0.0], [0.3, -0.1], [1.9, 0.2]])
    step = model(x)
    step.loss.backward()
    assert step.codes[0].tolist() == [0, 0, 1]
    p = torch.softmax(model._logits.detach(), 0)
    expected = (p - torch.tensor([2 / 3, 1 / 3, 0])) / math.log(2)
    assert torch.allclose(model._logits.grad, expected, atol=1e-6)
    pull = torch.stack([2 * 2.0 * (2 * model.codebook[0] - x[0] - x[1]) / 3, 2 * 2.0 * (model.codebook[1] - x[2]) / 3])
    assert torch.allclose(model.codebook.grad[:2], pull.detach(), atol=1e-5) and not model.codebook.grad[2].any()
    assert set(model.state_dict()) == {"codebook", "_logits"}


def test_mse_halves_lambda_in_two_dimensions():
    points, logits, x = torch.randn(5, 2), torch.randn(5), torch.randn(100, 2)
    mse, sse = vecvq.VECVQ(points, logits, 10, "mse")(x), vecvq.VECVQ(points, logits, 5)(x)
    assert float(mse.loss) == pytest.approx(float(sse.loss)) and float(mse.distortion) == pytest.approx(
        float(sse.distortion) / 2
    )


def test_starts():
    source, rng = make_source("normal2d"), np.random.default_rng
    points, logits = vecvq.initial(vecvq.RECIPES["seed"], source, 5, 300, rng(0))
    assert torch.equal(points, source.sample(300, rng(0))) and 0.8 < float(logits.std()) < 1.2
    _, small = vecvq.initial(vecvq.RECIPES["tfc"], source, 5, 300, rng(0))
    assert 0.08 < float(small.std()) < 0.12
    wide, _ = vecvq.initial(vecvq.recipe_of("tfc", codebook="uniform-40"), make_source("laplace"), 1, 400, rng(0))
    assert wide.abs().max() <= 20 and float(wide.std()) == pytest.approx(40 / math.sqrt(12), rel=0.1)
    noisy, _ = vecvq.initial(vecvq.recipe_of("tfc", codebook="sample-.5"), source, 5, 300, rng(0))
    assert 0.4 < float((noisy - points).std()) < 0.6
    lattice, logits = vecvq.initial(vecvq.RECIPES["ours"], source, 5, 0, rng(0))
    assert torch.pdist(lattice).min() == pytest.approx(1.44, abs=0.01)
    assert len(vecvq.initial(vecvq.RECIPES["ours"], source, 5, 7, rng(0))[0]) == 7


def test_published_schedules():
    assert [vecvq.rate("stairs", t) for t in (0, 0.49, 0.5, 0.74, 0.75, 0.88)] == [1, 1, 0.1, 0.1, 0.01, 0.001]
    seed, tfc = vecvq.RECIPES["seed"], vecvq.RECIPES["tfc"]
    assert (seed.schedule, seed.batch, seed.lr, seed.pool, seed.steps * seed.batch // seed.pool) == (
        "plateau", 250, 1e-3, 1_000_000, 100,
    )  # fmt: skip
    assert (tfc.batch, tfc.lr, tfc.pool) == (1024, 1e-3, 0)


def test_the_plateau_loop_keeps_its_best_epoch():
    recipe = vecvq.recipe_of("seed", pool=4000, steps=64)
    seen: list[int] = []
    model = vecvq.train_vecvq(
        make_source("normal2d"), 10, 0, recipe, 7, "mse", lambda step, steps, code: seen.append(step)
    )
    assert seen == [0, 16, 32, 48, 64] and len(model.codebook) == 7


@pytest.mark.parametrize("seed", [1, 5])
def test_seven_codewords_stay_alive(seed):
    recipe = vecvq.recipe_of("ours", codebook="sample", logits="normal-0.1", steps=700, batch=512)
    source = make_source("normal2d")
    found = evaluate(vecvq.train_vecvq(source, 10, seed, recipe, 7, "mse").code(), source, 50_000)
    assert found.live == 7 and 4.88 < found.loss(5) < 4.99  # 5.06 with six


def test_vecvq_comes_near_ecvq():
    source = make_source("laplace")
    found = evaluate(make_toy("vecvq", {"lmb": 4, "steps": 800, "batch": 512}).train(source, 0), source, 100_000)
    limit = bounds.bound(source, ())
    assert limit is not None and limit.lagrangian(4) + 0.15 < found.loss(4) < 2.5584 + 0.05


# ECVQ, ECSQ, VQ, NTC


def test_ecsq_reaches_the_exact_optimum_of_laplace():
    source = make_source("laplace")
    for row in json.loads(shared("golden/vecvq.json").read_text())["ecsq_laplace_exact"][:4]:
        book = ecvq.train_ecsq(source, row["lmbda"], 0, 2**17).books[0]
        x = source.spread(2**17, 9)
        score = nearest(x, book.points, book.costs.float(), book.lmb)[1]
        assert float(score.double().mean()) == pytest.approx(row["L"], abs=2e-3)


@pytest.mark.parametrize(
    ("name", "lmb", "best"), [("normal2d", 2, 3.3348), ("normal2d", 5, 4.6873), ("banana", 2, 3.8859)]
)
def test_ecvq_is_near_the_best_known(name, lmb, best):
    source = make_source(name)
    code = make_toy("ecvq", {"lmb": lmb, "vectors": 2**16, "restarts": 2}).train(source, 0)
    found = evaluate(code, source, 200_000)
    assert found.loss(lmb) < best + 0.02 and found.loss(lmb) > best - 0.02
    assert found.coded_rate == pytest.approx(found.rate, abs=2e-3)


def test_lloyd_never_rises_and_drops_empty_cells():
    x = make_source("normal2d").spread(2**13)
    start = ecvq.with_frequencies(x, torch.cat([x[:40], torch.full((1, 2), 99.0)]), 4.0)
    assert len(start.points) == 40
    losses = []
    for rounds in (1, 2, 4, 8, 16):
        losses.append(ecvq.lloyd(x, start, rounds, 0)[1])
    assert losses == sorted(losses, reverse=True)


def test_lattice_start_is_hexagonal():
    x = make_source("normal2d").spread(2**12)
    points = ecvq.lattice_start(x, 16, np.random.default_rng(0)).double()
    volume = bounds.lattice_volume(16, 2)
    side = math.sqrt(2 * volume / math.sqrt(3))
    distance = torch.cdist(points, points).fill_diagonal_(99)
    inner = points.norm(dim=1) < 1.5
    assert (((distance - side).abs() < 1e-3).sum(1)[inner] == 6).all()


def test_scalar_cells_are_the_argmin():
    rng = np.random.default_rng(0)
    points, costs = rng.normal(size=25), rng.exponential(3, 25)
    points[3] = points[7]
    kept, edges = ecvq.intervals(points, costs, 2.0)
    x = np.sort(rng.normal(0, 2, 500))
    best = np.argmin(costs + 2.0 * (x[:, None] - points) ** 2, 1)
    assert np.array_equal(kept[np.searchsorted(edges, x)], best)


def test_vq_keeps_every_codeword_and_codes_its_indices():
    source = make_source("banana")
    found = evaluate(make_toy("vq", {"k": 16, "vectors": 2**13}).train(source, 0), source, 50_000)
    assert found.live == 16 and found.rate < 4 and found.coded_rate == pytest.approx(found.rate, abs=5e-3)


def test_soft_rounding():
    y = torch.linspace(-3.2, 3.2, 129, dtype=torch.float64)
    for alpha in (torch.tensor(0.01), torch.tensor(3.0)):
        assert torch.allclose(ntc.soft_round_inverse(ntc.soft_round(y, alpha), alpha), y, atol=1e-4)
    assert torch.allclose(ntc.soft_round(y, torch.tensor(0.01)), y, atol=1e-4)
    halves = torch.arange(-3, 3.5, 0.5)
    assert torch.allclose(ntc.soft_round(halves, torch.tensor(3.0)), halves, atol=1e-5)


def test_factorized_prior_is_a_distribution():
    torch.manual_seed(0)
    prior = ntc.FactorizedPrior(3)
    y = torch.linspace(-400, 400, 801)[:, None].expand(801, 3)
    assert (prior.logits(y).diff(dim=0) > 0).all()
    assert torch.allclose(prior.mass(y - 0.5, y + 0.5).sum(0), torch.ones(3), atol=1e-3)


def test_ntc_learns_and_its_bits_are_real():
    source = make_source("laplace")
    found = evaluate(make_toy("ntc", {"lmb": 4, "steps": 500, "batch": 256}).train(source, 0), source, 20_000)
    assert 2.35 < found.loss(4) < 3.5 and found.coded_rate == pytest.approx(found.rate, rel=0.01)


def test_ecvq_finds_the_cells_of_the_sawbridge():
    """Intervals of width w for Z cost -log2 w bits and leave w/6 of mean squared error: n equal ones are best."""
    points, weight = 64, 64.0  # lambda on the mean over time
    source = make_source("sawbridge", {"points": points})
    code = make_toy("ecvq", {"lmb": weight / points, "vectors": 2**12}).train(source, 0)
    found = evaluate(code, source, 20_000)
    best = min(math.log2(n) + weight / (6 * n) for n in range(1, 64))
    assert found.loss(weight / points) == pytest.approx(best, rel=0.03) and 6 <= found.live <= 9


@pytest.mark.parametrize("name", ["sawbridge", "ramp", "sinusoid", "sphere"])
@pytest.mark.parametrize("method", ["ecvq", "vecvq", "ecsq", "ntc"])
def test_sources_of_many_dimensions_are_coded_and_decoded(name, method):
    source = make_source(name, {"order": 5} if name == "sphere" else {"points": 16})
    few = {"ecvq": {"vectors": 2**11}, "vecvq": {"steps": 60}, "ecsq": {"vectors": 2**11}, "ntc": {"steps": 30}}
    found = evaluate(make_toy(method, {"lmb": 16, **few[method]}).train(source, 0), source, 3000)
    power = float(source.sample(3000, 1).square().sum(1).mean())
    assert found.coded_rate == pytest.approx(found.rate, rel=0.1, abs=0.1) and found.rate > 0.5
    assert found.distortion < power * (1 if method != "ntc" else 2)  # none at all where vectors are few


def test_lambda_of_the_mean_is_shared_among_dimensions():
    source = make_source("normal2d")
    method = make_toy("vecvq", {"lmb": 10, "distortion": "mse"})
    assert method.lmb_sse(source) == 5 and method.points(source) == (2, 4, 10, 32, 128)
    assert method.label == "VECVQ (distortion=mse)" and make_toy("vq").lmb_sse(source) is None
    wide = make_source("ramp", {"points": 8})
    assert make_toy("ecvq").points(wide) == (2, 8, 32, 128) and make_toy("ecvq").label == "ECVQ"
