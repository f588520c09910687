"""The networks of relative entropy coding: golden layers, published sizes, training steps, any size, options."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from core.codec import TesseraError
from core.registry import METHODS, discover
from core.train import TrainConfig
from experiments.families import rec as options
from rec.likelihood import LOG_SCALES, MEANS, SCALES, logistic_log_mass, pixel_tables, scale_cell
from rec.models.four_level_vae import FourLevelVAE
from rec.models.gdn import GDN
from rec.models.hierarchy import Draws, Normal, kl
from rec.models.level_vae import LevelVAE, OneLevelVAE, TwoLevelVAE
from rec.models.resnet_vae import Architecture, ResNetVAE
from rec.models.signal_conv import SignalConv, real_dft, reflect
from rec.models.weight_norm import SPREAD, WeightNormConv
from tests.support.shared import shared

discover()
SMALL = Architecture(2, 8, 3)
SIZES = {"rvae": 29_462_823, "irec1": 5_846_403, "irec2": 10_308_659, "irec4": 25_454_843}


@cache
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared("golden/irec_cases.json").read_text())["deterministic_vectors"]
    return found


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name: str) -> None:
    assert parameters(METHODS[name]().model()) == SIZES[name]


def test_latents_of_the_published_model() -> None:
    shapes = METHODS["rvae"]().model().shapes(32, 32)
    assert len(shapes) == 24 and sum(math.prod(s) for s in shapes) == 196_608
    assert [math.prod(s) for s in METHODS["irec2"]().model().shapes(512, 768)] == [12_288, 301_056]


def test_gdn_against_golden_vectors() -> None:
    found = golden()["gdn_init"]
    x = torch.tensor(found["x"]).view(-1, 1, 1, 1)
    for layer, key in ((GDN(1), "y"), (GDN(1, inverse=True), "inverse")):
        np.testing.assert_allclose(layer(x).detach().flatten().numpy(), found[key], atol=1e-6)


def test_gdn_bounds_let_gradients_back() -> None:
    layer = GDN(2)
    layer.beta.data.fill_(-1.0)  # far below the bound
    x = torch.ones(1, 2, 1, 1)
    (layer(x).sum() * 1).backward()  # more beta, less output: the gradient is negative, upwards, and passes
    assert (layer.beta.grad == 0).sum() + (layer.beta.grad < 0).sum() == 2
    assert torch.isfinite(layer(x)).all()


@pytest.mark.parametrize("case", range(6))
def test_signal_conv_against_golden_vectors(case: int) -> None:
    found = golden()["signal_conv"][case]
    k, side = found["k"], int(found["input"].split("as ")[1].split("x")[0])
    up = None if found["corr"] else found["strides_up"]
    layer = SignalConv(1, 1, k, down=found["strides_down"], up=up, bias=False, rdft=False)
    layer.coefficients.data = torch.arange(k * k, dtype=torch.float32).view(1, 1, -1) / 10
    y = layer(torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)).detach()
    assert list(y.shape[2:]) == found["out_shape"][1:3]
    np.testing.assert_allclose(y[0, 0, 0], found["out_first_row"], rtol=1e-5)
    np.testing.assert_allclose(y[0, 0, -1], found["out_last_row"], rtol=1e-5)
    assert float(y.sum()) == pytest.approx(found["out_sum"], rel=1e-5)


def test_a_model_made_without_memory_spoils_no_other() -> None:
    real_dft.cache_clear()
    with torch.device("meta"):
        SignalConv(2, 2, 3)
    assert torch.equal(SignalConv(2, 2, 3).basis, real_dft(3)) and real_dft(3).device.type == "cpu"


def test_real_dft() -> None:
    np.testing.assert_allclose(real_dft(3), golden()["irdft_3x3"], atol=1e-6)
    for size in (3, 5, 9):
        basis = real_dft(size)
        torch.testing.assert_close(basis.T @ basis, torch.eye(size**2), atol=1e-5, rtol=0)


def test_reflection_goes_on_when_the_margin_is_larger_than_the_picture() -> None:
    line = torch.arange(3.0).view(1, 1, 1, 3)
    assert reflect(line, 5)[0, 0, 0].tolist() == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert torch.equal(reflect(torch.arange(16.0).view(1, 1, 4, 4), 2), torch.nn.functional.pad(
        torch.arange(16.0).view(1, 1, 4, 4), (2,) * 4, mode="reflect"
    ))  # fmt: skip


@pytest.mark.parametrize("up", (False, True))
def test_start_from_data(up: bool) -> None:
    torch.manual_seed(0)
    layer = WeightNormConv(4, 6, 5, stride=2, up=up).train()
    x = 3 + 2 * torch.randn(8, 4, 16, 16)
    y = layer(x)
    inside = y[:, :, 2:-2, 2:-2]
    assert y.mean((0, 2, 3)).abs().max() < 0.01 and (y.std((0, 2, 3)) - SPREAD).abs().max() < 0.01
    assert inside.isfinite().all() and torch.equal(layer(x), y), "the second call changes nothing"
    again = WeightNormConv(4, 6, 5, stride=2, up=up).eval()
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(x), y)


def test_start_above_a_constant_is_harmless() -> None:
    layer = WeightNormConv(4, 6).train()
    layer(torch.zeros(2, 4, 8, 8))
    assert layer.started and layer.bias.abs().max() == 0
    torch.testing.assert_close(layer.g, torch.full((6,), math.log(SPREAD)))


def in_levels(row: dict[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and log-scale of a golden row, which has them in units of 256 levels around mid-grey."""
    mean = (row["reconstruction"] + 0.5) * 256 - 0.5
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(row["log_scale"], dtype=torch.float64) + math.log(256)


