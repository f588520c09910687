"""The overfitted codec: one decoder in numpy and compiled, one loss in torch and compiled, pinned bytes, damage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy.stats import laplace as scipy_laplace

from core import bitstream, kernels
from core.bitstream import BitstreamError, Stream
from core.codec import TesseraError
from overfit import exact, fit, layout, weights
from overfit.coder import Decoder, encoded
from overfit.exact import Latents
from overfit.methods import CoolChicSmall
from overfit.tables import FRACTIONS, LIMIT, SCALES, TOTAL, laplace

SHAPES = ((37, 83), (1, 1), (1, 70), (70, 1), (64, 64))


def compiled() -> bool:
    return kernels.library("overfit_train") is not None and kernels.library("overfit_decode") is not None


@contextmanager
def plain(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without compiled kernels."""
    with patch.context() as within:
        within.setattr(kernels, "library", lambda name: None)
        yield


def ramp(height: int, width: int) -> np.ndarray:
    """A picture of slopes and squares, uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    return np.stack((3 * x + y, 2 * y + 60, 40 * (x // 8 % 2) + 90), -1).clip(0, 255).astype(np.uint8)


def made(height: int, width: int, largest: int = 3) -> tuple[list[weights.Coded], list[Latents]]:
    """Weights and latents that a formula gives, for sizes up to a few thousand pixels."""
    groups = []
    for group in range(layout.GROUPS):
        n = int((group == layout.GROUP_OF).sum())
        groups.append(weights.Coded((np.arange(n) * 7919 % 23) - 11, 7 - group % 2, 40))
    grids = []
    for level, (h, w) in enumerate(layout.grid_sides(height, width)):
        mixed = (np.arange(h * w) * 48271 + level * 7) % 65537 % (2 * largest + 1) - largest
        grids.append(mixed.reshape(h, w).astype(np.int32))
    return groups, grids


def codec(steps: int = 8) -> object:
    return CoolChicSmall(lmb=0.004, steps=steps).codec()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.3, 0.0])
def test_the_compiled_loss_is_that_of_torch(shape: tuple[int, int], temperature: float) -> None:
    if not compiled():
        pytest.skip("needs a C++ compiler")
    draw = np.random.default_rng(sum(shape))
    count = sum(h * w for h, w in layout.grid_sides(*shape))
    target = draw.random((3, *shape), dtype=np.float32)
    latents = torch.from_numpy(draw.normal(0, 2, count)).float()
    vector = torch.from_numpy(draw.normal(0, 0.2, layout.WEIGHTS)).float()
    silent = np.zeros(fit.NOISES, dtype=np.float32)
    for parts in (fit.RATE, fit.ERROR, fit.BOTH):
        fast = fit.loss_of(target, 0.01)(latents, vector, temperature, silent, 1, parts)
        slow = fit.torch_loss(target, 0.01)(latents, vector, temperature, silent, 1, parts)
        assert fast.bits == pytest.approx(slow.bits, rel=1e-4) and fast.error == pytest.approx(slow.error, rel=1e-4)
        for mine, wanted in ((fast.latents, slow.latents), (fast.weights, slow.weights)):
            assert float((mine - wanted).abs().max()) <= 2e-3 * float(wanted.abs().max()) + 1e-9


def test_noise_is_kumaraswamys() -> None:
    uniform, narrow = fit.noise_table(1.0), fit.noise_table(2.0)
    assert np.allclose(uniform, (np.arange(fit.NOISES) + 0.5) / fit.NOISES - 0.5, atol=1e-6)
    assert narrow.min() >= -0.5 and narrow.max() <= 0.5 and narrow.std() < uniform.std()
    dense = np.histogram(narrow, 20, (-0.5, 0.5))[0].argmax()
    assert dense in (9, 10), "the mode is at 0"


def test_tables_are_laplace_distributions() -> None:
    tables, rows = laplace(), exact.table_rows()
    assert len(rows) == SCALES * FRACTIONS
    for i, row in enumerate(rows):
        assert row[0] == 0 and row[-1] == TOTAL and np.diff(row).min() >= 1
        assert len(row) == tables.count[i // FRACTIONS] + 2
    for scale, f in ((0, 8), (20, 3), (45, 0), (63, 15)):
        row = np.array(rows[scale * FRACTIONS + f])
        symbols = tables.low[scale] + np.arange(len(row) - 1)
        wanted = scipy_laplace.cdf(symbols - 0.5, f / FRACTIONS, np.exp((scale - 29) / 8))
        assert np.abs(row[:-1] / TOTAL - wanted).max() < 0.03


def test_the_coder_gives_back_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, tables = np.random.default_rng(0), laplace()
    for spread in (0, 1, 50, LIMIT):
        which = draw.integers(0, SCALES * FRACTIONS, 3000)
        symbols = draw.integers(-spread, spread + 1, 3000)
        intervals = tables.intervals(which, symbols)
        data = encoded(*intervals)
        with plain(monkeypatch):
            assert encoded(*intervals) == data, "Python writes the same bytes"
        assert Decoder(data).symbols(which.tolist(), tables, exact.table_rows()) == symbols.tolist()
        assert abs(8 * len(data) - tables.cost(which, symbols)) < 64
    assert encoded(*tables.intervals(which[:0], symbols[:0])) == b""


@pytest.mark.parametrize("shape", SHAPES)
def test_numpy_and_the_kernel_decode_alike(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled():
        pytest.skip("needs a C++ compiler")
    for largest in (3, LIMIT):
        groups, grids = made(*shape, largest)
        stream = codec().write(groups, grids, (*shape, 3))
        decoded = codec().decompress(stream)
        with plain(monkeypatch):
            assert codec().write(groups, grids, (*shape, 3)) == stream
            assert np.array_equal(codec().decompress(stream), decoded)


def test_extreme_weights_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled():
        pytest.skip("needs a C++ compiler")
    signs = np.where(np.arange(layout.WEIGHTS) % 3, 1, -1)
    vector = signs * (weights.LARGEST - (np.arange(layout.WEIGHTS) % 1000) / 1024)
    _, grids = made(20, 31, LIMIT)
    fast = [exact.picture(grids, vector), *(np.stack(exact.predict(g, 3, vector)) for g in grids)]
    with plain(monkeypatch):
        slow = [exact.picture(grids, vector), *(np.stack(exact.predict(g, 3, vector)) for g in grids)]
    assert all(np.array_equal(a, b) for a, b in zip(fast, slow, strict=True))


def test_the_bytes_are_pinned() -> None:
    groups, grids = made(29, 41)
    stream = codec().write(groups, grids, (29, 41, 3))
    decoded = codec().decompress(stream)
    found = [hashlib.sha256(data).hexdigest()[:16] for data in (bitstream.unpack(stream, None).chunks[0], decoded)]
    assert found == ["d81ed12e382ec1ba", "097ec1a2e8699806"], "a change of any byte is a new version of the format"


def test_every_damage_of_the_payload_is_noticed() -> None:
    groups, grids = made(12, 17)
    stream = codec().write(groups, grids, (12, 17, 3))
    known = bitstream.unpack(stream, None)
    payload = known.chunks[0]
    draw = np.random.default_rng(3)
    for _ in range(60):
        changed = bytearray(payload)
        changed[int(draw.integers(len(payload)))] ^= int(draw.integers(1, 256))
        for damaged in (bytes(changed), payload[: int(draw.integers(len(payload)))], b""):
            resealed = bitstream.pack(
                Stream(known.fingerprint, 12, 17, 3, (damaged,), known.symbols_check)
            )  # with a CRC32 that is right
            with pytest.raises(BitstreamError):
                codec().decompress(resealed)


def test_threads_do_not_change_the_stream() -> None:
    image, before = ramp(40, 52), torch.get_num_threads()
    try:
        streams = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            streams.append(codec().compress(image))
            assert torch.get_num_threads() == threads, "the caller's number stays"
    finally:
        torch.set_num_threads(before)
    assert streams[0] == streams[1]


def test_steps_and_lambda_do_what_they_say() -> None:
    image = ramp(48, 64)

    def cost(lmb: float, steps: int) -> tuple[float, float]:
        stream = CoolChicSmall(lmb=lmb, steps=steps).codec().compress(image)
        decoded = codec().decompress(stream)  # that of another lambda and effort
        error = float(np.square(decoded / 255.0 - image / 255.0).mean())
        return error, 8 * len(stream) / image[..., 0].size

    (few_error, few_bits), (error, bits) = cost(0.001, 10), cost(0.001, 150)
    assert error + 0.001 * bits < 0.7 * (few_error + 0.001 * few_bits)
    cheap_error, cheap_bits = cost(0.02, 150)
    assert cheap_bits < bits and cheap_error > error


def test_encoding_works_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    image = ramp(18, 23)[..., :1]
    with plain(monkeypatch):
        stream = codec(3).compress(image)
        decoded = codec().decompress(stream)
    assert np.array_equal(codec().decompress(stream), decoded) and decoded.shape == image.shape


def test_a_measurement_warms_up_with_one_step() -> None:
    method = CoolChicSmall(lmb=0.004, steps=500)
    warm = method.warming(method.codec())
    assert warm.steps == 1 and warm.lmb == 0.004  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", [{"lmb": 0}, {"lmb": float("nan")}, {"lmb": "x"}, {"steps": 0}, {"steps": 1.5}])
def test_wrong_parameters_are_refused_with_a_sentence(wrong: dict[str, object]) -> None:
    with pytest.raises(TesseraError, match=r"coolchic_small must be a (whole )?number from"):
        CoolChicSmall(**wrong)  # type: ignore[arg-type]
