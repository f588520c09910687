"""The Markov-chain VAE and its streams: both orders of its levels, one net cost, marginals, training, the command."""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from core import checkpoint
from core.bitstream import BitstreamError
from core.codec import HasEstimate, Image, TesseraError
from core.registry import METHODS, discover
from rec.lossless_bitswap import BitSwapCodec, MarkovHierarchy
from rec.models.hierarchy import LN2
from rec.models.markov_vae import MarkovVAE

discover()
SMALL = {"levels": 3, "filters": 6, "blocks": 1, "stochastic_filters": 2}
ORDERS = ("bit_swap", "bb_ans")


def picture(height: int = 20, width: int = 14, channels: int = 3, seed: int = 0) -> Image:
    rng = np.random.default_rng([seed, height, width, channels])
    rows, columns = np.mgrid[:height, :width]
    plane = 60 + 3 * rows[..., None] + 2 * columns[..., None] + rng.normal(0, 6, (height, width, channels))
    return plane.clip(0, 255).astype(np.uint8)


@cache
def model() -> MarkovVAE:
    """Weights that were trained for some steps, and the marginals of a few pictures."""
    torch.manual_seed(0)
    net = METHODS["bitswap_small"](**SMALL).model().train()
    x = torch.stack([torch.from_numpy(picture(20, 14, seed=s)).permute(2, 0, 1) / 255 for s in range(8)])
    optimiser = torch.optim.Adamax(net.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        net(x).loss.backward()
        optimiser.step()
    net.calibrate([picture(seed=s) for s in range(8)])
    return net.eval()


def codec(order: str = "bit_swap", **options: int) -> BitSwapCodec:
    return METHODS["bitswap_small"](**SMALL, order=order, **options).codec(model())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(20, 14, 3), (17, 9, 3), (7, 12, 1), (1, 1, 3)])
def test_round_trip(order: str, shape: tuple[int, int, int]) -> None:
    image = picture(*shape)
    stream = codec(order).compress(image)
    assert np.array_equal(codec(order).decompress(stream), image) and codec(order).compress(image) == stream


def test_both_orders_cost_the_negative_elbo_and_bit_swap_needs_fewer_first_bits() -> None:
    images = [picture(seed=100 + s) for s in range(30)]
    packed = {order: codec(order).chain(images) for order in ORDERS}
    for order, found in packed.items():
        decoded = codec(order).unchain(found.payload, len(images), images[0].shape)
        assert all(np.array_equal(a, b) for a, b in zip(decoded, images, strict=True))
        net, elbo = sum(found.net_bits), sum(codec(order).negative_elbo(image) for image in images)
        assert net == pytest.approx(elbo, rel=0.02)
        assert 8 * len(found.payload) == pytest.approx(net + found.initial_bits, abs=128)
    swap, first = (packed[order].initial_bits for order in ORDERS)
    assert 2 * swap < first, "three levels of one size"
    latents = MarkovHierarchy(model(), (20, 14, 3)).latents
    assert first <= latents * 12 + 64, "none is coded in more bits than a cell has, but for what posteriors do not know"
    assert first / swap < 3.5


def test_a_file_is_the_net_cost_and_the_first_bits() -> None:
    """There is no estimate: what a model says of an image leaves out its first bits."""
    image, one = picture(), codec()
    stream, packed = one.pack(image)
    assert one.payload_bits(stream) == 8 * len(packed.payload) and stream == one.compress(image)
    assert one.rated("asymptotic", image) == (packed.net_bits[0], image)
    assert one.rated("ideal", image)[0] == one.negative_elbo(image)
    assert not isinstance(one, HasEstimate)


def test_finer_cells_cost_first_bits_and_nothing_else() -> None:
    images = [picture(seed=s) for s in range(20)]
    coarse, fine = (codec(bits=bits).chain(images) for bits in (9, 13))
    assert sum(fine.net_bits) == pytest.approx(sum(coarse.net_bits), rel=0.02)
    each = MarkovHierarchy(model(), (20, 14, 3)).latents / 3
    assert fine.initial_bits - coarse.initial_bits == pytest.approx(4 * each, rel=0.1), "of one level"


def test_rates_are_log_ratios_of_densities() -> None:
    torch.manual_seed(1)
    drawn = model().draw(torch.round(255 * torch.rand(2, 3, 8, 6)))
    rates = model().rates(drawn)
    for level, (z, q) in enumerate(drawn):
        p = model().prior(level, drawn[level - 1][0] if level else z)
        posterior, prior = (torch.distributions.Normal(n.loc, n.scale).log_prob(z).sum((1, 2, 3)) for n in (q, p))
        assert torch.allclose(rates[:, level], posterior - prior, atol=1e-3)


