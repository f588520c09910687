"""Annealed choice among candidates, the law of ECVQ on a toy source, and the searches of the families."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from core import annealing
from core.annealing import Places, anneal, opening
from core.codec import MOST_SEARCH, HasSearch, TesseraError
from core.registry import discover, make_method
from vq.search import nearest
from vq.toy.methods import make_toy
from vq.toy.sources import make_source

discover()


def test_it_finds_what_trying_all_finds():
    """Four places of three candidates whose sum is compared with a target: the best of all 81 choices, or nearly."""
    draw = torch.Generator().manual_seed(1)
    values, bits = torch.randn(4, 3, generator=draw), torch.rand(4, 3, generator=draw)

    def loss(shares):
        (s,) = shares
        return (s * bits).sum() + 4 * ((s * values).sum() - 1.5) ** 2

    def cost(picked):
        return float(loss([torch.nn.functional.one_hot(torch.tensor(picked), 3).float()]))

    every = sorted(map(cost, itertools.product(range(3), repeat=4)))
    start = opening(torch.rand(4, 3, generator=draw), torch.zeros(4, dtype=torch.int64))
    assert start.argmax(-1).tolist() == [0] * 4
    (picked,) = anneal([start], loss, 100)
    assert cost(picked.tolist()) <= every[2]
    assert torch.equal(anneal([start], loss, 100)[0], picked), "the same in every call"


def test_never_worse_and_no_step_from_what_is_not_finite():
    start = [torch.zeros(5, 4)]
    start[0][:, 2] = 1.0
    assert anneal(start, lambda shares: shares[0].sum() * math.nan, 10)[0].tolist() == [2] * 5
    assert anneal(start, lambda shares: (shares[0][:, 2] - 1).square().sum(), 10)[0].tolist() == [2] * 5


def test_few_candidates_are_the_likeliest():
    distances, chosen = torch.tensor([[3.0, 1.0, 0.5, 2.0]]), torch.tensor([1])
    places = Places(distances, chosen, 2)
    assert places.index is not None and set(places.index[0].tolist()) == {1, 2}
    assert int(places.code(places.start.argmax(-1))) == 1, "the plain encoder's code leads, whatever is nearer"
    assert places.among(torch.arange(4.0)).tolist() == [[1.0, 2.0]]
    table = torch.eye(4)
    torch.testing.assert_close(places.mean(torch.tensor([[1.0, 0.0]]), table), table[[1]])


@pytest.mark.parametrize("source", ["banana", "laplace"])
def test_the_law_of_ecvq(source):
    """Codes by distance + lambda x length take VQ's codebook most of the way to what ECVQ trains for this lambda."""
    drawn, lmb = make_source(source), 2.0
    x = drawn.spread(2**14, 7)
    trained = make_toy("ecvq", {"lmb": lmb, "vectors": 2**14}).train(drawn, 0)
    points = make_toy("vq", {"k": 64, "vectors": 2**14}).train(drawn, 0).points

    def lagrangian(codes, words):
        share = torch.bincount(codes, minlength=len(words)).double() / len(codes)
        bits = float(-torch.xlogy(share, share).sum() / math.log(2))
        return bits + lmb * float((x - words[codes]).square().sum(1).mean())

    plain = codes = nearest(x, points)
    for _ in range(30):  # lengths follow the codes' shares
        share = (torch.bincount(codes, minlength=len(points)).float() + 1e-3) / len(codes)
        codes = nearest(x, points, -share.log2() / lmb)
    best = lagrangian(torch.from_numpy(trained.quantize(x)[:, 0]).long(), trained.points)
    gap, left = lagrangian(plain, points) - best, lagrangian(codes, points) - best
    assert gap > 0.2 and left < 0.25 * gap


# Codecs of fresh weights: laws that hold for any


def fresh(name, **params):
    torch.manual_seed(0)
    method = make_method(name, params)
    model = method.model().eval()
    if hasattr(model, "counts"):
        for i, counts in enumerate(model.counts):
            counts += torch.randint(1, 50, counts.shape, generator=torch.Generator().manual_seed(i))
    return method.codec(model)


