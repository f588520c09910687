"""Laws of the entropy coder: what goes in comes out, at the ideal length, in the bytes that were agreed."""

from __future__ import annotations

import copy
import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import ndtr

from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.entropy import LIMIT, Decoder, Encoder, SymbolError, finite_symbols, ideal_bits
from core.frequencies import Tables, categorical_table, gaussian_tables

SCALES = np.geomspace(0.11, 32, 64)
GAUSSIAN = gaussian_tables(SCALES)
CODEBOOK = categorical_table([5, 0, 1, 90])
TABLES_SHA256 = "1e57c2b38b7754c08b283fdcb742f6f217142f82f7752aa78bb2145f380538cb"


def assert_law(*calls: tuple, backend: str = "constriction") -> bytes:
    """decode(encode(s)) is s, shape and all, for every call of one stream; returns the payload."""
    encoder = Encoder(backend)
    for symbols, index, tables in calls:
        encoder.encode(np.asarray(symbols), np.asarray(index), tables)
    payload = encoder.finish()
    assert payload == encoder.finish()
    decoder = Decoder(payload, backend)
    for symbols, index, tables in calls:
        decoded = decoder.decode(np.asarray(index), tables)
        assert decoded.dtype == np.int32 and decoded.shape == np.shape(index)
        np.testing.assert_array_equal(decoded, symbols)
    return payload


