"""Streams of the VAEs of relative entropy coding: round trips, other floats, what is counted, damage, mistakes."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import bitstream
from core.bitstream import BitstreamError, DecodeMismatch
from core.codec import Image, Method, TesseraError
from core.registry import METHODS, discover
from rec.latents import Settings
from rec.lossless import LosslessCodec
from rec.lossy import LossyCodec

discover()
LOSSLESS = {"num_res_blocks": 2, "deterministic_filters": 12, "stochastic_filters": 3}
LOSSY = {"level_1_filters": 8, "level_2_filters": 6}
LIKELIHOODS = ("discretized_logistic", "discretized_logistic_rgb")


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Image:
    rng = np.random.default_rng([seed, height, width, channels])
    rows, columns = np.mgrid[:height, :width]
    plane = 60 + rows[..., None] + columns[..., None] + rng.normal(0, 12, (height, width, channels))
    return plane.clip(0, 255).astype(np.uint8)


@cache
def model(name: str, **params: Any) -> tuple[Method, torch.nn.Module]:
    """A method and weights under which latents carry some nats, as if it had been trained a little."""
    torch.manual_seed(0)
    method = METHODS[name](**params)
    net = method.model()
    for key, value in net.state_dict().items():
        if key.endswith(("infer_loc.g", "posterior_loc.g")):
            value.fill_(-0.5)
        elif key.endswith("log_scale") and value.ndim == 0:
            value.fill_(math.log(20 / 256))
    return method, net.eval()


@cache
def lossless(likelihood: str = LIKELIHOODS[1], **params: Any) -> LosslessCodec:
    method, net = model("rvae_small", **LOSSLESS, likelihood=likelihood, **params)
    return method.codec(net)


@cache
def lossy(**params: Any) -> LossyCodec:
    method, net = model("irec2_small", **LOSSY, **params)
    return method.codec(net)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("shape", ((32, 32, 3), (17, 30, 3), (31, 9, 1), (1, 1, 3), (1, 40, 1)))
def test_lossless_round_trip(likelihood: str, shape: tuple[int, int, int]) -> None:
    codec, image = lossless(likelihood), picture(*shape)
    stream = codec.compress(image)
    assert np.array_equal(codec.decompress(stream), image) and codec.compress(image) == stream


def test_one_machine_s_floats_are_not_another_s() -> None:
    """A decoder whose network differs in the last digits finds the same pixels."""
    codec, image = lossless(), picture(32, 32)
    method, net = model("rvae_small", **LOSSLESS, likelihood=LIKELIHOODS[1])
    other = method.codec(net)
    generate, rng = net.generate, torch.Generator().manual_seed(3)

    def perturbed(offsets: Any, size: Any, visit: Any) -> torch.Tensor:
        out = generate(offsets, size, visit)
        return out + 2e-6 * (2 * torch.rand(out.shape, generator=rng) - 1)  # of a range of 1: 1 / 2000 level

    stream = codec.compress(image)
    try:
        net.generate = perturbed
        assert np.array_equal(other.decompress(stream), image)
    finally:
        net.generate = generate


def test_streams_are_small_where_the_model_is_good() -> None:
    """The file is what the model says it should be, but for what is counted separately."""
    for image in (picture(32, 32), picture(32, 32, 1)):
        codec = lossless()
        stream, account = codec.encode(image)
        assert (
            account.file
            == 8 * len(stream)
            == account.latents_file + account.residual_file + 8 * (len(stream) - codec.payload_bits(stream) // 8)
        )
        assert account.residual_ideal <= account.residual_file <= account.residual_ideal + 40 * image.shape[2] + 64
        assert account.latents_counted <= account.latents_file + 32
        assert account.accounted < account.file
        elbo = codec.bits(image)
        assert elbo == codec.bits(image) and 0.8 * elbo < account.file < 1.6 * elbo


def test_grey_images_cost_one_colour() -> None:
    codec = lossless()
    grey = picture(32, 32, 1)
    assert codec.account(grey).residual_file < 0.5 * codec.account(np.repeat(grey, 3, axis=2)).residual_file


def test_padding_has_no_coded_pixels() -> None:
    codec = lossless()
    even, odd = picture(32, 32), picture(32, 32)[:31, :31]
    assert codec.account(odd).residual_ideal < codec.account(even).residual_ideal


@pytest.mark.parametrize("coder", ("beam_search", "irec_importance"))
def test_every_coder_of_blocks(coder: str) -> None:
    codec, image = lossless(coder=coder, n_beams=3, block_size=200), picture(16, 16)
    assert np.array_equal(codec.decompress(codec.compress(image)), image)


def test_settings_are_part_of_the_stream() -> None:
    image = picture(16, 16)
    stream = lossless().compress(image)
    for other in ({"compression_seed": 7}, {"n_beams": 3}, {"kl_per_partition": 2.0}):
        with pytest.raises(BitstreamError, match="decode it with the method, parameters and weights"):
            lossless(**other).decompress(stream)


@pytest.mark.parametrize("shape", ((64, 64, 3), (33, 70, 3), (20, 20, 1), (1, 1, 3)))
def test_lossy_round_trip(shape: tuple[int, int, int]) -> None:
    codec, image = lossy(), picture(*shape)
    stream = codec.compress(image)
    decoded = codec.decompress(stream)
    assert decoded.shape == shape and decoded.dtype == np.uint8
    assert np.array_equal(codec.decompress(stream), decoded) and codec.compress(image) == stream


@pytest.mark.parametrize("name, params", (("irec1", {"filters": 6}), ("irec4", {"filters": (6, 5, 4, 3)})))
def test_one_and_four_levels(name: str, params: dict[str, Any]) -> None:
    method, net = model(name, **params)
    codec = method.codec(net)
    decoded = codec.decompress(codec.compress(picture(40, 70)))
    assert decoded.shape == (40, 70, 3)


def test_the_ideal_of_a_lossy_codec() -> None:
    codec, image = lossy(), picture(64, 64)
    ideal, (stream, levels) = codec.ideal(image), codec.encode(image)
    assert ideal.bits == codec.bits(image) and ideal.image.shape == image.shape
    assert levels[0].kl_bits <= ideal.bits and sum(v.file_bits for v in levels) == codec.payload_bits(stream)
    state = torch.get_rng_state()
    codec.ideal(image)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers go on"


def test_damage() -> None:
    for codec in (lossless(), lossy()):
        stream = codec.compress(picture(24, 24))
        for bad in (b"", b"\0" * 40, stream[:7], stream[: len(stream) // 2], stream[:-1] + bytes([stream[-1] ^ 1])):
            with pytest.raises(BitstreamError):
                codec.decompress(bad)


def test_damage_behind_the_checksum() -> None:
    """A payload that was changed and signed again is refused by the check of what was decoded."""
    for codec in (lossless(), lossy()):
        read = bitstream.unpack(codec.compress(picture(24, 24)), codec.fingerprint)
        for place in (1, len(read.chunks[0]) // 3, len(read.chunks[0]) - 2):
            payload = bytearray(read.chunks[0])
            payload[place] ^= 0x41
            forged = bitstream.pack(
                bitstream.Stream(read.fingerprint, 24, 24, 3, (bytes(payload),), read.symbols_check)
            )
            with pytest.raises(BitstreamError) as caught:
                codec.decompress(forged)
            assert 10 < len(str(caught.value)) < 400


def test_a_drifting_decoder_is_noticed() -> None:
    method, net = model("rvae_small", **LOSSLESS, likelihood=LIKELIHOODS[1])
    codec = method.codec(net)
    stream = codec.compress(picture(24, 24))
    generate = net.generate
    try:
        net.generate = lambda *args: generate(*args) + 0.01
        with pytest.raises((DecodeMismatch, BitstreamError)):
            codec.decompress(stream)
    finally:
        net.generate = generate


def test_posteriors_that_cannot_be_coded() -> None:
    for name, params in (("rvae_small", LOSSLESS), ("irec2_small", LOSSY)):
        method = METHODS[name](**params)
        net = method.model()
        for p in net.parameters():
            p.data.fill_(math.nan)
        with pytest.raises(TesseraError, match=r"weights"):
            method.codec(net).compress(picture(16, 16))


@pytest.mark.parametrize(
    "wrong, answer",
    (
        ({"coder": "beam_serch"}, "beam_search"),
        ({"block_size": 0}, "block_size=0"),
        ({"kl_per_partition": -1.0}, "kl_per_partition"),
        ({"compression_seed": -1}, "seed"),
    ),
)
def test_wrong_settings(wrong: dict[str, Any], answer: str) -> None:
    _, net = model("rvae_small", **LOSSLESS)
    bad = METHODS["rvae_small"](**LOSSLESS, **wrong)
    with pytest.raises(TesseraError, match=answer):
        bad.codec(net).compress(picture(8, 8))


def test_settings_reach_the_coder() -> None:
    coder = Settings(n_beams=7, kl_per_partition=2.0, extra_samples=1.5).make()
    assert (coder.n_beams, coder.kl_per_partition, coder.samples) == (7, 2.0, int(math.exp(3.0)))


CHILD = """
import sys
import numpy as np
import torch
from core import checkpoint
from core.registry import METHODS, discover

