"""QARV: official names, golden units, forward, training step and files."""

from __future__ import annotations

import json
import math
import struct
from functools import cache

import numpy as np
import pytest
import torch

from core.codec import TesseraError
from core.images import open_image
from core.registry import METHODS, discover
from qres import generate, inference, network, official
from qres.architectures import QARV_BASE
from qres.blocks import Latent
from qres.codec import QResCodec
from qres.likelihood import coarse_log_likelihood, train_log_likelihood
from qres.qarv import QARVModel, position
from tests.support.golden_qarv import fill
from tests.support.golden_qres import parameters_sha256
from tests.support.shared import shared

discover()
LAMBDAS = (64, 1024)


@cache
def golden_model() -> QARVModel:
    return fill(QARVModel(QARV_BASE, 64))


@cache
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(shared("golden/qarv_base.npz")))


@cache
def crop() -> np.ndarray:
    y, x, height, width = golden()["crop_y_x_h_w"]
    return open_image(shared("data/kodak/kodim16.png"))[y : y + height, x : x + width]


def tensor() -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(crop())).permute(2, 0, 1)[None].float() / 255


def at(lmb: float) -> QARVModel:
    model = golden_model()
    model.lmb = float(lmb)
    return model


def split(values: np.ndarray) -> list[np.ndarray]:
    """Values of all blocks as a list, a part for each."""
    return np.split(values, np.cumsum(golden()["zshapes"].prod(axis=1))[:-1])


# -- names and units ------------------------------------------------------------------------------------------------


def test_names_counts_and_golden_rule():
    keys = json.loads(shared("specs/qarv_state_keys_qarv_base.json").read_text())
    expected = {key: shape for key, shape in keys.items() if "discrete_gaussian" not in key}
    model = golden_model()
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == expected
    assert set(METHODS["qarv_base"]().read_state(dict.fromkeys(keys))) == set(expected)
    assert parameters_sha256(model) == str(golden()["params_sha256"])
    counts = {"": 93_433_400, "encoder.": 31_817_280, "dec_blocks.": 61_484_024, "lmb_embedding.": 131_584, "bias": 512}
    named = {name: p.numel() for name, p in model.named_parameters()}
    assert {start: sum(n for name, n in named.items() if name.startswith(start)) for start in counts} == counts
    assert sum(n for name, n in named.items() if ".post" not in name and "encoder." not in name) == 31_522_016


def test_a_fresh_model_has_the_published_start():
    made = METHODS["qarv_base"]().model()
    ends = {name: p for name, p in made.named_parameters() if name.endswith((".bias", ".gamma")) or name == "bias"}
    gammas = [p for name, p in ends.items() if name.endswith(".gamma")]
    assert all(bool((p == 1e-6).all()) for p in gammas) and len(gammas) > 60
    free = (".conv_dw.bias", ".fc1.bias", ".fc2.bias", ".embedding_layer.1.bias")
    zero = {n: bool((p == 0).all()) for n, p in ends.items() if not n.endswith(".gamma") and "lmb_embedding" not in n}
    assert {name for name, is_zero in zero.items() if not is_zero} == {name for name in zero if name.endswith(free)}
    assert not any(bool((p == 0).all()) for n, p in made.named_parameters() if n.endswith(".weight"))


def test_golden_embedding_and_block():
    g, model = golden(), golden_model()
    lmb = torch.from_numpy(g["u_lambda"])
    with torch.inference_mode():
        np.testing.assert_allclose(position(lmb), g["u_scaled"], atol=1e-5)
        np.testing.assert_allclose(model.embedding.waves(lmb), g["u_sin"], atol=1e-5)
        np.testing.assert_allclose(model.condition(lmb), g["u_emb"], atol=1e-5)
        x = torch.from_numpy(g["u_block_in"])
        condition = model.condition(torch.tensor([64.0, 1024.0]))
        for block in (model.dec_blocks[3], lambda x, c: packed(model.dec_blocks[3], x, c)):
            np.testing.assert_allclose(block(x, condition), g["u_block_out"], atol=1e-5)


