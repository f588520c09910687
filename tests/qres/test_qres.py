"""QRes-VAE: official names, golden outputs through forward and through real streams, odd sizes, damage."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from core.bitstream import BitstreamError, DecodeMismatch
from core.codec import TesseraError
from core.images import open_image
from core.registry import METHODS, discover, make_method
from qres import official
from qres.architectures import QRES3M_VR, QRES17M, QRES34M, QRES34M_LOSSLESS
from qres.codec import QResCodec, lambda_code
from qres.network import QResVAE
from tests.support.golden_qres import fill, parameters_sha256
from tests.support.shared import shared

discover()
MODELS = {
    "qres34m": (QRES34M, 34_036_602, "c3edf689f81538e56746c3cd0d5a025c234727260dcbce36a0bcbb8e784d6355"),
    "qres17m": (QRES17M, 16_678_842, "0d6071af50afe21ab8be449d125717e9086413c1e549793a974f7043b3b91cde"),
    "qres34m_lossless": (
        QRES34M_LOSSLESS, 34_045_866, "5085c7311ef64883864558fa398d97a9893b68a491497979a0830a2714c5b633",
    ),
}  # fmt: skip


@cache
def golden_model(name: str) -> QResVAE:
    return fill(QResVAE(MODELS[name][0], lmb=16))


@cache
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(shared("golden/qres34m.npz")))


def crop_b() -> np.ndarray:
    return open_image(shared("data/kodak/kodim16.png"))[256:448, 384:512]


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", MODELS)
def test_names_and_golden_rule(name):
    _, count, digest = MODELS[name]
    model = golden_model(name)
    assert sum(p.numel() for p in model.parameters()) == count
    assert parameters_sha256(model) == digest
    assert isinstance(METHODS[name]().model(), QResVAE)


@pytest.mark.parametrize("name", MODELS)
def test_official_state_names(name):
    keys = json.loads(shared(f"specs/qres_state_keys_{name}.json").read_text())
    official = {key: shape for key, shape in keys.items() if "discrete_gaussian" not in key}
    assert {key: list(value.shape) for key, value in golden_model(name).state_dict().items()} == official
    state = {key: torch.zeros(shape) for key, shape in keys.items()}
    golden_names = make_method(name).read_state(state)
    assert set(golden_names) == set(official)


def walk(model: QResVAE, image: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Symbols, posterior and prior of every block on the quantised path, and the output."""
    out: dict[str, list] = {"sym": [], "qm": [], "pm": [], "log": []}

    def visit(i, block, f, prior):
        mean = block.infer(f, features[f.shape[2]])
        symbols = torch.round(mean - prior.mean)
        rows = (symbols, mean, prior.mean, torch.log(prior.scale))
        for key, value in zip(out, rows, strict=True):
            out[key].append(value.flatten().numpy())
        return symbols + prior.mean

    x = tensor(image)
    with torch.inference_mode():
        features = model.features(x)
        out["xhat"] = model.top_down((1, x.shape[2] // 64, x.shape[3] // 64), visit)[0].numpy()
    return {key: np.concatenate(value) if isinstance(value, list) else value for key, value in out.items()}


def test_golden_symbols_and_output():
    g, got = golden(), walk(golden_model("qres34m"), crop_b())
    np.testing.assert_array_equal(got["sym"], g["B_sym"])
    np.testing.assert_allclose(got["qm"], g["B_qm"], atol=5e-5)
    np.testing.assert_allclose(got["pm"], g["B_pm"], atol=5e-5)
    np.testing.assert_allclose(got["log"], g["B_logv"], atol=5e-5)
    np.testing.assert_allclose(got["xhat"], g["B_xhat"], atol=1e-4)


def test_golden_forward_eval():
    g, model = golden(), golden_model("qres34m")
    with torch.inference_mode():
        step = model(tensor(crop_b()))
    assert float(step.loss) == pytest.approx(float(g["B_loss"]), rel=1e-5)
    assert float(step.bits) == pytest.approx(float(g["B_bppix"]), rel=1e-5)
    assert -10 * math.log10(float(step.distortion)) == pytest.approx(float(g["B_psnr"]), abs=1e-4)


def test_golden_training_step():
    g, model = golden(), golden_model("qres34m")
    image = tensor(crop_b())
    shapes = g["B_zshapes"].astype(int)
    noise = [
        torch.from_numpy(np.random.RandomState(1000 + i).uniform(-0.5, 0.5, (1, *s)).astype(np.float32))
        for i, s in enumerate(shapes.tolist())
    ]
    model.train()
    step = model(image, noise)
    step.loss.backward()
    norms = {name: float(p.grad.double().norm()) for name, p in model.named_parameters() if p.grad is not None}
    model.eval().zero_grad(set_to_none=True)
    assert float(step.loss.detach()) == pytest.approx(float(g["B_train_loss"]), rel=1e-5)
    names = [str(name) for name in g["B_train_grad_names"]]
    np.testing.assert_allclose([norms[n] for n in names], g["B_train_grad_norms"], rtol=2e-3)


def test_golden_image_through_a_real_stream():
    g, model = golden(), golden_model("qres34m")
    codec = QResCodec(model, "qres34m", b"golden")
    image = crop_b()
    stream = codec.compress(image)
    decoded = codec.decompress(stream)
    expected = np.rint((np.clip(g["B_xhat"], -1, 1) + 1) * 127.5).transpose(1, 2, 0)
    assert np.abs(decoded.astype(int) - expected).max() <= 1
    assert (decoded != expected).mean() < 1e-3
    assert codec.payload_bits(stream) / codec.bits(image) < 1.01  # a random prior: corrections take off a third
    assert codec.bits(image) == pytest.approx(float(g["B_bits"].sum()), rel=1e-4)
    assert len(stream) - codec.payload_bits(stream) / 8 == 18  # the header of an image with sides above 127


def test_golden_lossless_is_exact():
    codec = QResCodec(golden_model("qres34m_lossless"), "qres34m_lossless", b"golden")
    image = crop_b()[:64, :70]
    assert np.array_equal(codec.decompress(codec.compress(image)), image)


@pytest.fixture(scope="module")
def small() -> QResCodec:
    torch.manual_seed(0)
    model = METHODS["qres3m_vr"](lmb=64).model()
    for parameter in model.parameters():  # a fresh model codes nothing but zeros
        if parameter.dim() > 1:
            parameter.data.mul_(1.5).add_(torch.randn_like(parameter) * 0.02)
    return QResCodec(model, "qres3m_vr", b"test")


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 70, 3), (33, 31, 1), (64, 96, 3), (65, 1, 1)])
def test_any_size(small, shape):
    image = picture(*shape)
    stream = small.compress(image)
    decoded = small.decompress(stream)
    assert decoded.shape == shape and decoded.dtype == np.uint8
    assert stream == small.compress(image)
    assert np.array_equal(decoded, small.decompress(stream))


