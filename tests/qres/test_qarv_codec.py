"""QARV as a codec and a generator, on a small network of its blocks: streams, rates, previews, weights, fast path."""

from __future__ import annotations

import hashlib
import io
import json
import math
from functools import cache

import numpy as np
import pytest
import torch

from core import checkpoint
from core.bitstream import BitstreamError
from core.codec import TesseraError
from core.registry import METHODS, discover
from qres import bits, generate, inference, preview
from qres.architectures import QARV_BASE, QRES34M, Architecture
from qres.codec import QResCodec
from qres.qarv import QARVModel
from tests.support.golden_qarv import fill
from tests.support.mirror import local_server
from tests.support.shared import shared

discover()
SMALL = Architecture(
    (
        ("patch", 16, 4), *(("cnx", 16, 7),) * 2, ("down", 16, 24, 2), ("cnx", 24, 5), ("key",), ("cnx", 24, 7),
        ("down", 24, 32, 2), ("cnx", 32, 3), ("key",), ("cnx", 32, 7), ("down", 32, 32, 2), ("cnx", 32, 1), ("key",),
    ),
    (
        ("latent", 32, 8, 1, 4, 32), ("cnx", 32, 1, 4), ("up", 32, 32, 2), ("cnx", 32, 3, 3),
        *(("latent", 32, 12, 3, 2, 32),) * 2, ("up", 32, 24, 2), *(("latent", 24, 4, 7, 1.75, 24),) * 2, ("stop",),
        ("cnx", 24, 7, 1.75), ("up", 24, 16, 2), ("cnx", 16, 7, 1.5), ("up", 16, 3, 4),
    ),
    -0.45, 3.7, embedding=64,
)  # fmt: skip


@cache
def made(lmb: float) -> QARVModel:
    return fill(QARVModel(SMALL, lmb))


def model(lmb: float = 64) -> QARVModel:
    return made(lmb)


def codec(lmb: float = 64, portable: bool = True) -> QResCodec:
    return QResCodec(model(lmb), "qarv", b"test", portable)


def picture(height: int = 96, width: int = 130, channels: int = 3) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(rows / (5 + c) + columns / (9 - c)) for c in range(channels)]
    noise = np.random.default_rng(height + width).normal(0, 9, (height, width, channels))
    return np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def test_features_are_those_at_the_keys():
    assert QARV_BASE.kept == {15, 24, 31, 38} and QARV_BASE.stride == 64
    assert QRES34M.kept == {6, 13, 20, 25, 28}
    assert SMALL.stride == 32
    features = model().features(torch.rand(1, 3, 64, 96), model().condition(torch.tensor([64.0])))
    assert {height: f.shape[1] for height, f in features.items()} == {8: 24, 4: 32, 2: 32}


# -- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 70, 3), (33, 31, 1), (96, 130, 3)])
def test_any_size(shape):
    image, mine = picture(*shape), codec()
    stream = mine.compress(image)
    decoded = mine.decompress(stream)
    assert decoded.shape == shape and decoded.dtype == np.uint8
    assert stream == mine.compress(image) and np.array_equal(decoded, mine.decompress(stream))
    assert mine.payload_bits(stream) < 1.02 * mine.bits(image) + 100


def test_lambda_travels_in_the_stream():
    """One file of weights, every rate: a decoder made for another lambda decodes what is in the stream."""
    image = picture()
    low, high = (codec(lmb).compress(image) for lmb in (16, 2048))
    pictures = [codec(lmb).decompress(stream) for lmb in (16, 2048) for stream in (low, high)]
    assert np.array_equal(pictures[0], pictures[2]) and np.array_equal(pictures[1], pictures[3])
    assert low != high and not np.array_equal(pictures[0], pictures[1])


