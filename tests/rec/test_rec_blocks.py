"""Tensors coded by iREC: Gaussians, round trips in bytes, side information, damage, mistakes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, norm

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import Decoder, Encoder
from rec.blocks import Account, decode_tensor, encode_tensor, read_tensor, write_tensor
from rec.coders.contract import BatchCoder, make_coder
from rec.coders.irec.coders import BeamSearch
from rec.coders.irec.schedule import CODES
from rec.gaussian import Gaussian, kl, log_ratio, max_log_ratio
from rec.randomness import Key
from rec.side_information import LIMIT, coarse, level, read_codes, steps_at, write_codes
from tests.support.golden_irec import family, sparse, standard

ROOT = Path(__file__).resolve().parents[2]
CODERS = {
    "beam_search": {},
    "beam_search published": {"schedule": "power_law", "extra_samples": 1.2, "n_beams": 10},
    "irec_importance": {},
    "irec_importance weights": {"alpha": 1.0},
    "irec_rejection": {"kl_per_partition": 2.0},
}


def coder(name: str):
    return make_coder(name.split()[0], **CODERS[name])


# Gaussians


def test_gaussians_against_scipy() -> None:
    q, p = Gaussian(np.array([0.3, -1.0]), np.array([0.4, 0.9])), Gaussian(np.array([0.0, 0.5]), np.array([1.0, 1.5]))
    z = np.array([[0.1, 0.2], [-3.0, 1.0]])
    expected = (norm(q.loc, q.scale).logpdf(z) - norm(p.loc, p.scale).logpdf(z)).sum(1)
    assert log_ratio(z, q, p) == pytest.approx(expected, abs=1e-12)
    grid = np.linspace(-12, 12, 200_001)[:, None]
    each = norm(q.loc, q.scale).pdf(grid) * (norm(q.loc, q.scale).logpdf(grid) - norm(p.loc, p.scale).logpdf(grid))
    assert kl(q, p) == pytest.approx(each.sum(0) * (grid[1] - grid[0]), abs=1e-6)
    tops = (norm(q.loc, q.scale).logpdf(grid) - norm(p.loc, p.scale).logpdf(grid)).max(0)
    assert max_log_ratio(q, p) == pytest.approx(tops.sum(), abs=1e-6)
    assert max_log_ratio(p, q) == math.inf and max_log_ratio(q, q) == 0.0


@pytest.mark.parametrize("loc", [math.nan, math.inf])
def test_locs_that_are_not_finite(loc: float) -> None:
    with pytest.raises(TesseraError, match="loc of a Gaussian"):
        Gaussian(np.array([0.0, loc]), np.ones(2))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_scales_that_are_not_scales(scale: float) -> None:
    with pytest.raises(TesseraError, match="scale of a Gaussian"):
        Gaussian(np.zeros(2), np.array([1.0, scale]))


def test_targets_out_of_reach() -> None:
    with pytest.raises(TesseraError, match="too far apart"):
        kl(Gaussian(np.zeros(1), np.array([1e-200])), Gaussian(np.zeros(1), np.array([1e200])))


# Streams


def mixed(dims: int, seed: int = 0) -> tuple[Gaussian, Gaussian]:
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(size=dims))
    prior = Gaussian(rng.normal(size=dims), scale)
    step = np.exp(-rng.exponential(0.1, size=dims))
    return Gaussian(prior.loc + rng.normal(size=dims) * np.sqrt(1 - step**2) * scale, step * scale), prior


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize(("dims", "block_size"), [(1, 1000), (7, 3), (130, 40), (300, 1000)])
def test_round_trip(name: str, dims: int, block_size: int) -> None:
    target, prior = mixed(dims)
    chunk, sample, account = encode_tensor(target, prior, coder(name), 11, 2, block_size)
    assert np.array_equal(decode_tensor(chunk, prior, coder(name), 11, 2, block_size), sample)
    assert account.file_bits == 8 * len(chunk) and account.kl_nats == pytest.approx(kl(target, prior).sum())
    assert account.log_ratio_nats == pytest.approx(log_ratio(sample, target, prior))


@pytest.mark.parametrize("name", CODERS)
def test_blocks_together_are_blocks_alone(name: str) -> None:
    made, (target, prior) = coder(name), mixed(60)
    if not isinstance(made, BatchCoder):
        pytest.skip("codes block by block")
    rows_ = [Gaussian(x.loc.reshape(4, 15), x.scale.reshape(4, 15)) for x in (target, prior)]
    keys = [Key(1, 0, i) for i in range(4)]
    for i, together in enumerate(made.encode_many(*rows_, keys)):
        alone = made.encode(*(Gaussian(x.loc[i], x.scale[i]) for x in rows_), keys[i])
        assert alone.symbols == together.symbols and np.array_equal(alone.sample, together.sample)


def test_pinned_chunk() -> None:
    """A chunk of today and its sample; what changes them changes the format."""
    target = Gaussian(np.linspace(-1.0, 1.0, 40), np.full(40, 0.5))
    chunk, sample, _ = encode_tensor(target, standard(40), BeamSearch(), 1, 0, 20)
    assert chunk.hex() == "b2356b2152c3f214d643"
    assert [x.hex() for x in sample[:3]] == ["-0x1.5cafef8e8763ap+0", "-0x1.ff4b602070086p+0", "-0x1.859b8cabb6034p-1"]


DECODE = """
import sys, numpy as np
from rec.blocks import decode_tensor
from rec.coders.contract import make_coder
from rec.gaussian import Gaussian
prior = Gaussian(np.zeros(300), np.ones(300))
sample = decode_tensor(bytes.fromhex(sys.argv[1]), prior, make_coder("beam_search"), 5)
print(sample.tobytes().hex())
"""


def test_a_fresh_process_decodes() -> None:
    target, prior = family(300, 30.0), standard(300)
    chunk, sample, _ = encode_tensor(target, prior, BeamSearch(), 5)
    ran = subprocess.run(
        [sys.executable, "-c", DECODE, chunk.hex()], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert bytes.fromhex(ran.stdout.strip()) == sample.tobytes()


def test_several_tensors_in_one_stream() -> None:
    encoder, made, samples = Encoder(), BeamSearch(), []
    for layer in range(3):
        sample, account = write_tensor(encoder, *mixed(50, layer), made, 4, layer)
        samples.append(sample)
        assert isinstance(account, Account) and account.file_bits > 0
    decoder = Decoder(encoder.finish())
    for layer, sample in enumerate(samples):
        assert np.array_equal(read_tensor(decoder, mixed(50, layer)[1], made, 4, layer), sample)


def test_blocks_and_layers_have_seeds_of_their_own() -> None:
    """Two equal blocks get different indices, and so do two equal layers (defect 12 of the authors' code)."""
    half = family(200, 30.0)
    target = Gaussian(np.tile(half.loc, (2, 1)), np.tile(half.scale, (2, 1)))
    prior = Gaussian(np.zeros((2, 200)), np.ones((2, 200)))
    a, b = BeamSearch().encode_many(target, prior, [Key(1, 0, 0), Key(1, 0, 1)])
    c = BeamSearch().encode(half, standard(200), Key(1, 1, 0))
    assert len({a.symbols, b.symbols, c.symbols}) == 3


@pytest.mark.parametrize("name", CODERS)
def test_nothing_to_code(name: str) -> None:
    """KL of zero: a draw from the prior, by a stream of nothing but its check and the number of steps."""
    prior = mixed(2000)[1]
    chunk, sample, account = encode_tensor(prior, prior, coder(name), 3)
    assert account.kl_nats == 0 and len(chunk) < 10 and math.isnan(account.overhead)
    assert kstest((sample - prior.loc) / prior.scale, "norm").pvalue > 1e-4
    assert np.array_equal(decode_tensor(chunk, prior, coder(name), 3), sample)


def test_no_dimensions() -> None:
    chunk, sample, _ = encode_tensor(standard(0), standard(0), BeamSearch(), 3)
    assert sample.shape == (0,) and np.array_equal(decode_tensor(chunk, standard(0), BeamSearch(), 3), sample)


def test_greedy_rejection_is_unbiased() -> None:
    target, made = Gaussian(np.array([1.5]), np.array([0.4])), make_coder("irec_rejection", kl_per_partition=1.2)
    z = np.array([made.encode(target, standard(1), Key(6, 0, i)).sample[0] for i in range(400)])
    assert kstest(z, norm(1.5, 0.4).cdf).pvalue > 1e-3
    wide = family(64, 12.5)
    ratios = [log_ratio(made.encode(wide, standard(64), Key(6, 1, i)).sample, wide, standard(64)) for i in range(12)]
    assert np.mean(ratios) == pytest.approx(12.5, abs=4 * np.std(ratios) / 12**0.5)


# Side information


def test_levels_are_numbers_of_steps() -> None:
    known = [steps_at(i) for i in range(level(LIMIT - 1) + 1)]
    assert known[:20] == [*range(17), 18, 20, 22] and known == sorted(set(known))
    assert [level(steps) for steps in known] == list(range(len(known)))
    assert {coarse(x) for x in np.linspace(0, 200, 999)} <= set(known)
    assert all(abs(coarse(x) - x) <= max(0.5, x / 16) for x in np.linspace(0, 5000, 999))


def test_codes_cost_little_once_known() -> None:
    codes = [17] * 300 + [20] + [17] * 10
    encoder = Encoder()
    write_codes(codes, CODES, encoder)
    assert read_codes(len(codes), CODES, Decoder(encoder.finish())) == codes
    assert len(encoder.finish()) < 6


def test_side_information_of_a_tensor() -> None:
    """Numbers of steps and schedules of 20 blocks: below 6 bits a block; each new schedule takes 7."""
    target = sparse(20_000, 0.5, 1200.0, 1.0)
    _, _, account = encode_tensor(target, standard(20_000), BeamSearch(n_beams=2), 1)
    assert account.file_bits - account.ideal_bits - 32 < 20 * 6


# Damage and mistakes


@pytest.mark.parametrize("name", CODERS)
def test_damage_is_noticed(name: str) -> None:
    target, prior = mixed(120)
    chunk, sample, _ = encode_tensor(target, prior, coder(name), 1, 0, 40)
    noticed, rng = 0, np.random.default_rng(0)
    for _ in range(25):
        at, bit = rng.integers(len(chunk)), 1 << rng.integers(8)
        damaged = chunk[:at] + bytes([chunk[at] ^ bit]) + chunk[at + 1 :]
        try:
            found = decode_tensor(damaged, prior, coder(name), 1, 0, 40)
        except BitstreamError:
            noticed += 1
        else:
            assert np.array_equal(found, sample)  # the last bits of a range coder's stream may be any
    assert noticed > 20
    for cut in range(4):
        with pytest.raises(BitstreamError):
            decode_tensor(chunk[:cut], prior, coder(name), 1, 0, 40)


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"layer": 1}, {"block_size": 60}, {"coder": BeamSearch(extra_samples=1.2)}]
)
def test_other_settings_are_noticed(other: dict) -> None:
    target, prior = mixed(120)
    settings = {"coder": BeamSearch(), "seed": 1, "layer": 0, "block_size": 40}
    chunk = encode_tensor(target, prior, **settings)[0]
    with pytest.raises(BitstreamError, match=r"sample|damaged"):
        decode_tensor(chunk, prior, **(settings | other))
    with pytest.raises(BitstreamError, match="sample"):
        decode_tensor(chunk, Gaussian(prior.loc + 1e-9, prior.scale), **settings)