def test_lambda_travels_in_the_stream(small):
    image = picture(64, 64)
    other = QResCodec(small.model, "qres3m_vr", b"test")
    other._code = lambda_code(900)
    stream = other.compress(image)
    assert stream != small.compress(image)
    assert np.array_equal(small.decompress(stream), other.decompress(stream))


def test_another_checkpoint_is_refused(small):
    with pytest.raises(BitstreamError, match="another method or checkpoint"):
        QResCodec(small.model, "qres3m_vr", b"other").decompress(small.compress(picture(32, 32)))


def test_a_drifted_decoder_is_noticed(small):
    """Scales that cross a table boundary, as other floating point would make them, change the decoded symbols."""
    stream = small.compress(picture(64, 64))
    bias = small.model.decoder.dec_blocks[2].prior.c4.bias
    before = bias.data.clone()
    bias.data += 0.06
    try:
        with pytest.raises((DecodeMismatch, BitstreamError)):
            small.decompress(stream)
    finally:
        bias.data.copy_(before)


# -- the official format ----------------------------------------------------------------------------------------------


def test_official_tables_and_strings_are_equal_byte_for_byte():
    data = golden()
    for cdf, length, expected in zip(official.cdf_tables(), data["latent_cdf_length"], data["latent_cdf"], strict=True):
        assert np.array_equal(cdf, expected[:length])
    for part in "AB":
        symbols, scales = data[f"{part}_sym"].astype(int), official.SCALES.numpy()[data[f"{part}_idx"]]
        strings, at, start = data[f"{part}_strings"].tobytes(), 0, 0
        for shape, size in zip(data[f"{part}_zshapes"], data[f"{part}_str_len"], strict=True):
            block = slice(at, at + int(np.prod(shape)))
            assert official.string(symbols[block], scales[block]) == strings[start : start + size]
            at, start = block.stop, start + size