def gaussian_symbols(n: int, first: int = 0, stop: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n rounded Gaussian samples and the indices of their tables."""
    rng = np.random.default_rng(seed)
    index = rng.integers(first, stop, n)
    return np.rint(rng.normal(size=n) * SCALES[index]).astype(np.int32), index


def small_call(seed: int = 1) -> tuple[np.ndarray, np.ndarray, Tables]:
    symbols, index = gaussian_symbols(60, seed=seed)
    symbols[::13] += 300  # escapes
    return symbols.reshape(3, 4, 5), index.reshape(3, 4, 5), GAUSSIAN


# Laws


def test_many_calls_on_one_stream():
    codes = np.array([[0, 3, 3], [2, 1, 3]])
    assert_law(small_call(1), (codes, np.zeros_like(codes), CODEBOOK), small_call(2))


def test_no_symbols_take_no_bytes():
    empty = np.zeros((0, 3), int)
    assert assert_law((empty, empty, GAUSSIAN), (empty, empty, CODEBOOK)) == b""


def test_a_single_symbol_of_any_shape():
    assert_law((np.int32(-7), np.int64(40), GAUSSIAN))


def test_extreme_escapes():
    symbols = np.array([LIMIT - 1, 1 - LIMIT, 2, -2, 0, 10**6, -196, 197])
    assert_law((symbols, np.array([0, 0, 0, 0, 0, 63, 63, 63]), GAUSSIAN))


@pytest.mark.parametrize("bit", range(24))
def test_escapes_of_every_length(bit):
    symbols = np.array([1, -1, 1, -1]) * 2**bit + np.array([0, 0, -1, 1])
    assert_law((symbols, np.zeros(4, int), GAUSSIAN))


def test_many_tables_of_different_widths():
    rng = np.random.default_rng(3)
    scales = np.geomspace(0.01, 60, 1024)
    index = rng.integers(0, 1024, 5000)
    assert_law((np.rint(rng.normal(size=5000) * scales[index]).astype(int), index, gaussian_tables(scales)))


def test_a_large_codebook_with_dead_codes():
    rng = np.random.default_rng(4)
    counts = np.where(np.arange(10000) % 2, rng.integers(1, 10**6, 10000), 0)
    assert_law((rng.integers(0, 10000, 3000), np.zeros(3000, int), categorical_table(counts)))


def test_one_codebook_per_group():
    codes = np.array([[0, 1, 2, 2], [2, 1, 0, 0]])
    assert_law((codes, np.array([[0], [1]]).repeat(4, 1), categorical_table([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])))


def test_a_codebook_of_one_takes_no_bytes():
    assert assert_law((np.zeros(9), np.zeros(9, int), categorical_table([3]))) == b""


def test_a_lower_precision():
    symbols, index = gaussian_symbols(500, seed=5)
    assert_law((symbols, index, gaussian_tables(SCALES, precision=16)))


def test_a_carry_through_the_last_words():
    rows = [[2**23, 1, 2**23 - 1], [128, 1, 2**24 - 129], [2**15, 2**20, 2**24 - 2**20 - 2**15]]
    assert_law(*[([1], [0], categorical_table(row)) for row in rows])


def test_short_streams_end_in_the_fewest_bytes():
    sizes = [len(assert_law((np.zeros(n), np.full(n, 3), GAUSSIAN))) for n in range(40)]
    assert max(sizes) <= 2
    rng = np.random.default_rng(6)
    for trial in range(300):
        codes = rng.integers(0, 4, trial % 12)
        index = np.zeros_like(codes)
        assert 8 * len(assert_law((codes, index, CODEBOOK))) < ideal_bits(codes, index, CODEBOOK) + 10


def test_uniform_values():
    encoder = Encoder()
    calls = [(np.arange(2) % 2**bits, bits) for bits in (1, 7, 8, 16, 17, 31, 32)] + [(np.array([[2**32 - 1, 5]]), 32)]
    for values, bits in calls:
        encoder.encode_uniform(values, bits)
    payload = encoder.finish()
    assert len(payload) <= (2 * sum(bits for _, bits in calls) + 7) // 8 + 2
    decoder = Decoder(payload)
    for values, bits in calls:
        np.testing.assert_array_equal(decoder.decode_uniform(values.shape, bits), values)


# Length and tables


@pytest.mark.parametrize(("first", "stop"), [(0, 64), (0, 32)])
def test_a_million_symbols_within_two_hundredths_of_a_percent(first, stop):
    symbols, index = gaussian_symbols(10**6, first, stop)
    size, scale = np.abs(symbols), SCALES[index]
    ideal = -np.log2(ndtr((0.5 - size) / scale) - ndtr((-0.5 - size) / scale)).sum()
    payload = assert_law((symbols, index, GAUSSIAN))
    assert ideal * 0.9999 < 8 * len(payload) < ideal * 1.0002
    assert ideal * 0.9999 < ideal_bits(symbols, index, GAUSSIAN) < 8 * len(payload)


def test_ideal_bits_counts_escapes():
    encoder = Encoder()
    call = (np.full(1000, 40), np.zeros(1000, int), GAUSSIAN)  # excess 2 * 39 - 1 = 77: 1 + 2 * 6 bits after 24
    encoder.encode(*call)
    assert ideal_bits(*call) == pytest.approx(1000 * (24 + 13), rel=1e-6)
    assert 8 * len(encoder.finish()) == pytest.approx(ideal_bits(*call), abs=20)


def test_gaussian_tables_are_pinned():
    digest = hashlib.sha256(b"".join(row.astype("<i4").tobytes() for row in GAUSSIAN.frequencies)).hexdigest()
    assert digest == TABLES_SHA256
    assert GAUSSIAN is gaussian_tables(list(SCALES)) and GAUSSIAN.size == 64
    assert not GAUSSIAN.frequencies[0].flags.writeable


def test_gaussian_tables_against_scipy():
    for i in (0, 20, 63):
        c = -int(GAUSSIAN.offsets[i])
        j = np.arange(-c, c + 1)
        mass = ndtr((j + 0.5) / SCALES[i]) - ndtr((j - 0.5) / SCALES[i])
        off = np.abs(GAUSSIAN.frequencies[i][:-1] - mass * 2**24)
        assert off[j != 0].max() <= 1 and off[c] <= len(j)
        assert 2 * ndtr(-(c + 0.5) / SCALES[i]) < 1e-9


def test_categorical_tables_are_pinned():
    assert CODEBOOK.frequencies[0].tolist() == [873814, 1, 174763, 15728638]
    kept = [2**24 - 3, 1, 2]
    assert categorical_table(kept).frequencies[0].tolist() == kept
    np.testing.assert_array_equal(categorical_table([0.5, 0.25, 0.25]).frequencies[0], [2**23 - 1, 2**22, 2**22 + 1])


def test_tables_survive_copies():
    call = small_call()
    payload = assert_law(call)
    for tables in (copy.deepcopy(GAUSSIAN), pickle.loads(pickle.dumps(GAUSSIAN))):
        np.testing.assert_array_equal(Decoder(payload).decode(call[1], tables), call[0])


# Refusals


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.5, 2.0**24, -(2.0**24), 1e30])
def test_symbols_that_are_refused(bad):
    with pytest.raises(SymbolError):
        finite_symbols(np.array([0.0, bad]))
    with pytest.raises(SymbolError):
        Encoder().encode(np.array([0.0, bad]), np.zeros(2, int), GAUSSIAN)


def test_whole_floats_become_symbols():
    symbols = finite_symbols(np.array([[-3.0, 2.0**24 - 1]], dtype=np.float32))
    assert symbols.dtype == np.int32 and symbols.tolist() == [[-3, LIMIT - 1]]


@pytest.mark.parametrize(
    ("symbols", "index", "tables"),
    [
        ([LIMIT], [0], GAUSSIAN),
        ([2**63], [0], GAUSSIAN),
        ([-(2**40)], [0], GAUSSIAN),
        ([4], [0], CODEBOOK),
        ([-1], [0], CODEBOOK),
        ([0], [64], GAUSSIAN),
        ([0], [-1], GAUSSIAN),
        ([0], [0.0], GAUSSIAN),
        ([0, 0], [0], GAUSSIAN),
        ([True], [0], GAUSSIAN),
    ],
)
def test_calls_that_are_refused_write_nothing(symbols, index, tables):
    encoder = Encoder()
    with pytest.raises(SymbolError):
        encoder.encode(np.array(symbols), np.array(index), tables)
    assert encoder.finish() == b""


@pytest.mark.parametrize(("values", "bits"), [([4], 2), ([-1], 2), ([0.5], 2)])
def test_uniform_values_that_are_refused(values, bits):
    with pytest.raises(SymbolError):
        Encoder().encode_uniform(np.array(values), bits)


@pytest.mark.parametrize(
    "make",
    [
        lambda: gaussian_tables([0.0]),
        lambda: gaussian_tables([np.nan]),
        lambda: gaussian_tables([1e9]),
        lambda: gaussian_tables([30.0], precision=4),
        lambda: categorical_table([]),
        lambda: categorical_table([0, 0]),
        lambda: categorical_table([1, -1]),
        lambda: categorical_table([1, np.inf]),
        lambda: categorical_table(np.ones(5), precision=3),
        lambda: Tables((np.array([1, 2]),), np.zeros(1, int)),
        lambda: Encoder().encode_uniform([0], 33),
    ],
)
def test_tables_that_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_an_unknown_backend_offers_the_known():
    with pytest.raises(TesseraError, match="constriction"):
        Encoder("constricton")
    with pytest.raises(BitstreamError, match="bytes, not str"):
        Decoder("text")


def test_importing_core_is_light():
    heavy = "torch torchac pandas matplotlib sacred tensorflow scipy"
    code = f"import sys, core, core.entropy, core.bitstream; print(*(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