def packed(block: torch.nn.Module, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    return inference._nchw(inference._packed(block)(inference._nhwc(x), condition))


def test_golden_likelihoods():
    g = golden()
    symbols, sigma = torch.from_numpy(g["u_sym"])[:, None], torch.from_numpy(g["u_sigma"])
    np.testing.assert_allclose(torch.exp(coarse_log_likelihood(symbols, sigma)), g["u_lik_eval"], atol=1.5e-7)
    got, expected = train_log_likelihood(symbols + 0.25, sigma.clamp_min(0.05), 1.0).numpy(), g["u_logp_train"]
    for least, tolerance in ((1e-3, 1e-4), (1e-4, 1e-3), (0, 6e-2)):
        likely = np.exp(expected) > least
        np.testing.assert_allclose(got[likely], expected[likely], atol=tolerance)


# -- the network ----------------------------------------------------------------------------------------------------


def walk(network, model: QARVModel) -> dict[str, list[np.ndarray]]:
    """What passes at every latent block on the quantised path, and the output."""
    out: dict[str, list] = {"sym": [], "qm": [], "pm": [], "logv": [], "kl": []}

    def visit(i, block, f, prior):
        mean = block.infer(f, features[f.shape[2]], condition)
        symbols = torch.round(mean - prior.mean)
        kl = -model.code_log_likelihood(symbols, prior.scale)
        for key, value in zip(out, (symbols, mean, prior.mean, torch.log(prior.scale), kl), strict=True):
            out[key].append(value.flatten().numpy().copy())
        return symbols + prior.mean

    with torch.inference_mode():
        condition = generate.lambda_condition(model, None)
        features = network.features(tensor(), condition)
        out["xhat"] = [network.top_down((1, 3, 4), visit, condition)[0].numpy()]
    return out


def check_walk(got: dict[str, list[np.ndarray]], lmb: int) -> None:
    g, every = golden(), 1 if lmb == 64 else 16
    assert np.array_equal(np.concatenate(got["sym"]), g[f"L{lmb}_sym"])
    index = np.concatenate([official.QARV_SCALES[:-1].numpy().searchsorted(np.exp(v)) for v in got["logv"]])
    flips = index - g[f"L{lmb}_idx"]
    assert np.count_nonzero(flips) <= 5 and abs(flips).max() <= 1
    for key in ("qm", "pm", "logv"):
        np.testing.assert_allclose(np.concatenate(got[key])[::every], g[f"L{lmb}_{key}"], atol=5e-5)
        stats = [(v.mean(), v.std(), v.min(), v.max()) for v in (v.astype(np.float64) for v in got[key])]
        np.testing.assert_allclose(stats, g[f"L{lmb}_{key}_stats"], rtol=1e-4, atol=1e-5)
    margins = [
        np.abs(np.abs((a - b).astype(np.float64) % 1) - 0.5).min() for a, b in zip(got["qm"], got["pm"], strict=True)
    ]
    np.testing.assert_allclose(margins, g[f"L{lmb}_round_margin"][:, 0], atol=2e-5)
    kl = np.array([v.astype(np.float64).sum() for v in got["kl"]])
    np.testing.assert_allclose(kl, g[f"L{lmb}_kl_nats"], rtol=2e-5)
    assert kl.sum() / math.log(2) / crop()[..., 0].size == pytest.approx(float(g[f"L{lmb}_bpp_est"]), rel=2e-5)
    (output,) = got["xhat"]
    np.testing.assert_allclose(output if lmb == 64 else output[:, ::2, ::2], g[f"L{lmb}_xhat"], atol=5e-5)
    exact = output.astype(np.float64)
    np.testing.assert_allclose(
        (exact.mean(), exact.std(), exact.min(), exact.max()), g[f"L{lmb}_xhat_stats"], rtol=1e-4, atol=1e-5
    )
    x = tensor()[0].double().numpy()
    assert ((exact - 2 * (x - 0.5)) ** 2).mean() == pytest.approx(float(g[f"L{lmb}_mse_m1p1"]), rel=1e-5)
    mse = ((exact.clip(-1, 1) * 0.5 + 0.5 - x) ** 2).mean()
    assert mse == pytest.approx(float(g[f"L{lmb}_mse01"]), rel=1e-5)
    assert -10 * math.log10(mse) == pytest.approx(float(g[f"L{lmb}_psnr"]), abs=1e-4)


@pytest.mark.parametrize("lmb", LAMBDAS)
def test_golden_walk(lmb):
    model = at(lmb)
    check_walk(walk(model, model), lmb)


def test_golden_walk_on_the_fast_path():
    model = at(1024)
    check_walk(walk(inference.Network(model), model), 1024)


def test_golden_output_of_every_block():
    """Where an implementation begins to differ; entries without parameters have no numbers."""
    model, got = at(64), {}

    def note(name):
        def hook(module, arguments, output):
            exact = output.double()
            got[name] = (float(exact.mean()), float(exact.std(correction=0)))

        return hook

    paths = {"enc": model.encoder.enc_blocks, "dec": model.dec_blocks}
    handles = [
        (block.resnet_end if isinstance(block, Latent) else block).register_forward_hook(note((path, i)))
        for path, blocks in paths.items()
        for i, block in enumerate(blocks)
        if not isinstance(block, torch.nn.Identity)
    ]
    walk(model, model)
    for handle in handles:
        handle.remove()
    for path, blocks in paths.items():
        rows = [got.get((path, i), (np.nan, np.nan)) for i in range(len(blocks))]
        np.testing.assert_allclose(rows, golden()[f"L64_{path}_stats"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lmb", LAMBDAS)
def test_golden_forward_eval(lmb):
    g = golden()
    with torch.inference_mode():
        step = at(lmb)(tensor())
    assert float(step.loss) == pytest.approx(float(g[f"L{lmb}_loss"]), rel=1e-5)
    assert float(step.bits) == pytest.approx(float(g[f"L{lmb}_fwd_bppix"]), rel=2e-5)
    assert -10 * math.log10(float(step.distortion)) == pytest.approx(float(g[f"L{lmb}_fwd_psnr"]), abs=1e-4)
    nats = float(step.bits) * math.log(2) / 3
    assert (float(step.loss) - nats) / lmb == pytest.approx(float(g[f"L{lmb}_fwd_mse"]), rel=2e-5)


@pytest.mark.parametrize("lmb", LAMBDAS)
def test_golden_unconditional(lmb):
    x = generate.sample(at(lmb), (1, 1, 1), 0.0)[0]
    np.testing.assert_allclose(x, golden()[f"L{lmb}_uncond_t0_1x1"], atol=5e-5)


# -- training -------------------------------------------------------------------------------------------------------


def noise() -> list[torch.Tensor]:
    draws = [
        np.random.RandomState(1000 + i).uniform(-0.5, 0.5, (1, *shape)) for i, shape in enumerate(golden()["zshapes"])
    ]
    return [torch.from_numpy(draw.astype(np.float32)) for draw in draws]


@pytest.mark.parametrize("lmb", LAMBDAS)
def test_golden_training_step(lmb, monkeypatch):
    g, model = golden(), golden_model()
    monkeypatch.setattr(model, "draw_lambda", lambda images: torch.full((len(images),), float(lmb)))
    kl = []

    def noted(*arguments):
        mass = train_log_likelihood(*arguments)
        kl.append(-float(mass.detach().double().sum()))
        return mass

    monkeypatch.setattr(network, "train_log_likelihood", noted)
    model.train()
    try:
        step = model(tensor(), noise())
        step.loss.backward()
        grads = {name: p.grad for name, p in model.named_parameters()}
    finally:
        model.eval().zero_grad(set_to_none=True)
    nats = float(step.bits.detach()) * math.log(2) * crop()[..., 0].size
    assert float(step.loss.detach()) == pytest.approx(float(g[f"L{lmb}_train_loss"]), rel=1e-5)
    assert nats == pytest.approx(sum(kl), rel=1e-5)
    np.testing.assert_allclose(kl, g[f"L{lmb}_train_kl_nats"], rtol=1e-5)
    mse = (float(step.loss.detach()) - nats / crop().size) / lmb
    assert mse == pytest.approx(float(g[f"L{lmb}_train_mse"]), rel=2e-5)
    norms = [float(grads[str(name)].double().norm()) for name in g["train_grad_names"]]
    np.testing.assert_allclose(norms, g[f"L{lmb}_train_grad_norms"], rtol=1e-3)
    assert np.linalg.norm(norms) == pytest.approx(float(g[f"L{lmb}_train_grad_total_norm"]), rel=1e-4)
    for name, field in (("bias", "bias"), ("lmb_embedding.2.bias", "lmb_embedding_2_bias")):
        expected = g[f"L{lmb}_train_grad_{field}"]
        np.testing.assert_allclose(grads[name].flatten(), expected, atol=1e-3 * abs(expected).max())


def test_a_batch_of_two_lambdas_has_the_mean_of_their_losses(monkeypatch):
    g, model = golden(), golden_model()
    monkeypatch.setattr(model, "draw_lambda", lambda images: torch.tensor([64.0, 1024.0]))
    model.train()
    try:
        with torch.no_grad():
            step = model(tensor().expand(2, -1, -1, -1), [z.expand(2, -1, -1, -1) for z in noise()])
    finally:
        model.eval()
    expected = np.mean([g[f"L{lmb}_train_loss"] for lmb in LAMBDAS])
    assert float(step.loss) == pytest.approx(float(expected), rel=1e-5)


# -- files ----------------------------------------------------------------------------------------------------------


def test_tables_are_the_official_ones_and_what_float32_erf_gives(monkeypatch):
    g = golden()
    assert np.array_equal(official.QARV_SCALES, g["scale_table"])
    tables = official.qarv_cdf_tables()
    for cdf, length, offset, expected in zip(tables, g["cdf_length"], g["cdf_offset"], g["cdf"], strict=True):
        assert np.array_equal(cdf, expected[:length]) and -offset == (len(cdf) - 3) // 2
    monkeypatch.setattr(official, "_below", lambda t: 0.5 * (1 + torch.erf(t / math.sqrt(2))))
    assert all(np.array_equal(cdf, official._cdf(float(s))) for cdf, s in zip(tables, g["scale_table"], strict=True))
    borders = official.QARV_SCALES[:-1]
    assert np.array_equal(torch.bucketize(torch.from_numpy(g["u_sigma"]).clamp_min(0.11), borders), g["u_idx"])


@pytest.mark.parametrize("lmb", LAMBDAS)
def test_official_strings_are_equal_byte_for_byte(lmb):
    g = golden()
    scales = official.QARV_SCALES.numpy()[g[f"L{lmb}_idx"]]
    pairs = zip(split(g[f"L{lmb}_sym"].astype(int)), split(scales), strict=True)
    strings = [official.string(symbols, scale, qarv=True) for symbols, scale in pairs]
    assert [len(s) for s in strings] == g[f"L{lmb}_str_len"].tolist()
    assert b"".join(strings) == g[f"L{lmb}_strings"].tobytes()
    header = official.qarv_header((192, 256), lmb, (1, 3, 4), strings)
    assert header == struct.pack("<2H", 192, 256) + g[f"L{lmb}_header"].tobytes()
    assert len(header) + len(b"".join(strings)) == g[f"L{lmb}_file_bytes"]


def test_an_official_file_has_the_published_size():
    file = official.file(at(64), crop())
    assert len(file) == golden()["L64_file_bytes"] and file[:15] == struct.pack("<2Hf3HB", 192, 256, 64, 1, 3, 4, 9)
    with pytest.raises(TesseraError, match="at most 65535 pixels"):
        official.qarv_header((70000, 4), 64, (1, 1094, 1), [])


def test_golden_image_through_a_real_stream():
    g = golden()
    codec = QResCodec(at(64), "qarv_base", b"golden")
    assert isinstance(codec.network, inference.Network)
    stream = codec.compress(crop())
    expected = np.rint((np.clip(g["L64_xhat"], -1, 1) + 1) * 127.5).transpose(1, 2, 0)
    assert np.abs(codec.decompress(stream).astype(int) - expected).max() <= 1
    assert codec.bits(crop()) == pytest.approx(float(g["L64_kl_nats"].sum()) / math.log(2), rel=1e-3)
    assert codec.payload_bits(stream) < 1.01 * codec.bits(crop()) and len(stream) < g["L64_file_bytes"]
