"""The training loop on a tiny model: killed and resumed, in two processes, on bad steps; and through the CLI."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.codec import TesseraError
from core.crops import Crops, Upright
from core.train import STUCK, WINDOW, Step, TrainConfig, Trainer, fit


class Tiny(nn.Module):
    """Predicts each pixel from its surroundings; ``noise`` makes the loss random, as dither does."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.noise = noise
        self.net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 3, 3, padding=1))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Step:
        if self.training:
            self.steps += 1
        y = self.net(x + self.noise * torch.randn_like(x))
        error = (y - x.roll(1, 3)).square().mean()
        return Step(error, error.detach() * 2, error.detach())


def batches(step: int, share: range) -> torch.Tensor:
    def one(k: int) -> torch.Tensor:
        return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1000 * step + k))

    return torch.stack([one(k) for k in share])


CHILD = """
import json, os, signal, sys
from pathlib import Path
import torch
from core import parallel
from core.train import TrainConfig, fit
sys.path.insert(0, sys.argv.pop(1))
from tests.core.test_train import Tiny, batches

torch.set_num_threads(1)
"""
CONFIG = TrainConfig(steps=30, batch=4, lr=1e-2, warmup=5, save_every=7, log_every=1)

KILLED = """
folder, at = Path(sys.argv[1]), int(sys.argv[2])

def log(step, values):
    if step == at:
        (folder / ".part-state.pt-0").write_bytes(b"half a file")  # what a kill inside of a save leaves
        os.kill(os.getpid(), signal.SIGKILL)

fit(Tiny(0.1), batches, TrainConfig(**json.loads(sys.argv[3])), folder, log)
"""

RANKS = """
folder = Path(sys.argv[1])
with parallel.process_group(torch.device("cpu")):
    losses = []
    trained = fit(Tiny(0.0), batches, TrainConfig(**json.loads(sys.argv[2])), folder, lambda s, v: losses.append(v))
    torch.save([trained.state_dict(), losses], folder / f"rank{parallel.rank()}.pt")
"""


def child(code: str, *arguments: str, ranks: int = 0) -> subprocess.CompletedProcess[str]:
    script = Path(arguments[0]).parent / "child.py"
    script.write_text(CHILD + code)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks else []
    command = [sys.executable, *start, str(script), str(Path(__file__).resolve().parents[2]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def as_json(config: TrainConfig) -> str:
    return json.dumps(config.__dict__)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    return fit(Tiny(0.1), batches, CONFIG, tmp_path_factory.mktemp("run"))


# Interruptions


def test_killed_and_resumed_gives_the_same_weights(tmp_path, undisturbed):
    run = tmp_path / "run"
    done = child(KILLED, str(run), "17", as_json(CONFIG))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(run / "state.pt", weights_only=True)["step"] == 14
    steps: list[int] = []
    assert same(fit(Tiny(0.1), batches, CONFIG, run, lambda step, values: steps.append(step)), undisturbed)
    assert steps == list(range(15, 31))


def test_sigterm_and_ctrl_c_save_after_the_step_at_hand(tmp_path, undisturbed):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number, at in ((signal.SIGTERM, 9), (signal.SIGINT, 20)):

        def interrupted(step: int, share: range, number=number, at=at) -> torch.Tensor:
            if step == at:
                os.kill(os.getpid(), number)
            return batches(step, share)

        with pytest.raises(KeyboardInterrupt):
            fit(Tiny(0.1), interrupted, CONFIG, tmp_path)
        step = torch.load(tmp_path / "state.pt", weights_only=True)["step"]
        assert at - 1 <= step <= at + 2 and step % CONFIG.save_every
    assert same(fit(Tiny(0.1), batches, CONFIG, tmp_path), undisturbed)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))


def test_a_finished_run_is_not_trained_further(tmp_path, undisturbed):
    fit(Tiny(0.1), batches, CONFIG, tmp_path)
    seen: list[int] = []
    assert same(fit(Tiny(0.1), batches, CONFIG, tmp_path, lambda step, values: seen.append(step)), undisturbed)
    assert not seen