def test_a_level_looks_at_its_neighbour_alone() -> None:
    """The property that Bit-Swap needs: given z_1, nothing above depends on the image, and nothing below on z_2."""
    net = model()
    shapes = MarkovHierarchy(net, (20, 14, 3))
    x, other = ([picture(seed=s)[..., c].reshape(-1).astype(np.int64) for c in range(3)] for s in (1, 2))
    with torch.inference_mode():
        assert not np.array_equal(shapes.recognise(2, x).loc, shapes.recognise(2, other).loc)
        values = [np.full(shapes.latents // 3, v) for v in (0.1, 0.7, -0.4)]
        index, tables = shapes.likelihood(0, values[2:], [])
        again, same = shapes.likelihood(0, values, [])
        assert np.array_equal(index, again) and np.array_equal(tables.frequencies[0], same.frequencies[0])
        assert np.array_equal(shapes.prior(2, values[1:2]).loc, shapes.prior(2, values[:2]).loc)
        assert shapes.prior(0, []).loc.any() == np.False_


def test_marginals_are_those_of_the_latents() -> None:
    """Over what they were found on, latents have mean 0 and variance 1 in units of their marginals."""
    net, images = model(), [picture(seed=s) for s in range(8)]
    torch.manual_seed(5)
    planes = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in images])
    with torch.no_grad():
        for level, (z, _) in enumerate(net.draw(planes)):
            unit = (z - net.marginal_loc[level].view(-1, 1, 1)) / net.marginal_scale[level].view(-1, 1, 1)
            assert unit.mean((0, 2, 3)).abs().max() < 0.2 and (unit.var((0, 2, 3)) - 1).abs().max() < 0.3
    state = torch.get_rng_state()
    assert set(net.monitor(images)) == {"level_0", "level_1", "level_2"}
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers go on"


def test_training_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    net = METHODS["bitswap_small"](**SMALL).model().train()
    step = net(torch.rand(2, 3, 8, 8))
    step.loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    floor = 0.02 * net.levels * 2 * 16 / (3 * 64 * LN2)
    assert float(step.loss.detach()) >= max(float(step.bits), floor) + float(step.distortion) - 1e-4


def test_damage_and_mistakes() -> None:
    stream = codec().compress(picture())
    for bad in (b"", stream[:20], stream[:-4], stream[:-1] + bytes([stream[-1] ^ 1])):
        with pytest.raises(BitstreamError):
            codec().decompress(bad)
    for other in (codec("bb_ans"), codec(bits=11), codec(compression_seed=7)):
        with pytest.raises(BitstreamError, match="decode it with the method, parameters and weights"):
            other.decompress(stream)
    with pytest.raises(TesseraError, match="bit_swap"):
        codec("bitswap")
    with pytest.raises(TesseraError, match="bits=17"):
        codec(bits=17).compress(picture())
    with pytest.raises(TesseraError, match="images of one size"):
        codec().chain([picture(), picture(9, 9)])
    for wrong in ({"levels": 0}, {"lamb": -1.0}):
        with pytest.raises(TesseraError):
            METHODS["bitswap_small"](**{**SMALL, **wrong}).model()


def test_the_command_of_chains(command, tmp_path: Path) -> None:
    """Rows of both orders from one set of weights, written once, and found again."""
    torch.manual_seed(0)
    method = METHODS["bitswap_small"]()
    meta = {"method": method.name, "params": dict(method.variant), "point": None, "data": {"names": ["none"]}}
    checkpoint.save(tmp_path / "weights", method.model(), meta)
    Path("pictures").mkdir()
    for seed in range(3):
        pillow.fromarray(picture(8, 8, seed=seed)).save(f"pictures/{seed}.png")
    words = ("benchmarks/bits_back.py", "with", "dataset=folder:pictures", "rows=Bit-Swap,BB-ANS", "files=2",
             f"weights={tmp_path / 'weights'}")  # fmt: skip
    done = command(*words)
    assert done.code == 0 and "Bit-Swap: net" in done.out
    records = [json.loads(path.read_text()) for path in sorted(Path("results/bits_back").glob("*.json"))]
    assert [r["row"] for r in records] == ["BB-ANS", "Bit-Swap"] and all(r["images"] == 3 for r in records)
    first, swap = records
    assert swap["initial_bits"] < first["initial_bits"] and swap["elbo_bpd"] == first["elbo_bpd"]
    for r in records:
        dims = 3 * 8 * 8 * 3
        assert r["chain_bpd"] == pytest.approx(r["net_bpd"] + r["initial_bits"] / dims, abs=128 / dims)
        assert r["file_bpd"] > r["chain_bpd"] and r["files"] == 2 and r["provenance"]["command"]
    (path,) = Path("results/tables").glob("bits_back_*.csv")
    rows = list(csv.DictReader(path.open()))
    assert [row["order"] for row in rows] == ["Bit-Swap", "BB-ANS"]
    assert float(rows[0]["first bits of the chain"]) == swap["initial_bits"]
    assert "net" not in command(*words).out.partition("**")[0], "nothing is measured again"
    assert "must be from 1 to the 3 images" in command(*words[:-2], "files=4", words[-1]).err
    assert "did you mean Bit-Swap" in command(*words[:3], "rows=bit-swap", words[-1]).err