def test_the_masses_of_all_levels_sum_to_one() -> None:
    levels = torch.arange(256, dtype=torch.float64)
    for row in golden()["discretized_logistic_total_mass"]:
        mean, scale = in_levels(row)
        assert logistic_log_mass(levels, mean, scale).exp().sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("mean", (-0.5, 0, 17.5, 128, 254.5, 255))
def test_pixel_tables_are_the_folded_logistic(mean: float) -> None:
    cells = np.array([0, 20, 40, LOG_SCALES.cells - 1])
    means = np.full(4, int(np.clip(mean * 2, 0, MEANS.cells - 1)))
    index, tables = pixel_tables(means, cells)
    for i, cell in zip(index, cells, strict=True):
        wanted = logistic_log_mass(
            torch.arange(256, dtype=torch.float64), torch.tensor(means[0] / 2), torch.tensor(math.log(SCALES[cell]))
        ).exp()
        got = tables.frequencies[int(i)] / 2**24
        assert np.abs(got - wanted.numpy()).max() < 3e-5 and len(got) == 256


def test_scale_cells() -> None:
    assert [scale_cell(math.log(s)) for s in (1e-9, *SCALES[[0, 5, 71]], 1e9)] == [0, 0, 5, 71, 71]


def test_kl_is_that_of_torch() -> None:
    q, p = (Normal(torch.randn(5), torch.rand(5) + 0.1) for _ in range(2))
    wanted = torch.distributions.kl_divergence(torch.distributions.Normal(*q), torch.distributions.Normal(*p))
    torch.testing.assert_close(kl(q, p), wanted)


@pytest.mark.parametrize("likelihood", ("discretized_logistic", "discretized_logistic_rgb"))
def test_resnet_vae_learns(likelihood: str) -> None:
    torch.manual_seed(0)
    model = ResNetVAE(Architecture(2, 8, 3, likelihood)).train()
    x = torch.rand(4, 3, 1, 1).expand(4, 3, 8, 8) * 0.8 + 0.1
    optimizer = torch.optim.Adamax(model.parameters(), 1e-2)
    first = last = math.nan
    for step in range(30):
        out = model(x)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        first, last = (out.loss.item() if step == 0 else first), out.loss.item()
    assert last < first - 0.3, (first, last)


def test_free_bits_floor_the_loss() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 8, 8)
    models = [ResNetVAE(SMALL, lamb) for lamb in (0.0, 1e3)]
    models[1].load_state_dict(models[0].state_dict())
    steps = []
    for model in models:
        torch.manual_seed(1)
        steps.append(model.eval()(x))
    floor = 1e3 * SMALL.num_res_blocks * SMALL.stochastic_filters / (3 * 64 * math.log(2))
    assert (steps[1].loss - steps[1].distortion).item() == pytest.approx(floor, rel=1e-5)
    assert steps[0].loss.item() == pytest.approx(float(steps[0].bits + steps[0].distortion), rel=1e-5)


def test_green_and_blue_know_the_colours_before_them() -> None:
    torch.manual_seed(0)
    model = ResNetVAE(Architecture(1, 4, 2, "discretized_logistic_rgb"))
    out, levels = torch.rand(1, 9, 2, 2), [torch.zeros(1, 2, 2), torch.full((1, 2, 2), 200.0)]
    means = [[model.channel(out, c, lambda j, k=k: levels[k])[0] for k in (0, 1)] for c in range(3)]
    assert torch.equal(means[0][0], means[0][1]) and not torch.equal(means[2][0], means[2][1])
    step = (200 / 256) * out[:, 6] * 256
    free = (out[:, 1] * 1).abs() < 10  # nothing is cut off at the ends of the range by more than its width
    assert free.all() and ((means[1][1] - means[1][0]) <= step + 1e-3).all()


