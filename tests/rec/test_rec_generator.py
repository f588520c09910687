"""The random numbers that streams of relative entropy coding are made of: pinned values, random access, laws."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from scipy.stats import kstest

from core.codec import TesseraError
from rec import quantiles, randomness_fast, randomness_torch
from rec.randomness import Key, coarse_normals, exponentials, normals, permutation, philox, signs, uniforms, words

KEY = Key(42, 3, 5, 7)
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
ONES = (0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2
KNOWN = [  # the known-answer tests of Random123 for philox4x32-10: counter, key, words
    (((0, 0, 0, 0), (0, 0)), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("given", "expected"), KNOWN)
def test_known_answers(given: tuple, expected: tuple[int, ...]) -> None:
    assert tuple(philox(*given)) == expected


def test_pinned_numbers() -> None:
    """Streams decode years later only if these bits never change."""
    assert [x.hex() for x in uniforms(KEY, 11, 3, 2)] == [
        "0x1.982164b800000p-4", "0x1.d5d906d300000p-1", "0x1.24f1b06100000p-1",
    ]  # fmt: skip
    assert [x.hex() for x in normals(KEY, 11, 3, 2)] == [
        "-0x1.4899ead2bb9f3p+0", "0x1.63bb5b4dd87e0p+0", "0x1.7476acc97d4f9p-3",
    ]  # fmt: skip
    assert [x.hex() for x in exponentials(KEY, 11, 3, 2)] == [
        "0x1.2730e26067c29p+1", "0x1.5fe958f5d2bdfp-4", "0x1.1ddf1c6fe8172p-1",
    ]  # fmt: skip
    assert [float(x).hex() for x in coarse_normals(KEY, 5, 11, 3)] == [
        "0x1.3137080000000p+0", "0x1.b0d1360000000p-3", "0x1.eb4fc40000000p-1",
    ]  # fmt: skip
    assert signs(KEY, 5, 11, 12).tolist() == [1, 1, 1, -1, -1, -1, -1, -1, 1, 1, -1, 1]
    assert permutation(KEY, 10).tolist() == [7, 5, 8, 1, 2, 0, 3, 6, 9, 4]


TABLES = {
    "_normal_table": "33c45d18f536dd00c7b44e2f392772fd60bd9779d528317294286a5fd54ee3b6",
    "_logarithm_table": "da22746f3004189b4c125639e33c9f99a99633366caf5089ddba69ba8764e54f",
    "coarse_normal_table": "8babbcaf96568f10165a1eab530c0e5c92d04de96761b6dbb3dadfa94baba37f",
}


@pytest.mark.parametrize("name", TABLES)
def test_pinned_tables(name: str) -> None:
    table = getattr(quantiles, name)()
    assert hashlib.sha256(table.astype(table.dtype.newbyteorder("<")).tobytes()).hexdigest() == TABLES[name]


def test_the_last_bits_of_the_machines_quantile_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, inverse = quantiles._normal_table(), NormalDist.inv_cdf
    monkeypatch.setattr(quantiles.NormalDist, "inv_cdf", lambda self, p: inverse(self, p) * (1 + 3e-15))
    assert np.array_equal(quantiles._normal_table.__wrapped__(), expected)


@pytest.mark.parametrize("draw", [words, uniforms, normals, exponentials])
def test_random_access(draw) -> None:
    paths = np.array([0, 1, 2**40, 2**63 - 1])
    whole = draw(KEY, paths, 50)
    for first, count in itertools.product((0, 1, 3, 4, 17), (0, 1, 5, 33)):
        assert np.array_equal(draw(KEY, paths, count, first), whole[:, first : first + count])
    assert np.array_equal(draw(KEY, int(paths[2]), 50), whole[2])
    far = draw(KEY, 1, 4, 2**34 - 4)
    assert far.shape == (4,) and not np.array_equal(far, whole[1, :4])


def test_batched_blocks_are_those_of_single_keys() -> None:
    blocks, paths = np.array([[3], [2**31]]), np.array([0, 7, 9])
    together = coarse_normals(KEY, blocks, paths, 21), signs(KEY, blocks, paths, 21)
    for (i, block), (j, path) in itertools.product(enumerate(blocks[:, 0]), enumerate(paths)):
        assert np.array_equal(together[0][i, j], coarse_normals(KEY, block, path, 21))
        assert np.array_equal(together[1][i, j], signs(KEY, block, path, 21))


def test_every_part_of_a_key_has_a_sequence_of_its_own() -> None:
    keys = [KEY, *(replace(KEY, **{name: getattr(KEY, name) + 1}) for name in ("seed", "layer", "block", "step"))]
    drawn = np.concatenate([words(key, [0, 1], 4000).reshape(-1) for key in keys])
    assert len(np.unique(drawn)) > len(drawn) - 5  # 80,000 of 2**32 words: 0.7 pairs are equal by chance


def test_quantiles_against_scipy() -> None:
    w = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    w[:6] = 0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1
    u = (2.0 * w + 1) * 2.0**-33
    assert np.abs(quantiles.normal_quantile(w) - ndtri(u)).max() < 1e-11
    assert np.abs(quantiles.exponential_quantile(w) + np.log(u)).max() < 1e-11
    assert quantiles.exponential_quantile(w).min() > 0
    assert np.array_equal(quantiles.normal_quantile(~w), -quantiles.normal_quantile(w))


def test_quantiles_rise_across_segments() -> None:
    edges = (np.arange(1, 2**9, dtype=np.int64) << 23)[:, None] + np.arange(-2, 3)
    values = quantiles.normal_quantile(edges.reshape(-1).astype(np.uint32))
    assert (np.diff(values) > 0).all()


def test_laws() -> None:
    assert kstest(normals(KEY, 0, 50_000), "norm").pvalue > 1e-4
    assert kstest(exponentials(KEY, 1, 50_000), "expon").pvalue > 1e-4
    coarse = coarse_normals(KEY, np.arange(10), 0, 10_000).astype(np.float64)
    assert kstest(coarse.reshape(-1), "norm").pvalue > 1e-4
    assert np.square(quantiles.coarse_normal_table().astype(np.float64)).mean() == pytest.approx(1, abs=1e-7)
    assert abs(signs(KEY, np.arange(10), 0, 10_000).mean()) < 4 / 100_000**0.5
    neighbours = np.corrcoef(normals(KEY, np.arange(6), 20_000))
    assert np.abs(neighbours - np.eye(6)).max() < 5 / 20_000**0.5


@pytest.mark.parametrize(
    "part",
    [{"seed": -1}, {"seed": 2**32}, {"layer": 4096}, {"block": 2**32}, {"step": 2**20}, {"seed": 1.5}, {"seed": True}],
)
def test_keys_out_of_range(part: dict) -> None:
    with pytest.raises(TesseraError, match=next(iter(part))):
        Key(**({"seed": 1} | part))


@pytest.mark.parametrize(
    ("path", "count", "first"), [(-1, 4, 0), (0.5, 4, 0), (0, -1, 0), (0, 1, -1), (0, 2, 2**34 - 1)]
)
def test_places_out_of_range(path, count: int, first: int) -> None:
    with pytest.raises(TesseraError, match="random numbers"):
        words(KEY, path, count, first)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tensors_hold_the_same_bits(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU, which is not here")
    for given, expected in KNOWN:
        counter, key = ([torch.tensor(word, device=device) for word in given[0]], given[1])
        assert tuple(randomness_torch.philox(tuple(counter), key).tolist()) == expected
    blocks, paths = np.array([[3], [2**32 - 1]]), np.array([0, 7, 2**63 - 1])
    tensors = torch.from_numpy(blocks).to(device), torch.from_numpy(paths).to(device)
    for count in (1, 21, 300):
        for name in ("coarse_normals", "signs"):
            found = getattr(randomness_torch, name)(KEY, *tensors, count)
            assert np.array_equal(found.cpu().numpy(), globals()[name](KEY, blocks, paths, count))


@pytest.mark.parametrize("shape", [(1, 54), (3, 1), (2, 7), (5,), (0, 4)])
@pytest.mark.parametrize("count", [1, 7, 64, 65, 999, 2048])
def test_the_kernel_makes_the_same_bits(shape: tuple[int, ...], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of the compiled generator are those of NumPy, whatever the shape, and blocks and paths beyond 32 bits."""
    if not randomness_fast.usable():
        pytest.skip("there is no C++ compiler, or kernels are switched off")
    rng, key = np.random.default_rng([count, len(shape)]), Key(2**32 - 1, 4095, 0, 2**20 - 1)
    blocks, paths = rng.integers(0, 2**32, (*shape[:-1], 1)), rng.integers(0, 2**63, shape)
    found = []
    for least in (0, 2**62):
        monkeypatch.setattr(randomness_fast, "LEAST", least)
        found.append((coarse_normals(key, blocks, paths, count), signs(key, blocks, paths, count)))
    for fast, plain in zip(*found, strict=True):
        assert fast.dtype == plain.dtype == np.float32 and fast.shape == plain.shape == (*shape, count)
        assert np.array_equal(fast, plain)


def test_without_the_kernel_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness_fast, "usable", lambda: False)
    monkeypatch.setattr(randomness_fast, "levels", None)
    assert coarse_normals(Key(1), np.arange(3), 0, 500).shape == (3, 500)