@pytest.mark.parametrize("symbols", [(), (CODES,), (-1,), (0, 20), (0, -1)])
def test_symbols_that_no_encoder_gives(symbols: tuple[int, ...]) -> None:
    with pytest.raises(BitstreamError):
        BeamSearch().decode(symbols, standard(3), Key(1))


def test_kl_beyond_the_budget() -> None:
    with pytest.raises(TesseraError, match="KL of 5e"):
        BeamSearch().encode(Gaussian(np.array([1e4]), np.ones(1)), standard(1), Key(1))
    with pytest.raises(TesseraError, match="a step of irec_rejection"):
        made = make_coder("irec_rejection", schedule="power_law")
        made.encode(Gaussian(np.zeros(1), np.array([1e-60])), standard(1), Key(1))


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("beam_search", {"n_beams": 0}, "n_beams"),
        ("beam_search", {"n_beams": 2.0}, "n_beams"),
        ("beam_search", {"extra_samples": math.nan}, "extra_samples"),
        ("beam_search", {"kl_per_partition": 0}, "kl_per_partition"),
        ("beam_search", {"kl_per_partition": 30}, "candidates"),
        ("beam_search", {"schedule": "powerlaw"}, "schedule"),
        ("beam_search", {"n_beam": 3}, "did you mean n_beams"),
        ("beam_serch", {}, "did you mean beam_search"),
        ("irec_importance", {"alpha": 0.5}, "alpha"),
        ("irec_importance", {"coding_bits": 30}, "coding_bits"),
        ("irec_rejection", {"r_buffer_size": 0}, "r_buffer_size"),
    ],
)
def test_options_that_make_no_coder(name: str, options: dict, match: str) -> None:
    with pytest.raises(TesseraError, match=match):
        make_coder(name, **options)