def small(kind: type[LevelVAE], **more: Any) -> LevelVAE:
    torch.manual_seed(0)
    sizes: dict[type, tuple[Any, ...]] = {OneLevelVAE: (6,), TwoLevelVAE: (6, 4), FourLevelVAE: ((6, 5, 4, 3),)}
    return kind(*sizes[kind], **{"beta": 0.01, **more})


@pytest.mark.parametrize("kind", (OneLevelVAE, TwoLevelVAE, FourLevelVAE))
def test_level_vaes(kind: type[LevelVAE]) -> None:
    model = small(kind)
    step = model.train()(torch.rand(2, 3, 64, 128))
    step.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert float(step.loss) == pytest.approx(float(0.01 * step.distortion + step.bits), rel=1e-5)
    draws = Draws()
    out = model.generate(model.infer(torch.rand(1, 3, 64, 128) * 255), (1, 64, 128), draws)
    assert out.shape == (1, 3, 64, 128) and [tuple(k.shape[1:]) for k in draws.kls] == model.shapes(64, 128)


def test_annealing_and_targets() -> None:
    model = small(TwoLevelVAE, anneal_end=10)
    model.begin_step(5, 100)
    step = model(torch.rand(1, 3, 64, 64))
    assert float(step.loss) == pytest.approx(float(0.01 * step.distortion + 0.5 * step.bits), rel=1e-5)
    with pytest.raises(TesseraError, match=r"crop=192"):
        small(TwoLevelVAE, target="ms_ssim")(torch.rand(1, 3, 64, 64))
    x, model = torch.rand(1, 3, 176, 176), small(OneLevelVAE, target="ms_ssim")
    assert 0 < float(model.distortion(0.9 * x, x)) < float(model.distortion(0.5 * x, x)) < 255
    with pytest.raises(TesseraError, match="unknown target 'ssim'"):
        small(TwoLevelVAE, target="ssim")


def test_published_option_names() -> None:
    words = "rec train with model=resnet_vae num_res_blocks=24 dataset=cifar10 lamb=0.1 iters=5"
    assert options.translated(words.split()) == [
        "rec", "train", "with", "method=rvae", "params.num_res_blocks=24", "dataset=cifar10", "params.lamb=0.1",
        "steps=5",
    ]  # fmt: skip
    words = "rec train with paper model=large_level_2_vae beta=0.01 loss_fn=ms-ssim anneal_kl=True model_save_dir=there"
    assert options.translated(words.split()) == [
        "rec", "train", "with", "paper", "method=irec2", "params.beta=0.01", "params.target=ms_ssim", "folder=there",
        "params.anneal_end=60000",
    ]  # fmt: skip
    words = "rec evaluate with model=resnet_vae mode=compress sampler=beam_search n_beams=20 extra_samples=1.2"
    assert options.translated([*words.split(), "kl_per_partition=3", "model_dir=runs/x"])[3:] == [
        "method=rvae", "params.coder=beam_search", "params.n_beams=20", "params.extra_samples=1.2",
        "params.kl_per_partition=3", "weights=runs/x",
    ]  # fmt: skip
    assert options.translated(["rec", "train", "with", "drop_learning_rate_after_iter=7"])[-1] == "schedule=drop:7:0.3"


@pytest.mark.parametrize(
    "words, answer",
    (
        ("model=resnet_va", "resnet_vae"),
        ("model=resnet_vae method=rvae", "give one of them"),
        ("mode=initialize", "ours need none"),
        ("anneal_kl=7", "must be True or False"),
    ),
)
def test_wrong_options(words: str, answer: str) -> None:
    with pytest.raises(TesseraError, match=answer):
        options.translated(["rec", "train", "with", *words.split()])


def test_recipes() -> None:
    paper = options.commands(["rec", "train", "with", "method=rvae_small"])["train"].named["paper"]
    config = TrainConfig(steps=1, lr=paper["lr"], warmup=0, schedule=paper["schedule"])
    rates = [config.rate(step) / 1e-3 for step in (0, 49_999, 50_000, 150_000, 200_000, 400_000)]
    np.testing.assert_allclose(rates, [1, 1, 0.3, 0.027, 0.0081, 0.0081])
    assert options.defaults(["rec", "evaluate", "with"]) == {"method": "rvae_small"}
    assert options.defaults(["rec", "train", "with", "method=irec2"])["crop"] == 256


@pytest.mark.parametrize("wrong", ({"num_res_blocks": 0}, {"likelihood": "mixture"}, {"lamb": -1.0}, {"beta": 0.0}))
def test_wrong_parameters(wrong: dict[str, Any]) -> None:
    with pytest.raises(TesseraError):
        METHODS["rvae"](**wrong).model()
