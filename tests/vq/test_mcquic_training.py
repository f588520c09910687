"""Training McQuic: resuming, several processes, both ways of choosing codes, both targets, other starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core import checkpoint
from core.crops import Crops
from core.lamb import Lamb
from core.registry import METHODS, discover
from core.train import TrainConfig, fit
from vq.mcquic.network import McQuic, Recipe

discover()
torch.set_num_threads(1)
CONFIG = TrainConfig(steps=8, batch=2, lr=1e-3, warmup=1, ema=0.5, save_every=4, log_every=1)


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    plain = 120 + 50 * np.sin(rows / 7)[..., None] + 50 * np.cos(columns / 5)[..., None] * np.array([1, 0.5, 0.2])
    return [(plain + rng.normal(0, 5, plain.shape)).clip(0, 255).astype(np.uint8) for _ in range(3)]


def model(recipe: Recipe | None = None, levels: int = 1) -> McQuic:
    torch.manual_seed(0)
    recipe = recipe or Recipe(target="mse", mode="nearest", free=2, revive=3, colour=True, erase=0.5)
    return McQuic(8, 2, (8, 4)[:levels], recipe)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_stopped_and_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    crops = Crops(images(), 32)
    whole = fit(model(), crops, CONFIG, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stopping(step: int, share: range) -> torch.Tensor:
        if step == 6:  # two steps behind what was saved
            raise Stop
        return crops(step, share)

    with pytest.raises(Stop):
        fit(model(), stopping, CONFIG, tmp_path / "parts")
    assert equal(fit(model(), crops, CONFIG, tmp_path / "parts"), whole)
    assert not equal(whole, model())


RANKS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from core import parallel
from core.crops import Crops
from core.train import fit
from tests.vq.test_mcquic_training import CONFIG, images, model
with parallel.process_group(torch.device("cpu")):
    net = model()
    fit(net, Crops(images(), 32), CONFIG, Path(sys.argv[2]))
    torch.save(net.state_dict(), Path(sys.argv[2]) / f"rank{parallel.rank()}.pt")
"""


def test_two_processes_keep_one_model(tmp_path: Path) -> None:
    script, run = tmp_path / "ranks.py", tmp_path / "run"
    script.write_text(RANKS)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([*start, str(root), str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(run / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    shares = first["_quantizer._entropyCoder._freqEMA.0"]
    assert torch.allclose(shares.sum(1), torch.ones(2), atol=1e-4) and (shares != 1 / 8).any()


@pytest.mark.parametrize("mode", ["gumbel", "nearest"])
def test_training_lowers_the_distortion(mode: str, tmp_path: Path) -> None:
    recipe = Recipe(target="mse", mode=mode, free=4 if mode == "nearest" else 0, revive=10)
    losses: list[float] = []
    config = TrainConfig(steps=30, batch=2, lr=3e-3, warmup=1, log_every=1, save_every=30)
    fit(
        model(recipe, 2),
        Crops(images(), 32),
        config,
        tmp_path,
        lambda step, values: losses.append(values["distortion"]),
    )
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_ms_ssim_target_and_bits(tmp_path: Path) -> None:
    net = model(Recipe(target="ms_ssim"), 2).train()
    big = [np.tile(image, (3, 3, 1)) for image in images()]
    step = net(Crops(big, 192)(0, range(1)))
    step.loss.backward()
    assert 0 < float(step.distortion) < 1 and torch.equal(step.loss, step.distortion)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)
    assert abs(float(step.bits) - (3 * 2 / 256 + 2 * 2 / 1024)) < 0.01, "fresh frequencies are nearly uniform"


def test_ms_ssim_is_not_taken_in_bfloat16() -> None:
    torch.manual_seed(0)
    model, x = METHODS["mcquic_small"](target="ms_ssim").model(), 0.2 * torch.rand(1, 3, 192, 192) + 0.7
    out = x + 0.02 * torch.randn_like(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.distortion(out, x)
    assert torch.allclose(mixed, model.distortion(out, x), atol=1e-6)


def test_frequencies_and_tables_of_a_trained_model_are_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model(Recipe(), 2).eval()
    net.calibrate(images())
    for stored in net.frequencies():
        assert torch.equal(stored, stored.round()) and stored.min() >= 1 and stored.max() == 2048
        assert torch.equal(stored.half().float(), stored), "so that 16-bit weights keep them"
    report = net.monitor(images())
    assert 1 <= report["perplexity0"] <= 8 and 0 < report["live1"] <= 1


def test_a_start_from_another_point_takes_what_fits() -> None:
    options = {"channel": 8, "k": (8, 4), "context": True}
    four, two = METHODS["mcquic_small"](m=4, **options), METHODS["mcquic_small"](m=2, **options)
    torch.manual_seed(0)
    start, made = four.model(), None
    made = two.adopt(start.state_dict())
    assert torch.equal(made._encoder[0].weight, start._encoder[0].weight)
    assert made._quantizer._encoders[0]._quantizer._codebook.shape == (2, 8, 4)
    with pytest.raises(RuntimeError, match="size mismatch"):
        two.model().load_state_dict(start.state_dict())


def test_weights_are_saved_although_names_share_a_codebook(tmp_path: Path) -> None:
    method = METHODS["mcquic_small"](channel=8, m=2, k=(8, 4))
    net = method.model()
    checkpoint.save(tmp_path, net, {"method": "mcquic_small", "point": 2})
    weights = checkpoint.find(method, str(tmp_path))
    assert weights is not None and equal(checkpoint.load(method, weights), net)
    plain = METHODS["mcquic_small"](channel=8, m=2, k=(8, 4), context=False)
    assert checkpoint.load(plain, weights).context is None


def test_lamb_steps_are_as_long_as_the_learning_rate_says() -> None:
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(20))
    before, optimizer = p.detach().clone(), Lamb([p], lr=0.01)
    p.grad = 1000 * torch.randn(20)
    optimizer.step()
    assert abs(float((p - before).detach().norm() / before.norm()) - 0.01) < 1e-6
    still = torch.nn.Parameter(torch.ones(2))
    Lamb([still]).step()
    assert torch.equal(still, torch.ones(2))


def test_schedule_of_two_cycles() -> None:
    config = TrainConfig(steps=100, lr=1.0, warmup=0, cycles=2)
    assert config.rate(0) == 1 and config.rate(49) < 0.02 and config.rate(50) == 0.25 and config.rate(99) < 0.01