def test_official_file_has_the_published_size():
    data = golden()
    assert len(official.file(golden_model("qres34m"), crop_b())) == data["B_file_bytes"]


def test_official_escapes_are_in_the_string():
    scales = np.full(3, 0.1, dtype=np.float32)
    short, long = official.string(np.zeros(3, int), scales), official.string(np.array([0, 10**9, -(10**9)]), scales)
    assert len(short) == 8 and 8 + 2 * 9 * 4 // 8 <= len(long) <= 24  # nine digits of four bits for each


# -- training of our own models -------------------------------------------------------------------------------------


def test_a_network_for_one_lambda_computes_what_the_conditional_one_does_there(monkeypatch):
    monkeypatch.setattr(METHODS["qres34m"], "conditional", QRES3M_VR)
    monkeypatch.setattr(METHODS["qres34m"], "arch", replace(QRES3M_VR, embedding=0))
    conditional = fill(METHODS["qres3m_vr"](lmb=50).model())
    with torch.no_grad():
        for name, value in conditional.named_parameters():
            if ".film." in name:
                value.normal_(0, 0.1)
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = conditional.eval()(x)
        for lmb, same in ((50, True), (5, False)):
            fixed = METHODS["qres34m"](lmb=lmb)
            model = fixed.model().eval()
            model.load_state_dict(fixed.read_state(conditional.state_dict()))
            assert (float(model(x).bits) == pytest.approx(float(expected.bits), rel=1e-4)) is same


def test_straight_through_training_decodes_rounded_latents_at_the_rate_of_noisy_ones():
    model = fill(QResVAE(replace(QRES3M_VR, embedding=0), lmb=64))
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        quantised = model.eval()(x)
        model.train().straight_through = True
        torch.manual_seed(1)
        first = model(x)
        torch.manual_seed(2)
        second = model(x)
    assert float(first.distortion) == pytest.approx(float(quantised.distortion), rel=1e-5)
    assert float(second.distortion) == pytest.approx(float(first.distortion), rel=1e-5)
    assert float(first.bits) != float(second.bits)
    step = model(x)
    step.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_ms_ssim_as_the_target():
    model = METHODS["qres3m_vr"](target="ms_ssim").model().eval()
    x = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        step = model(x)
    assert 0 < float(step.distortion) < 1
    nats = step.bits * math.log(2) / 3
    assert float(step.loss) == pytest.approx(float(nats) + 64 * 0.04 * float(step.distortion), rel=0.05)
    with pytest.raises(TesseraError, match="crop=192"):
        model(x[..., :160, :160])
    with pytest.raises(TesseraError, match="unknown target 'ssim'"):
        METHODS["qres3m_vr"](target="ssim").model()


def test_coding_after_all_blocks_gives_the_same_stream(small):
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    expected = small.compress(image)
    small.deferred = True
    assert small.compress(image) == expected
    small.deferred = False