def test_shapes_that_do_not_match() -> None:
    with pytest.raises(TesseraError, match="one shape"):
        encode_tensor(standard(3), standard(4), BeamSearch(), 1)
    with pytest.raises(TesseraError, match="block_size"):
        encode_tensor(standard(3), standard(3), BeamSearch(), 1, 0, 0)


def test_poor_blocks_are_coded_again() -> None:
    """One dimension of 14 nats among many small ones, which a path chosen too early never reaches."""
    rng = np.random.default_rng(5)
    scale = np.exp(-np.concatenate([[14.0], np.exp(rng.normal(size=299)) * 0.2]))
    target = Gaussian(np.sqrt(1 - scale**2) * rng.normal(size=300), scale)
    made, nats = BeamSearch(n_beams=40), kl(target, standard(300)).sum()
    first = made._encode_in(
        [made.steps(nats)], *(Gaussian(x.loc[None], x.scale[None]) for x in (target, standard(300))), [Key(2)]
    )
    final = made.encode(target, standard(300), Key(2))
    costs = [c.ideal_nats - log_ratio(c.sample, target, standard(300)) for c in (first[0], final)]
    assert costs[1] < 0.8 * costs[0] and np.array_equal(made.decode(final.symbols, standard(300), Key(2)), final.sample)