def picture(height, width, channels):
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)


CODECS = {
    "vqvae": {"prior": True},
    "fsq": {},
    "lfq": {},
    "pq": {},
    "rvq": {"stages": 2},
    "simvq": {},
    "mcquic_small": {"m": 2, "k": (16, 8)},
    "mcquic_small_vr": {"m": 2, "k": (8, 8, 8), "books": 3},
    "irec2_small": {"level_1_filters": 4, "level_2_filters": 4, "n_beams": 5},
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", [(20, 33, 3), (9, 8, 1)])
def test_streams_are_ordinary_and_never_worse(name, shape):
    codec, image = fresh(name, **CODECS[name]), picture(*shape)
    assert isinstance(codec, HasSearch) and make_method(name, {}).searches
    plain, searching = codec.compress(image), codec.searching(3)
    stream = searching.compress(image)
    assert searching.compress(image) == stream, "the same in every call"
    assert codec.compress(image) == plain, "the plain codec is as it was"
    before, after = codec.decompress(plain), codec.decompress(stream)
    assert after.shape == image.shape
    if hasattr(searching, "_cost"):
        assert searching._cost(image, stream) <= searching._cost(image, plain)
    else:
        errors = [((d.astype(float) - image) ** 2).mean() for d in (before, after)]
        assert len(stream) / len(plain) + errors[1] / errors[0] <= 2 + 1e-9


def test_lossless_stays_lossless_and_is_never_longer():
    codec = fresh("rvae_small", num_res_blocks=2, deterministic_filters=4, stochastic_filters=2, n_beams=5)
    image = picture(8, 7, 3)
    stream = codec.searching(4).compress(image)
    np.testing.assert_array_equal(codec.decompress(stream), image)
    assert len(stream) <= len(codec.compress(image))


def test_a_search_that_fails_gives_the_plain_stream(monkeypatch):
    monkeypatch.setattr(annealing, "RATE", math.inf)
    for name in ("fsq", "mcquic_small"):
        codec, image = fresh(name, **CODECS[name]), picture(20, 20, 3)
        found, plain = codec.searching(4).compress(image), codec.compress(image)
        assert len(found) <= len(plain) or found != plain
    from rec import refine

    monkeypatch.setattr(refine, "RATE", math.inf)
    codec, image = fresh("irec2_small", **CODECS["irec2_small"]), picture(20, 20, 3)
    assert codec.searching(4).compress(image) == codec.compress(image)


def test_the_callers_weights_take_no_gradient():
    codec = fresh("vqvae")
    codec.searching(2).compress(picture(8, 8, 1))
    assert all(p.grad is None for p in codec.model.parameters())


@pytest.mark.parametrize("effort", [-1, 0, MOST_SEARCH + 1, 2.5, True])
@pytest.mark.parametrize("name", ["fsq", "mcquic_small", "irec2_small"])
def test_absurd_counts(name, effort):
    with pytest.raises(TesseraError, match="must be a whole number from 1"):
        fresh(name, **CODECS[name]).searching(effort)


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf])
def test_absurd_weights(weight):
    with pytest.raises(TesseraError, match="must be positive and finite"):
        fresh("fsq").searching(2, weight)


def test_what_has_no_search():
    for name, params in (("rvae_small", {"coder": "bits_back"}), ("mcquic_small", {"container": "mcq"})):
        with pytest.raises(TesseraError, match=r"has no search at the encoder: leave search=3 out"):
            make_method(name, params).check_search(3)
        make_method(name, params).check_search(0)


def test_a_larger_weight_is_a_better_picture():
    codec, image = fresh("fsq", levels="4x4x4"), picture(8, 8, 1)
    small, good = (codec.searching(20, weight).compress(image) for weight in (0.02, 50.0))
    errors = [((codec.decompress(stream).astype(float) - image) ** 2).mean() for stream in (small, good)]
    assert len(small) <= len(good) and errors[1] <= errors[0]