def test_state_of_another_model_or_damaged_is_one_sentence(tmp_path):
    fit(Tiny(0.1), batches, replace(CONFIG, steps=1), tmp_path)
    whole = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(TesseraError, match="another model"):
        fit(nn.Linear(3, 3), batches, CONFIG, tmp_path)
    for damaged in (whole[: len(whole) // 2], b"", b"<html>"):
        (tmp_path / "state.pt").write_bytes(damaged)
        with pytest.raises(TesseraError, match="cannot resume from") as caught:
            fit(Tiny(0.1), batches, CONFIG, tmp_path)
        assert "\n" not in str(caught.value)


# Several processes


def test_two_processes_train_as_one(tmp_path):
    run, config = tmp_path / "run", replace(CONFIG, steps=12)
    done = child(RANKS, str(run), as_json(config), ranks=2)
    assert done.returncode == 0, done.stderr
    (first, losses), (second, silent) = (torch.load(run / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first) and not silent
    alone: list[dict[str, float]] = []
    weights = fit(Tiny(0.0), batches, config, tmp_path / "alone", lambda step, values: alone.append(values))
    assert [v["loss"] for v in losses] == pytest.approx([v["loss"] for v in alone], rel=1e-4)
    assert [v["norm"] for v in losses] == pytest.approx([v["norm"] for v in alone], rel=1e-3)
    for name, value in weights.state_dict().items():
        assert torch.allclose(first[name], value, atol=1e-5)


def test_a_batch_that_cannot_be_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(TesseraError, match="batch=4 cannot be shared by 3 processes"):
        fit(Tiny(0.0), batches, CONFIG, tmp_path)


# Steps


class Spiky(nn.Module):
    """A loss whose gradient is 1, except at the given steps."""

    def __init__(self, factors: dict[int, float]) -> None:
        super().__init__()
        self.weight, self.factors, self.step = nn.Parameter(torch.ones(1)), factors, 0

    def forward(self, x: torch.Tensor) -> Step:
        loss = (self.weight * self.factors.get(self.step, 1.0)).sum() + 0 * x.sum()
        self.step += 1
        return Step(loss, loss.detach(), loss.detach())


def run_spiky(tmp_path: Path, factors: dict[int, float], steps: int) -> tuple[list[dict[str, float]], nn.Module]:
    config = TrainConfig(steps=steps, batch=1, lr=1e-3, warmup=0, schedule="constant", log_every=1, clip=1e6)
    rows: list[dict[str, float]] = []
    model = Spiky(factors)
    fit(model, lambda step, share: torch.zeros(1, 1, 1, 1), config, tmp_path, lambda step, values: rows.append(values))
    return rows, model


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path, bad):
    rows, model = run_spiky(tmp_path, {1: bad, 4: bad}, 6)
    assert [row["skipped"] for row in rows] == [0, 1, 1, 1, 2, 2]
    assert model.weight.item() == pytest.approx(1 - 4e-3, abs=1e-4), "four steps of Adam with a constant gradient"


class Cliff(nn.Module):
    """Its loss falls with its weight, up to a height beyond which it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Step:
        loss = x.mean() * 0 - self.weight
        loss = loss if float(self.weight) < 0.1 else loss * math.nan
        return Step(loss, loss.detach(), loss.detach())


def test_a_run_that_cannot_step_goes_back_to_the_average_and_resumes_the_same(tmp_path, capsys):
    def run(trainer: Trainer, steps: int) -> list[float]:
        weights = []
        for _ in range(steps):
            trainer.advance(trainer.model, torch.zeros(1, 3, 8, 8))
            weights.append(float(trainer.model.get_parameter("weight")))
        return weights

    def begun() -> Trainer:
        trainer = Trainer(Cliff(), replace(CONFIG, steps=10_000, schedule="constant", lr=1e-2, warmup=1))
        trainer.step = 9000  # where the average is of many steps
        return trainer

    whole = begun()
    weights = run(whole, 60)
    beyond = next(i for i, weight in enumerate(weights) if weight >= 0.1)
    assert set(weights[beyond : beyond + STUCK]) == {weights[beyond]} and weights[beyond + STUCK] < 0.1
    assert "20 steps in a row were not taken: from step" in capsys.readouterr().out
    first, second = begun(), begun()
    before = run(first, beyond + 5)
    first.save(tmp_path / "state.pt")
    second.load(tmp_path / "state.pt")
    assert before + run(second, 60 - len(before)) == weights


def test_outliers_are_skipped_once_the_median_is_known(tmp_path):
    rows, _ = run_spiky(tmp_path, {WINDOW - 2: 50.0, WINDOW + 3: 50.0, WINDOW + 4: 5.0}, WINDOW + 6)
    skipped = [row["skipped"] for row in rows]
    assert skipped[WINDOW + 2] == 0 and skipped[WINDOW + 3 :] == [1, 1, 1]


def test_gradients_are_clipped(tmp_path):
    config = replace(CONFIG, steps=1, clip=1e-3)
    trainer = Trainer(Tiny(0.0), config)
    norm = trainer.advance(trainer.model, batches(0, range(4)))["norm"]
    clipped = math.sqrt(sum(float(p.grad.square().sum()) for p in trainer.model.parameters()))
    assert norm > 0.01 and clipped == pytest.approx(1e-3, rel=1e-3)


def test_schedules():
    cosine = TrainConfig(steps=100, lr=2.0, warmup=10, final_lr=0.1)
    assert [cosine.rate(s) for s in (0, 4)] == pytest.approx([0.2, 1.0], rel=0.01)
    assert cosine.rate(50) == pytest.approx(2 * (0.1 + 0.9 * 0.5)) and cosine.rate(100) == pytest.approx(0.2)
    constant = replace(cosine, schedule="constant")
    assert [constant.rate(s) for s in (0, 9, 99)] == pytest.approx([0.2, 2.0, 2.0])
    half = replace(cosine, hold=0.5, warmup=0)  # as QARV, to one step: f(t) = .1 + .45 (1 + cos(pi (t - 50) / 50))
    assert [half.rate(s) for s in (0, 50, 100)] == pytest.approx([2.0, 2.0, 0.2])
    assert half.rate(75) == pytest.approx(2 * (0.1 + 0.45 * (1 + math.cos(math.pi * 25 / 50))))
    with pytest.raises(TesseraError, match="known are constant, constant:N, cosine"):
        replace(cosine, schedule="step").rate(0)


def test_the_average_follows_the_weights(tmp_path):
    config = replace(CONFIG, steps=5, ema=0.9)
    trainer = Trainer(Tiny(0.0), config)
    expected = trainer.model.net[0].weight.detach().clone()
    for step in range(5):
        trainer.advance(trainer.model, batches(step, range(4)))
        decay = 0.9 * (1 - math.exp(-(step + 1) / 1000))
        expected = decay * expected + (1 - decay) * trainer.model.net[0].weight.detach()
    assert torch.allclose(trainer.average.net[0].weight, expected, atol=1e-7)
    assert trainer.average.steps == trainer.model.steps == 5, "buffers are copied"
    assert not torch.equal(trainer.average.net[0].weight, trainer.model.net[0].weight)


def test_validation_sees_the_average_when_the_run_is_saved(tmp_path):
    rows: dict[int, dict[str, float]] = {}
    checked: list[int] = []

    def validate(model: nn.Module, step: int) -> dict[str, float]:
        assert not model.training
        checked.append(step)
        return {"score": float(step)}

    log = lambda step, values: rows.setdefault(step, {}).update(values)  # noqa: E731
    fit(Tiny(0.0), batches, replace(CONFIG, steps=16, log_every=4), tmp_path, log, validate)
    assert checked == [7, 14, 16] and rows[14] == {"score": 14.0} and rows[16]["score"] == 16.0
    assert sorted(rows) == [4, 7, 8, 12, 14, 16]


# Crops


def test_crops_depend_on_seed_step_and_number_alone():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 30, 3), (16, 16, 3), (20, 90, 3))]
    crops = Crops(images, 16, seed=3)
    whole = crops(5, range(8))
    assert whole.shape == (8, 3, 16, 16) and whole.dtype == torch.float32 and 0 <= whole.min() <= whole.max() <= 1
    assert torch.equal(whole, Crops(list(images), 16, seed=3)(5, range(8)))
    assert torch.equal(whole, torch.cat([crops(5, range(r, r + 2)) for r in range(0, 8, 2)])), "4 ranks, same data"
    assert not torch.equal(whole, crops(6, range(8))) and not torch.equal(whole, Crops(images, 16, seed=4)(5, range(8)))
    assert len({sample.numpy().tobytes() for sample in crops(5, range(64))}) > 55


def test_crops_are_parts_of_the_images_drawn_by_area():
    images = [np.full(shape, i, np.uint8) for i, shape in enumerate(((8, 8, 3), (24, 24, 3)))]
    drawn = (Crops(images, 8)(0, range(400)) * 255).round().amax((1, 2, 3))
    assert set(drawn.tolist()) == {0.0, 1.0} and float(drawn.mean()) == pytest.approx(0.9, abs=0.05)
    image = np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)
    turns = [np.rot90(flip, k) for flip in (image, image[:, ::-1]) for k in range(4)]
    found = {i for k in range(60) for i, t in enumerate(turns) if np.array_equal(Crops([image], 12).sample(0, k), t)}
    assert found == set(range(8)), "every flip and turn"


@pytest.mark.parametrize("images", [[], [np.zeros((16, 15, 3), np.uint8)]])
def test_images_too_small_for_a_crop_are_refused(images):
    with pytest.raises(TesseraError, match="smaller than crop=16"):
        Crops(images, 16)


def test_small_pictures_are_drawn_in_small_crops_alone():
    """CIFAR's among photographs: every third step after the first ones has small crops again."""
    images = [np.full(shape, i, np.uint8) for i, shape in enumerate(((8, 8, 3), (24, 24, 3)))]
    for kind in (Crops, Upright):
        crops = kind(images, 16, first=(8, 2), again=3)
        assert [crops.size_at(step) for step in range(8)] == [8, 8, 16, 8, 16, 16, 8, 16]
        assert {int(crops.sample(3, k).max()) for k in range(60)} == {0, 1}
        assert {int(crops.sample(4, k).max()) for k in range(60)} == {1}
    config = TrainConfig(steps=8, batch=2, first_batch=6, first_steps=2, first_again=3)
    assert [config.batch_at(step) for step in range(8)] == [6, 6, 2, 6, 2, 2, 6, 2]
    with pytest.raises(TesseraError, match="no training image is as large as crop=32"):
        Crops(images, 32, first=(8, 2))


# The command


def test_train_command_resumes_and_its_images_are_not_scored(command, pictures, monkeypatch, tmp_path):
    where = ("dataset=folder:pictures", "folder=run", "scales=[1.0]")
    done = command("qres", "train", "with", "smoke", "steps=2", *where)
    assert done.code == 0 and "step 2 of 2" in done.out and "run/weights.safetensors" in done.out, done.err
    first = json.loads((tmp_path / "run" / "meta.json").read_text())
    done = command("qres", "train", "with", "smoke", "steps=3", *where)
    assert done.code == 0 and "step 3 of 3" in done.out and "step 2 of" not in done.out
    meta = json.loads((tmp_path / "run" / "meta.json").read_text())
    assert meta["id"] != first["id"] and meta["recipe"]["steps"] == 3 and meta["method"] == "qres3m_vr"
    assert meta["data"]["names"] == ["folder:pictures"] and len(meta["data"]["fingerprints"]) == 3
    lines = (tmp_path / "run" / "train.csv").read_text().splitlines()
    assert lines[0].startswith("step,loss,bits") and [line.partition(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())

    done = command("qres", "train", "with", "smoke", "steps=1", where[0], "init=run", "folder=next")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "next" / "meta.json").read_text())["recipe"]["init"] == meta["id"]

    (tmp_path / "other").mkdir()
    (pictures / "0.png").rename(tmp_path / "other" / "renamed.png")
    scored = command("qres", "evaluate", "with", "dataset=folder:other", "points=64", "weights=run")
    assert scored.code == 2 and "renamed" in scored.err and "in the training data" in scored.err
    new = np.asarray(np.random.default_rng(9).integers(0, 256, (40, 50, 3)), np.uint8)
    from core.images import save_image

    save_image(tmp_path / "fresh" / "new.png", new)
    scored = command("qres", "evaluate", "with", "dataset=folder:fresh", "points=64", "weights=run")
    assert scored.code == 0 and "qres3m_vr" in scored.out, scored.err


def test_a_grey_training_image_is_recognised_too(tmp_path):
    """Training sees grey images as RGB; the fingerprint is of what the file holds."""
    from benchmarks.datasets import open_dataset
    from benchmarks.measure.harness import LeakError, refuse_leaks
    from core.images import save_image
    from experiments.train import training_data

    save_image(tmp_path / "a" / "grey.png", np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8))
    config = {"dataset": f"folder:{tmp_path / 'a'}", "data_root": None, "scales": (1.0,), "crop": 16}
    images, data = training_data(config)
    assert images[0].shape == (32, 32, 3)
    with pytest.raises(LeakError):
        refuse_leaks(open_dataset(config["dataset"]), data["fingerprints"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("dataset=kodak",), "kodak is for evaluation only"),
        (("dataset=folder:pictures", "crop=512"), "smaller than crop=512"),
        (("dataset=folder:pictures", "schedule=cos"), "unknown schedule 'cos'"),
        (("dataset=folder:pictures", "steps=many"), "steps=many must be a whole number, at least 1"),
        (("dataset=folder:pictures", "batch=0"), "batch=0 must be a whole number, at least 1"),
        (("dataset=folder:pictures", "seed=-1"), "seed=-1 must be a whole number, at least 0"),
        (("dataset=folder:pictures", "folder=pictures/0.png/run"), "cannot be written"),
        (("method=jpeg", "dataset=folder:pictures"), "jpeg has nothing to train"),
        (("method=qres3m_v", "dataset=folder:pictures"), "did you mean qres3m_vr"),
        (("dataset=folder:pictures", "device=cuda"), "device=cuda is not available"),
    ],
)
def test_mistakes_in_training_are_one_sentence(command, pictures, monkeypatch, words, sentence):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = command("qres", "train", "with", "smoke", *words)
    assert ended.code == 2 and sentence in ended.sentence