def test_streams_decode_with_other_kernels_layouts_and_in_batches():
    image, here = picture(), codec()
    stream = here.compress(image)
    expected = here.decompress(stream)
    for layout in (torch.contiguous_format, torch.channels_last):
        with torch.backends.mkldnn.flags(enabled=False):
            model().memory_format = layout
            there = codec()
            model().memory_format = torch.channels_last
            assert there.network is model()
            assert np.abs(there.decompress(stream).astype(int) - expected).max() <= 1
            back = there.compress(image)
        assert np.abs(here.decompress(back).astype(int) - expected).max() <= 1
    two = here.decompress_batch([codec(1024).compress(image), stream])
    assert np.abs(two[1].astype(int) - expected).max() <= 1
    assert np.abs(two[0].astype(int) - codec(1024).decompress(codec(1024).compress(image))).max() <= 1


def test_a_decoder_that_drifts_within_the_tolerance_decodes_and_beyond_it_refuses():
    image, mine = picture(), codec()
    safe, plain = mine.compress(image), codec(portable=False).compress(image)
    expected = mine.decompress(safe)
    assert np.array_equal(mine.decompress(plain), expected)
    bias = model().dec_blocks[4].prior.bias
    before, scales = bias.data.clone(), torch.arange(len(bias)) >= len(bias) // 2
    try:
        bias.data = before + 4e-5 * scales
        assert np.abs(codec().decompress(safe).astype(int) - expected).max() <= 1
        bias.data = before + 0.06 * scales
        with pytest.raises(BitstreamError):
            codec().decompress(safe)
    finally:
        bias.data = before


def test_a_lambda_that_cannot_travel_is_refused():
    for lmb in (0, -3, 70_000, math.inf, math.nan):
        with pytest.raises(TesseraError, match="cannot travel"):
            QResCodec(model(lmb), "qarv", b"test")


