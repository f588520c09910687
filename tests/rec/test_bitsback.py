"""Bits-back coding: lossless in both orders, at the negative ELBO, and each with its own need of first bits."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.frequencies import Tables, categorical_table
from rec.bins import REACH, Grid
from rec.bitsback import BitsBack, Stack
from rec.gaussian import Gaussian

ROOT = Path(__file__).resolve().parents[2]
GAIN, NOISE, FAR = 10.0, 4.0, 60


@cache
def tables() -> Tables:
    """x in -128 ... 127, normal with spread 4 about -60 ... 60."""
    x, centre = np.arange(-128, 128), np.arange(-FAR, FAR + 1)
    made = categorical_table(np.exp(-((x - centre[:, None]) ** 2) / (2 * NOISE**2)))
    return Tables(made.frequencies, np.full(len(centre), -128))


class Chain:
    """z_1 ~ N(0, 1), z_l = a z_{l-1} + noise, all N(0, 1); x = 10 z_L + noise of spread 4, rounded, in halves.

    Posteriors in both directions are those of data before rounding, so that the ELBO is nearly the evidence.
    """

    parts = 2

    def __init__(self, depth: int, count: int, a: float = 0.9) -> None:
        self.depth, self.count, self.a = depth, count, a

    def normal(self, loc, variance) -> Gaussian:
        return Gaussian(np.broadcast_to(loc, (self.count,)), np.full(self.count, np.sqrt(variance)))

    def prior(self, level, above):
        return self.normal(self.a * above[-1], 1 - self.a**2) if level else self.marginal(0)

    def posterior(self, level, x, above):
        prior, slope = self.prior(level, above), self.a ** (self.depth - 1 - level)
        precision = (GAIN * slope) ** 2 / (GAIN**2 * (1 - slope**2) + NOISE**2)
        variance = 1 / (1 / prior.scale[0] ** 2 + precision)
        return self.normal(
            variance * (prior.loc / prior.scale**2 + precision * np.concatenate(x) / (GAIN * slope)), variance
        )

    def recognise(self, level, below):
        if level + 1 == self.depth:
            return self.posterior(0, below, []) if self.depth == 1 else Chain(1, self.count).posterior(0, below, [])
        return self.normal(self.a * below, 1 - self.a**2)

    def marginal(self, level):
        return self.normal(0.0, 1.0)

    def likelihood(self, part, latents, known):
        half = slice(0, self.count // 2) if part == 0 else slice(self.count // 2, self.count)
        return np.rint(GAIN * latents[-1][half]).astype(np.int64).clip(-FAR, FAR) + FAR, tables()

    def draw(self, many, seed):
        x = np.rint(np.hypot(GAIN, NOISE) * np.random.default_rng(seed).standard_normal((many, self.count)))
        x = x.clip(-128, 127).astype(np.int64)
        return [[row[: self.count // 2], row[self.count // 2 :]] for row in x]


def evidence(x) -> float:
    """-log2 p(x), of the rounded normal."""
    values, variance = np.concatenate(x), GAIN**2 + NOISE**2
    return float((values**2 / (2 * variance) + np.log(2 * np.pi * variance) / 2).sum() / np.log(2))


def same(a, b) -> bool:
    return all(np.array_equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True))


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("order", ["top_down", "bottom_up", "levels_first"])
@pytest.mark.parametrize("depth", [1, 3])
def test_lossless_at_the_negative_elbo(order, depth, grid):
    model = Chain(depth, 1000)
    coder, data = BitsBack(model, order, bits=12 if grid else 10, grid=grid), model.draw(4, 1)
    packed = coder.encode(data, depth * model.count)
    assert same(coder.decode(packed.payload, 4), data)
    net, ideal = sum(packed.net_bits), sum(evidence(x) for x in data)
    # The difference is a mean of log p(z | x) / q(z | x) over the drawn latents, of rounded data: under 0.5 % here.
    assert abs(net / ideal - 1) < 0.005
    assert 8 * len(packed.payload) == pytest.approx(net + packed.initial_bits, abs=128)


def test_bottom_up_order_needs_the_first_bits_of_one_level_only():
    model = Chain(4, 400)
    orders, data = ("top_down", "bottom_up"), model.draw(2, 2)
    initial = {order: BitsBack(model, order).encode(data, 1600).initial_bits for order in orders}
    assert initial["top_down"] > 2.5 * initial["bottom_up"] > 0


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_first_bits_in_closed_form(depth):
    """A value with normal error of spread s, in cells of width w, has log2(s sqrt(2 pi e) / w) bits.

    BB-ANS takes those of all levels first. Bit-Swap gets the data's back before it takes the second level, and each
    level's before it takes the next.
    """
    model, count, bits = Chain(depth, 4000), 4000, 12

    def entropy(spread, width):
        return count * np.log2(spread * np.sqrt(2 * np.pi * np.e) / width)

    data, cell = model.draw(1, 6), 2 * REACH / 2**bits
    lowest = entropy(model.recognise(depth - 1, data[0]).scale[0], cell)
    other, pixels = entropy(np.sqrt(1 - model.a**2), cell), entropy(NOISE, 1)
    found = {o: BitsBack(model, o, bits, grid=True).encode(data, depth * count) for o in ("bottom_up", "levels_first")}
    swap, first = (packed.initial_bits for packed in found.values())
    assert first == pytest.approx(lowest + (depth - 1) * other, rel=0.01)
    assert swap == pytest.approx(lowest if depth == 1 else max(lowest, lowest - pixels + other), rel=0.01)
    assert swap == first if depth == 1 else swap < first
    nets = [sum(packed.net_bits) for packed in found.values()]
    assert nets[0] == pytest.approx(nets[1], rel=0.02) and nets[0] == pytest.approx(evidence(data[0]), rel=0.01)


def test_what_lies_beyond_a_grid_is_coded_all_the_same():
    base, far = Gaussian(np.zeros(3), np.ones(3)), Gaussian(np.array([50.0, -1e7, 0.0]), np.array([0.1, 1e-9, 1e9]))
    stack, grid = Stack(np.random.default_rng(1).integers(1, 2**32, 100, dtype=np.uint32)), Grid(12)
    before = stack.words()
    bins = grid.pop(stack, far, base)
    assert bins[:2].tolist() == [4095, 0] and np.abs(grid.values(bins, base)).max() <= 8
    grid.push(stack, bins, far, base)
    assert np.array_equal(stack.words(), before)


def test_finer_bins_cost_nothing_and_coarse_ones_do():
    model = Chain(2, 400)
    net = {bits: sum(BitsBack(model, bits=bits).encode(model.draw(3, 3), 800).net_bits) for bits in (2, 8, 12)}
    assert net[12] == pytest.approx(net[8], rel=0.005)
    assert net[2] > 1.02 * net[12]


def test_a_fresh_process_decodes(tmp_path):
    model = Chain(2, 50)
    data = model.draw(2, 4)
    (tmp_path / "payload").write_bytes(BitsBack(model).encode(data, 100).payload)
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom tests.rec.test_bitsback import BitsBack, Chain\n"
        "out = BitsBack(Chain(2, 50)).decode(Path(sys.argv[1]).read_bytes(), 2)\n"
        "print(*np.concatenate([p for x in out for p in x]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "payload")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [int(v) for v in done.stdout.split()] == np.concatenate([p for x in data for p in x]).tolist()


def test_damage_and_a_wrong_seed_are_noticed():
    model = Chain(2, 100)
    payload = BitsBack(model).encode(model.draw(1, 5), 200).payload
    for position in range(0, len(payload), 37):
        broken = bytearray(payload)
        broken[position] ^= 1
        with pytest.raises(BitstreamError):
            BitsBack(model).decode(bytes(broken), 1)
    for wrong in (payload[:-4], payload[4:], payload[:-1], b""):
        with pytest.raises(BitstreamError):
            BitsBack(model).decode(wrong, 1)
    with pytest.raises(BitstreamError):
        BitsBack(model, seed=43).decode(payload, 1)


def test_wrong_options_are_refused():
    for options in ({"order": "sideways"}, {"bits": 0}, {"bits": 17}):
        with pytest.raises(TesseraError):
            BitsBack(Chain(1, 10), **options)
    with pytest.raises(TesseraError, match="outside the table"):
        BitsBack(Chain(1, 2)).encode([[np.array([300]), np.array([0])]], 2)


def test_push_undoes_pop():
    message = np.random.default_rng(0).integers(1, 2**32, 300, dtype=np.uint32)
    base, posterior = Gaussian(np.zeros(40), np.ones(40)), Gaussian(np.ones(40), 0.3 * np.ones(40))
    stack, index = Stack(message), np.arange(60) % 7
    bins = stack.pop_bins(posterior, base, 9)
    uniform, symbols = stack.pop_uniform(9, 5), stack.pop(index, tables())
    stack.push(symbols, index, tables())
    stack.push_uniform(uniform, 5)
    stack.push_bins(bins, posterior, base, 9)
    assert np.array_equal(stack.words(), message)