discover()
torch.set_num_threads(1)
method = METHODS["rvae_small"](num_res_blocks=2, deterministic_filters=12, stochastic_filters=3)
codec = method.codec(checkpoint.load(method, checkpoint.find(method, sys.argv[1])))
np.save(sys.argv[1] + "/decoded.npy", codec.decompress(open(sys.argv[1] + "/stream", "rb").read()))
"""


def test_a_fresh_process_decodes(tmp_path: Path) -> None:
    from core import checkpoint

    method, net = model("rvae_small", **LOSSLESS)
    checkpoint.save(tmp_path, net, {"method": "rvae_small"})
    image = picture(19, 22)
    (tmp_path / "stream").write_bytes(method.codec(net).compress(image))
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=True, cwd=root)
    assert np.array_equal(np.load(tmp_path / "decoded.npy"), image)


def test_rates_that_are_not_files(tmp_path: Path) -> None:
    """Cells of other accounts: measured like files, told apart from them, and refused by methods that have none."""
    from benchmarks.datasets import open_dataset
    from benchmarks.measure import harness
    from benchmarks.store import Cell, Store
    from benchmarks.tables import results

    images, store = open_dataset("sample", 1), Store(tmp_path)
    image = images.images[0].read()
    images = type(images)(**{**images.__dict__, "images": images.images[:1]})
    method, net = model("irec2_small", **LOSSY)
    codec, about = method.codec(net), harness.describe(method, images)
    for rate in ("file", "ideal"):
        cell = Cell(method.name, method.variant, method.point, images.name, images.split, 1, checkpoint="x", rate=rate)
        result = harness.measure(cell, codec, images, store, about=about, provenance={}, bar=False)
        wanted = codec.bits(image) if rate == "ideal" else 8 * len(codec.compress(image))
        assert result.means["bpp"] == pytest.approx(wanted / (image.shape[0] * image.shape[1]))
    with pytest.raises(TesseraError, match="known are file, ideal"):
        wrong = Cell(method.name, method.variant, method.point, images.name, images.split, 1, rate="asymptotic")
        harness.measure(wrong, codec, images, store, about=about, provenance={}, bar=False)
    assert results.lossless_table(store, folder=None).empty


def test_bits_back_on_the_same_model() -> None:
    codec = lossless(coder="bits_back")
    images = [picture(14, 11, seed=seed) for seed in range(3)]
    stream = codec.compress(images[0])
    assert np.array_equal(codec.decompress(stream), images[0]) and codec.compress(images[0]) == stream
    packed = codec.chain(images)
    for found, image in zip(codec.unchain(packed.payload, 3, (14, 11, 3)), images, strict=True):
        assert np.array_equal(found, image)
    assert codec.rated("asymptotic", images[0])[0] == pytest.approx(packed.net_bits[0], abs=1)
    for net, image in zip(packed.net_bits, images, strict=True):
        assert net == pytest.approx(codec.bits(image), rel=0.1), "the net cost is the negative ELBO"
    with pytest.raises(BitstreamError):
        codec.decompress(stream[:-4])
    with pytest.raises(TesseraError, match="images of one size"):
        codec.chain([images[0], picture(9, 9)])