# -- the fast path --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strip", [inference.STRIP, 16])
def test_fast_network_equals_the_model(monkeypatch, strip):
    monkeypatch.setattr(inference, "STRIP", strip)
    plain, condition = model(), model().condition(torch.tensor([64.0, 900.0]))
    x = torch.from_numpy(np.stack([picture(160, 96), picture(160, 96) // 2])).permute(0, 3, 1, 2).float() / 255

    def outputs(network):
        out = []

        def visit(i, block, f, prior):
            before = features[f.shape[2]].clone(), f.clone()
            mean = block.infer(f, features[f.shape[2]], condition)
            assert torch.equal(before[0], features[f.shape[2]]) and torch.equal(before[1], f)
            out.extend(y.clone() for y in (mean, prior.mean, prior.scale))
            return torch.round(4 * mean) / 4

        with torch.inference_mode():
            features = network.features(x, condition)
            out.extend(y.clone() for y in features.values())
            out.append(network.top_down((2, 5, 3), visit, condition))
        return out

    for fast, expected in zip(outputs(inference.Network(plain)), outputs(plain), strict=True):
        torch.testing.assert_close(fast, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fast", [True, False])
def test_features_of_large_images_in_bfloat16_cost_next_to_nothing(monkeypatch, fast):
    mine = codec()
    mine.network = mine.network if fast else mine.model
    exact = mine.compress(picture())
    monkeypatch.setattr("qres.codec.LARGE", 0)
    stream = mine.compress(picture())
    assert stream != exact and abs(len(stream) / len(exact) - 1) < 0.01
    assert np.abs(mine.decompress(stream).astype(int) - mine.decompress(exact)).mean() < 2


# -- beyond coding --------------------------------------------------------------------------------------------------


def test_levels_of_a_stream_and_of_a_cut_file():
    mine, image = codec(), picture()
    stream = mine.compress(image)
    known = generate.latents(mine.model, generate.to_tensor(mine.model, image))
    views = preview.progressive(mine, stream)
    assert [view.levels for view in views] == list(range(6))
    assert np.array_equal(views[-1].image, mine.decompress(stream))
    np.testing.assert_allclose([view.bits for view in views], np.cumsum([0, *known.bits]), rtol=1e-3)
    sizes = [view.bytes for view in views]
    assert sizes == sorted(sizes) and sizes[-1] <= len(stream)
    for view in views[1:]:
        assert preview.preview(mine, stream[: view.bytes]).levels >= view.levels
        assert preview.preview(mine, stream[: view.bytes - 1]).levels < view.levels
    maps = bits.levels(mine.model, image)
    assert [part.stride for part in maps] == [32, 16, 16, 8, 8]
    assert sum(part.total for part in maps) == pytest.approx(mine.bits(image), rel=1e-4)


def test_samples_blends_and_repairs():
    net, a, b = model(), picture(60, 64), picture(60, 64)[::-1].copy()
    assert [image.shape for image in generate.sample_images(net, 2, 40, 70, 0.5)] == [(40, 70, 3)] * 2
    at_low, at_high = (generate.sample_images(net, 1, 32, 32, 0.0, lmb=lmb)[0] for lmb in (16, 2048))
    assert not np.array_equal(at_low, at_high)
    blends = generate.interpolate(net, a, b, 3)
    for image, original in ((blends[0], a), (blends[-1], b)):
        assert np.abs(image.astype(int) - codec().decompress(codec().compress(original))).max() <= 1
    box = (0.25, 0.3, 0.6, 0.7)
    repaired = [generate.inpaint(net, x, box, steps=1) for x in (a, generate.masked(a, box))]
    assert np.array_equal(*repaired) and repaired[0].shape == a.shape


# -- training -------------------------------------------------------------------------------------------------------


def test_lambdas_are_drawn_evenly_in_the_cube_root():
    net = QARVModel(SMALL, 64).train()
    torch.manual_seed(0)
    drawn = net.draw_lambda(torch.zeros(20_000, 1))
    place = (drawn ** (1 / 3) - 16 ** (1 / 3)) / (2048 ** (1 / 3) - 16 ** (1 / 3))
    assert float(drawn.min()) >= 15.999 and float(drawn.max()) <= 2048.1
    assert torch.quantile(place, torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.015)
    assert net.loss_weight(drawn).eq(1).all()
    assert net.eval().draw_lambda(torch.zeros(3, 1)).tolist() == [64.0] * 3


def test_every_weight_is_trained():
    net = fill(QARVModel(SMALL, 64)).train()
    for straight in (False, True):
        net.straight_through = straight
        net.zero_grad()
        net(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


# -- weights --------------------------------------------------------------------------------------------------------


def test_official_weights_are_fetched_checked_and_loaded(tmp_path, monkeypatch):
    """A file with the layout of the published one, from a local server; its values are one number for each tensor."""
    (entry,) = [entry for entry in checkpoint.manifest() if entry["method"] == "qarv_base"]
    keys = json.loads(shared("specs/qarv_state_keys_qarv_base.json").read_text())
    state = {name: torch.full((1,), i / 1000).expand(shape or 1) for i, (name, shape) in enumerate(keys.items())}
    buffer = io.BytesIO()
    torch.save({"model": state}, buffer)
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))
    method = METHODS["qarv_base"](lmb=300)
    with local_server() as web:
        web.files["qarv.pt"] = buffer.getvalue()
        monkeypatch.setattr(checkpoint, "manifest", lambda: [{**entry, "url": f"{web.url}/qarv.pt"}])
        for _ in range(2):
            found = checkpoint.find(method, "official")
        assert len(web.requests) == 1
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    assert found.id == f"qarv_base-{digest[:8]}" and "non-commercial" in found.meta["licence"]
    assert json.loads((tmp_path / "cache" / "weights.lock.json").read_text()) == {"qarv_base": digest}
    loaded = checkpoint.load(method, found)
    assert loaded.lmb == 300
    for name, value in loaded.state_dict().items():
        assert bool((value == state[name]).all())
    found.path.unlink()  # 374 MB


def test_the_manifest_does_not_claim_a_checksum_nobody_published():
    (entry,) = [entry for entry in checkpoint.manifest() if entry["method"] == "qarv_base"]
    assert entry["sha256"] is None and "first one fetched is recorded" in entry["source"]
    assert entry["url"].endswith("/qarv_base-2022-dec-12.pt")
