"""QRes-VAE streams on other floats than the encoder's: nudges, other kernels, layouts, batches; fast path, memory."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from core import portable as agreement
from core.bitstream import BitstreamError, DecodeMismatch
from core.codec import TesseraError
from core.entropy import Decoder, Encoder, ideal_bits
from core.frequencies import gaussian_tables
from core.portable import BAND, CROWDED, PLAIN, Grid, Reader, Writer
from qres import inference
from qres.architectures import QRES3M_VR, QRES34M_LOSSLESS
from qres.codec import PIXEL_MEANS, PIXEL_SCALES, SCALES, QResCodec, scales
from qres.correction import Correction
from qres.network import QResVAE
from tests.support.golden_qres import fill

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")
GRIDS = (SCALES, PIXEL_SCALES, PIXEL_MEANS)
CORRECTION = Correction(scales(SCALES))


def numbers(grid: Grid, count: int, seed: int = 0) -> np.ndarray:
    """Numbers all over a grid and beyond its ends, and a spike at a border."""
    rng = np.random.default_rng(seed)
    spread = grid.start + grid.width * rng.uniform(-2, grid.cells + 1, count)
    spread[: count // 3] = grid.start + grid.width * 10.5 + rng.normal(0, grid.tolerance, count // 3)
    return rng.permutation(spread)


@pytest.mark.parametrize("grid", GRIDS)
def test_cells_survive_any_difference_within_the_tolerance(grid):
    ours = numbers(grid, 20_000)
    nudges = grid.nudges(ours)
    plain = np.zeros_like(nudges[0]), nudges[1][:0]
    cells = grid.index(ours, *nudges)
    for seed in range(5):
        noise = np.random.default_rng(seed).uniform(-1, 1, len(ours)) * grid.tolerance * 0.999
        assert np.array_equal(grid.index(ours + noise, *nudges), cells)
        assert not np.array_equal(grid.index(ours + noise, *plain), grid.index(ours, *plain))


@pytest.mark.parametrize("grid", GRIDS)
def test_without_nudges_a_cell_is_the_nearest(grid):
    ours = numbers(grid, 5000)
    middles = grid.start + grid.width * np.arange(grid.cells)
    nearest = np.abs(ours[:, None] - middles).argmin(axis=1)
    assert np.array_equal(grid.index(ours, *agreement._unmoved(ours, grid)), nearest)


@pytest.mark.parametrize("grid", GRIDS)
def test_evenly_spread_numbers_leave_no_nudge_for_their_group_but_one_for_each_part(grid):
    ours = np.resize(
        grid.start + grid.width * np.linspace(5, 6, grid.part * grid.parts), 2 * grid.part * grid.parts + 9
    )
    nudges, own = grid.nudges(ours)
    assert nudges[:2].tolist() == [CROWDED] * 2 and nudges[2] < CROWDED and own.max() < CROWDED
    noise = np.random.default_rng(0).uniform(-1, 1, len(ours)) * grid.tolerance * 0.999
    assert np.array_equal(grid.index(ours + noise, nudges, own), grid.index(ours, nudges, own))


@pytest.mark.parametrize("count", [1, 100, 30_000])
def test_reader_mirrors_writer(count):
    logs = numbers(SCALES, count)
    symbols = np.rint(np.random.default_rng(1).normal(0, np.exp(logs.clip(-2, 4))))
    writer = Writer(b"test", (1, 1, 3))
    writer.channels(symbols, logs, SCALES, CORRECTION, 70)
    writer.note(np.arange(3))
    reader = Reader(writer.finish(), b"test")
    shifted = logs + 0.9 * SCALES.tolerance
    assert np.array_equal(reader.channels(shifted, SCALES, CORRECTION, 70), symbols)
    reader.note(np.arange(3))
    reader.finish()
    reader.note(np.arange(1))
    with pytest.raises(DecodeMismatch):
        reader.finish()


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(TesseraError, match="not finite"):
        Writer(b"test", (1, 1, 3)).cells(np.array([0.0, np.nan]), SCALES)


# -- whole streams --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> QResVAE:
    torch.manual_seed(0)
    made = QResVAE(QRES3M_VR, 64)
    for parameter in made.parameters():  # a fresh model codes nothing but zeros
        if parameter.dim() > 1:
            parameter.data.mul_(1.5).add_(torch.randn_like(parameter) * 0.02)
    return made.eval()


@pytest.fixture(scope="module")
def lossless() -> QResVAE:
    return fill(QResVAE(QRES34M_LOSSLESS, 1))


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    smooth = (
        128
        + 60 * np.sin(rows / 17)[..., None]
        + 50 * np.cos(columns / 23 + np.arange(channels)[:, None, None]).T.swapaxes(0, 1)
    )
    return (smooth + np.random.default_rng(height).normal(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8)


def elsewhere(model: QResVAE, layout: torch.memory_format = torch.contiguous_format) -> QResCodec:
    """A codec that runs the plain modules in another layout, without oneDNN."""
    with torch.backends.mkldnn.flags(enabled=False):
        model.memory_format = layout
        codec = QResCodec(model, "model", b"test")
        model.memory_format = torch.channels_last
    assert codec.network is model
    return codec


class Disturbed:
    """A network whose prior scales (and pixel predictions) are off by up to ``by``."""

    def __init__(self, network, by: float) -> None:
        self._network, self._by, self._noise = network, by, torch.Generator().manual_seed(0)

    def __getattr__(self, name):
        return getattr(self._network, name)

    def _off(self, x):
        return x + (torch.rand(x.shape, generator=self._noise) * 2 - 1) * self._by

    def top_down(self, shape, visit, condition=None):
        def off(i, block, f, prior):
            return visit(i, block, f, prior._replace(scale=torch.exp(self._off(torch.log(prior.scale)))))

        return self._network.top_down(shape, off, condition)

    def pixel_prior(self, last):
        mean, scale = self._network.pixel_prior(last)
        return self._off(mean) - self._by * 0, self._off(scale)


@pytest.mark.parametrize("shape", [(1, 1, 3), (100, 140, 3), (128, 64, 1)])
def test_streams_decode_with_other_kernels_and_layouts(model, shape):
    image, here = picture(*shape), QResCodec(model, "model", b"test")
    stream = here.compress(image)
    expected = here.decompress(stream)
    for other in (elsewhere(model), elsewhere(model, torch.channels_last)):
        with torch.backends.mkldnn.flags(enabled=False):
            assert np.abs(other.decompress(stream).astype(int) - expected).max() <= 1
            back = other.compress(image)
        assert np.abs(here.decompress(back).astype(int) - expected).max() <= 1


def test_disturbed_scales_decode_exactly_and_without_nudges_are_noticed(model):
    image = picture(256, 256)
    codec = QResCodec(model, "model", b"test")
    safe = codec.compress(image)
    plain = QResCodec(model, "model", b"test", portable=False).compress(image)
    expected = codec.decompress(safe)
    assert np.array_equal(codec.decompress(plain), expected)
    assert len(plain) <= len(safe) <= 1.01 * len(plain)
    codec.network = Disturbed(codec.network, 0.9 * SCALES.tolerance)
    assert np.array_equal(codec.decompress(safe), expected)
    with pytest.raises(BitstreamError):
        codec.decompress(plain)
    codec.network = Disturbed(codec.network, 30 * SCALES.tolerance)
    with pytest.raises(BitstreamError):
        codec.decompress(safe)


def test_lossless_stays_exact_or_fails(lossless):
    image = picture(64, 70)
    codec = QResCodec(lossless, "model", b"test")
    streams = {mode: QResCodec(lossless, "model", b"test", portable=mode).compress(image) for mode in (True, False)}
    codec.network = Disturbed(codec.network, 2e-5)  # 0.0025 grey levels
    assert np.array_equal(codec.decompress(streams[True]), image)
    with pytest.raises(BitstreamError):
        codec.decompress(streams[False])
    with torch.backends.mkldnn.flags(enabled=False):
        assert np.array_equal(elsewhere(lossless).decompress(streams[True]), image)


def test_a_wrong_pixel_mean_is_noticed():
    """Means on the wrong side of a border give wrong pixels without disturbing the symbols: the check covers pixels."""
    writer, pixels = Writer(b"test", (1, 1, 3), PLAIN), np.array([7, 7])
    writer.symbols(
        pixels - writer.cells(np.array([6.49, 7.2]), PIXEL_MEANS),
        np.zeros(2),
        PIXEL_SCALES,
        gaussian_tables(scales(PIXEL_SCALES)),
    )
    writer.note(pixels)
    reader = Reader(writer.finish(), b"test")
    means = reader.cells(np.array([6.51, 7.2]), PIXEL_MEANS)
    reader.note(means + reader.symbols(np.zeros(2), PIXEL_SCALES, gaussian_tables(scales(PIXEL_SCALES))))
    with pytest.raises(DecodeMismatch):
        reader.finish()


def test_batches(model):
    images = [picture(60, 90), picture(64, 96), picture(33, 65, 1)]
    codec = QResCodec(model, "model", b"test")
    together = codec.compress_batch(images)
    alone = [codec.compress(image) for image in images]
    for image, a, b, c in zip(images, together, alone, codec.decompress_batch(alone), strict=True):
        one = codec.decompress(a)
        assert one.shape == c.shape == image.shape
        assert np.abs(codec.decompress(b).astype(int) - c).max() <= 1
        assert np.abs(one.astype(int) - c).mean() < 1
    with pytest.raises(TesseraError, match="one size"):
        codec.compress_batch([picture(64, 64), picture(65, 64)])


# -- the fast path --------------------------------------------------------------------------------------------------


def outputs(network, model: QResVAE, x: torch.Tensor) -> list[torch.Tensor]:
    """Posterior and prior of every block, and the last state, on the quantised path."""
    out, condition = [], model.condition(torch.full((len(x),), 64.0))

    def visit(i, block, f, prior):
        mean = block.infer(f, features[f.shape[2]])
        out.extend((mean, prior.mean, prior.scale))
        return torch.round(4 * mean.detach()) / 4

    with torch.inference_mode():
        features = network.features(x, condition)
        out.append(network.top_down((len(x), x.shape[2] // 32, x.shape[3] // 32), visit, condition))
    return [x.clone() for x in out]


@pytest.mark.parametrize("strip", [inference.STRIP, 16])
def test_fast_network_equals_the_model(model, monkeypatch, strip):
    monkeypatch.setattr(inference, "STRIP", strip)
    x = torch.from_numpy(np.stack([picture(160, 96), picture(160, 96) // 2])).permute(0, 3, 1, 2).float() / 255
    for fast, plain in zip(outputs(inference.Network(model), model, x), outputs(model, model, x), strict=True):
        assert fast.shape == plain.shape
        torch.testing.assert_close(fast, plain, rtol=1e-3, atol=1e-3)


def test_callers_precision_does_not_matter(model):
    image, codec = picture(64, 64), QResCodec(model, "model", b"test")
    stream = codec.compress(image)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert codec.compress(image) == stream
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


PEAK = """
import numpy as np, pathlib, torch
torch.set_num_threads(1)
from qres.codec import QResCodec
from qres.architectures import QRES3M_VR
from qres.network import QResVAE
codec = QResCodec(QResVAE(QRES3M_VR, 64), "model", b"test")
image = np.random.default_rng(0).integers(0, 256, ({side}, {side}, 3), dtype=np.uint8)
assert codec.decompress(codec.compress(image)).shape == image.shape
status = pathlib.Path("/proc/self/status").read_text()  # ru_maxrss begins with what the parent process had
print(status.partition("VmHWM:")[2].split()[0])
"""


def peak_mb(side: int) -> float:
    done = subprocess.run([sys.executable, "-c", PEAK.format(side=side)], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024 / 1e6


def test_memory_of_a_large_image_is_bounded():
    """What 2048 x 2048 adds to a small image, times four, is what 4096 x 4096 adds: at most 3 GB in all."""
    small, large = peak_mb(256), peak_mb(2048)
    assert small + 4 * (large - small) < 3000


@pytest.mark.parametrize(("count", "size"), [(0, 1), (2 * BAND + 5, 1), (3 * (BAND + 7), BAND + 7), (30_000, 100)])
def test_bands_cover_everything_and_split_no_channel_without_need(count, size):
    cuts = list(agreement.bands(count, size))
    assert [i for cut in cuts for i in (cut.start, cut.stop)] == [
        i for a, b in itertools.pairwise([0, *(cut.stop for cut in cuts)]) for i in (a, b)
    ]
    assert all(cut.stop - cut.start <= BAND for cut in cuts) and (cuts[-1].stop if cuts else 0) == count
    assert all(cut.start // size == (cut.stop - 1) // size or cut.start % size == 0 for cut in cuts)


# -- corrections ----------------------------------------------------------------------------------------------------


def coded(symbols: np.ndarray, cells: np.ndarray, correction: Correction) -> int:
    encoder = Encoder()
    correction.write(encoder, symbols, cells, 4000)
    payload = encoder.finish()
    assert np.array_equal(correction.read(Decoder(payload), cells, 4000), symbols)
    return len(payload)


def test_corrections_save_what_a_wrong_prior_costs_and_cost_nothing_when_it_is_right():
    rng, cells = np.random.default_rng(5), np.repeat([10, 20, 30], 4000)
    sigma = scales(SCALES)[cells]
    tables = gaussian_tables(scales(SCALES))
    right = np.rint(rng.normal(0, sigma)).astype(int)
    assert coded(right, cells, CORRECTION) <= ideal_bits(right, cells, tables) / 8 + 2
    moved = np.rint(rng.normal(0.4, sigma * 1.15**3)).astype(int)
    cost = ideal_bits(moved, cells, tables) / 8
    best = ideal_bits(moved, cells + 3, gaussian_tables(scales(SCALES), means=0.4)) / 8
    assert best - 5 < coded(moved, cells, CORRECTION) < best + 25 < cost


def test_corrections_take_symbols_far_outside_their_tables():
    symbols, cells = np.array([0, 3, -(10**6), 40]), np.array([0, 0, 0, 47])
    assert coded(symbols, cells, CORRECTION) < 30


@pytest.mark.parametrize("fast", [True, False])
def test_features_of_large_images_in_bfloat16_cost_next_to_nothing(monkeypatch, fast):
    model = fill(QResVAE(QRES3M_VR, 64))
    if not fast:
        model.memory_format = torch.contiguous_format
    codec = QResCodec(model, "model", b"test")
    image = np.random.default_rng(2).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    exact = codec.compress(image)
    monkeypatch.setattr("qres.codec.LARGE", 0)
    stream = codec.compress(image)
    assert stream != exact and abs(len(stream) / len(exact) - 1) < 0.003
    difference = np.abs(codec.decompress(stream).astype(int) - codec.decompress(exact))
    assert difference.mean() < 2
