"""Options of the one training loop: crops that grow, a held start, hard tail, lambda, SOAP, validation, a full disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.datasets import open_dataset, training_set
from benchmarks.datasets.files import DataError
from core import parallel
from core.codec import TesseraError
from core.crops import Crops
from core.images import save_image
from core.soap import Soap
from core.train import TrainConfig, Trainer, fit
from experiments.validation import middle, validation
from qres.architectures import Architecture
from qres.network import QResVAE
from tests.core.test_train import CONFIG, Tiny, batches, same

SMALL = Architecture(
    (("patch", 16, 4), ("cnx", 16, 3), ("down", 16, 16, 2), ("cnx", 16, 1)),
    (("latent", 16, 4, 1), ("up", 16, 16, 2), ("latent", 16, 4, 3), ("up", 16, 3, 4)),
    -0.45, 3.7, embedding=8, gamma=0.1, least=16,
)  # fmt: skip


def model(**options: object) -> QResVAE:
    torch.manual_seed(3)
    made = QResVAE(SMALL, 64)
    for name, value in options.items():
        setattr(made, name, value)
    return made


# Crops and schedule


def growing() -> tuple[Crops, TrainConfig]:
    images = [np.random.default_rng(i).integers(0, 256, (40, 48, 3), dtype=np.uint8) for i in range(3)]
    return Crops(images, 32, seed=1, first=(16, 9)), replace(CONFIG, steps=14, first_batch=6, first_steps=9)


def test_crops_grow_and_the_batch_with_them(tmp_path):
    crops, config = growing()
    seen: list[tuple[int, ...]] = []

    def watched(step: int, share: range) -> torch.Tensor:
        seen.append(tuple(crops(step, share).shape))
        return crops(step, share)

    fit(Tiny(0.1), watched, config, tmp_path)
    assert seen[:9] == [(6, 3, 16, 16)] * 9 and set(seen[9:]) == {(4, 3, 32, 32)}
    assert torch.equal(crops(9, range(4)), Crops(crops.images, 32, seed=1)(9, range(4))), "as if they had not grown"


@pytest.mark.parametrize("at", [4, 8, 9, 11])
def test_growing_crops_resume_bit_for_bit(tmp_path, at):
    crops, config = growing()
    steady = replace(config, schedule="constant")
    whole = fit(Tiny(0.1), crops, steady, tmp_path / "steady")
    fit(Tiny(0.1), crops, replace(steady, steps=at), tmp_path / "halves")
    assert same(fit(Tiny(0.1), crops, steady, tmp_path / "halves"), whole)


def test_the_cosine_waits_for_the_held_share():
    held = TrainConfig(steps=100, lr=2.0, warmup=0, final_lr=0.1, hold=0.4)
    assert [held.rate(step) for step in (0, 20, 39)] == [2.0] * 3
    assert held.rate(70) == pytest.approx(2 * (0.1 + 0.9 * 0.5)) and held.rate(100) == pytest.approx(0.2)
    plain = replace(held, steps=60, hold=0.0)
    assert [held.rate(40 + s) for s in range(60)] == pytest.approx([plain.rate(s) for s in range(60)])


# Hard tail and lambda


def test_the_hard_tail_trains_decoder_and_priors_on_rounded_latents(tmp_path):
    net = model(hard_tail=0.25)
    config = TrainConfig(steps=8, batch=2, lr=1e-2, warmup=0, log_every=1, amp=True)
    run = Trainer(net, config)
    images = torch.rand(2, 3, 32, 32)
    run.model.train()
    for step in range(8):
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        run.advance(run.model, images)
        moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
        frozen = {n for n in before if n.startswith(("encoder.", "embedding.")) or ".posterior." in n}
        if step >= 1:  # before, the modulation is zero, and lambda's embedding has no gradient
            assert (not moved & frozen) if step >= 6 else (frozen <= moved), step
        assert any(".prior." in name for name in moved) and any(".z_proj." in name for name in moved)


def test_the_hard_tail_counts_the_bits_of_rounded_latents():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    net = QResVAE(replace(SMALL, embedding=0), 64)
    net.hard_tail = 0.5
    net.begin_step(1, 2)
    hard, coded = net.train()(images), net.eval()(images)
    assert float(hard.distortion.detach()) == pytest.approx(float(coded.distortion.detach()), rel=1e-5)
    assert float(hard.bits.detach()) == pytest.approx(float(coded.bits.detach()), rel=0.02)
    net.train().begin_step(0, 2)
    soft = [float(net(images).distortion.detach()) for _ in range(2)]
    assert soft[0] != soft[1], "noise"


def test_the_hard_tail_in_a_process_group(tmp_path, monkeypatch):
    """DDP must know that some parameters have no gradient in the end."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "TESSERA_MEETING": str(tmp_path / "meeting")}.items():
        monkeypatch.setenv(name, value)
    config = TrainConfig(steps=6, batch=2, warmup=0)
    picture = lambda step, share: batches(step, share).repeat(1, 1, 4, 4)  # noqa: E731
    with parallel.process_group(torch.device("cpu")):
        together = fit(model(hard_tail=0.5), picture, config, tmp_path / "together")
    alone = fit(model(hard_tail=0.5), picture, config, tmp_path / "alone")
    pairs = zip(together.parameters(), alone.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_lambda_is_drawn_as_asked():
    torch.manual_seed(0)
    images = torch.zeros(4000, 1, 1, 1)
    for draw, shape in (("log", math.log), ("cubic", lambda v: v ** (1 / 3))):
        drawn = model(lambda_draw=draw).train().draw_lambda(images)
        low, high = (shape(v) for v in (4, 2048))
        places = torch.tensor([(shape(float(v)) - low) / (high - low) for v in drawn])
        assert places.min() >= 0 and places.max() <= 1
        assert float(places.mean()) == pytest.approx(0.5, abs=0.02)
        assert float(places.var()) == pytest.approx(1 / 12, abs=0.01)
        assert set(model(lambda_draw=draw).eval().draw_lambda(images[:3]).tolist()) == {64.0}


# SOAP


def descend(optimizer_of, rotations=None, steps: int = 25) -> torch.Tensor:
    """Weights on the way down a quadratic; with rotations (U, V), the same problem in rotated coordinates."""
    draw = torch.Generator().manual_seed(0)
    scales = torch.rand(5, 5, generator=draw).double() * 3 + 0.05
    start = torch.randn(5, 5, generator=draw).double()
    u, v = rotations or (torch.eye(5).double(), torch.eye(5).double())
    weight = nn.Parameter(u @ start @ v.t())
    optimizer = optimizer_of([weight])
    for _ in range(steps):
        optimizer.zero_grad()
        (scales * (u.t() @ weight @ v).square()).sum().backward()
        optimizer.step()
    return u.t() @ weight.detach() @ v


def test_soap_does_not_depend_on_the_coordinates_and_adam_does():
    draw = torch.Generator().manual_seed(1)
    rotations = tuple(torch.linalg.qr(torch.randn(n, n, generator=draw).double())[0] for n in (5, 5))
    soap = lambda p: Soap(p, lr=0.05, every=3)  # noqa: E731
    adam = lambda p: torch.optim.Adam(p, lr=0.05)  # noqa: E731
    assert torch.allclose(descend(soap), descend(soap, rotations), atol=2e-3)
    assert not torch.allclose(descend(adam), descend(adam, rotations), atol=0.1)


@pytest.mark.parametrize("shape", [(7,), (6, 1, 3, 3), (1, 9, 1, 1), ()])
def test_soap_is_adam_for_vectors_and_depthwise_kernels(shape):
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    soap, adam = Soap([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1, betas=(0.95, 0.95))
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        soap.step()
        adam.step()
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert set(soap.state[ours]) == {"step", "first", "second"}


def test_soap_rotates_short_sides_alone():
    state = {}
    for shape in ((300, 20), (20, 300), (300, 300), (8, 4, 3, 3)):
        p = nn.Parameter(torch.zeros(shape))
        p.grad = torch.randn(shape)
        optimizer = Soap([p])
        optimizer.step()
        state[shape] = sorted(name for name in optimizer.state[p] if name.startswith("basis"))
    assert list(state.values()) == [["basis1"], ["basis0"], [], ["basis0", "basis1"]]


def test_soap_resumes_bit_for_bit(tmp_path):
    config = replace(CONFIG, optimizer="soap", schedule="constant", steps=24)
    whole = fit(Tiny(0.1), batches, config, tmp_path / "whole")
    fit(Tiny(0.1), batches, replace(config, steps=13), tmp_path / "parts")
    assert same(fit(Tiny(0.1), batches, config, tmp_path / "parts"), whole)


# Validation


def manifest(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    lines = ["file,lossless,blob", *(",".join(row) for row in rows)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def test_held_out_photographs_are_in_no_training_split(tmp_path):
    folder = tmp_path / "photos_train"
    rows = []
    for i in range(60):
        for kind in ("", "_crop"):  # a crop has the blob of its photograph
            image = np.full((8, 8, 3), i, np.uint8)
            save_image(folder / f"p{i}{kind}.png", image)
            rows.append((f"p{i}{kind}.png", str(int(i % 3 == 0)), f"blob{i}"))
    manifest(folder, rows)
    names = {split: {image.name for image in open_dataset("photos", root=tmp_path, split=split).images}
             for split in ("train", "valid", "lossless")}  # fmt: skip
    assert (
        names["train"] | names["valid"] == {Path(row[0]).stem for row in rows} and not names["train"] & names["valid"]
    )
    blobs = {split: {name.removesuffix("_crop") for name in found} for split, found in names.items()}
    assert blobs["valid"] and not blobs["train"] & blobs["valid"], "both files of a photograph are on one side"
    assert names["lossless"] < names["train"] and all(int(n[1:].partition("_")[0]) % 3 == 0 for n in names["lossless"])
    assert (
        training_set("photos", tmp_path).title
        == f"photos train ({len(names['train'])} photos_train, 0 imagenet_photos, 0 bsds500)"
    )
    with pytest.raises(TesseraError, match="for evaluation only"):
        training_set("photos_valid", tmp_path)
    manifest(folder, rows[:-1])
    with pytest.raises(DataError, match="does not list every picture"):
        training_set("photos", tmp_path)


def test_validation_is_the_loss_of_the_middle_in_eval_mode(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((256, 300, 3), (280, 256, 3), (100, 300, 3))]
    for i, image in enumerate(images):
        save_image(tmp_path / "held" / f"{i}.png", image)
    held = [image.read() for image in open_dataset(f"folder:{tmp_path / 'held'}")]
    measure = validation(held, TrainConfig(steps=1))
    net = model().eval()
    values = measure(net, 0)
    assert net.lmb == 64 and list(values) == ["valid_loss_16", "valid_loss_64", "valid_loss_256"]
    crops = [torch.from_numpy(middle(image, 256).copy()).permute(2, 0, 1)[None] / 255 for image in images[:2]]
    with torch.no_grad():
        for lmb in (16.0, 64.0, 256.0):
            net.lmb = lmb
            assert values[f"valid_loss_{lmb:g}"] == pytest.approx(float(np.mean([float(net(x).loss) for x in crops])))
    assert list(measure(QResVAE(replace(SMALL, embedding=0), 32).eval(), 0)) == ["valid_loss_32"]


def test_watching_the_loss_does_not_change_the_weights(tmp_path, pictures):
    config = TrainConfig(steps=4, batch=2, save_every=1)
    picture = lambda step, share: batches(step, share).repeat(1, 1, 4, 4)  # noqa: E731
    draws = lambda net, step: {"drawn": float(torch.rand(()))}  # noqa: E731
    assert same(
        fit(model(), picture, config, tmp_path / "a", validate=draws), fit(model(), picture, config, tmp_path / "b")
    )


# Disk and the command


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_state_that_was_saved(tmp_path):
    config = replace(CONFIG, schedule="constant", steps=10)
    fit(Tiny(0.1), batches, replace(config, steps=3), tmp_path)
    before = (tmp_path / "state.pt").read_bytes()
    (tmp_path / ".part-state.pt-0").symlink_to("/dev/full")
    with pytest.raises(
        TesseraError, match=r"state after step 7 cannot be written \(.*\): the state before it is intact"
    ) as e:
        fit(Tiny(0.1), batches, config, tmp_path)
    assert "\n" not in str(e.value) and "No space" in str(e.value)
    assert (tmp_path / "state.pt").read_bytes() == before and not (tmp_path / ".part-state.pt-0").is_symlink()
    assert same(fit(Tiny(0.1), batches, config, tmp_path), fit(Tiny(0.1), batches, config, tmp_path / "undisturbed"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_command_on_a_full_disk_is_one_sentence(command, pictures, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".part-state.pt-0").symlink_to("/dev/full")
    ended = command("qres", "train", "with", "smoke", "dataset=folder:pictures", "scales=[1.0]", "folder=run")
    assert ended.code == 2 and "state after step 2 cannot be written" in ended.sentence
    assert "none was saved before" in ended.sentence
    (tmp_path / "run" / ".part-train.csv-0").symlink_to("/dev/full")  # the log's
    ended = command("qres", "train", "with", "smoke", "dataset=folder:pictures", "scales=[1.0]", "folder=run")
    assert ended.code == 2 and "run cannot be written (No space left on device): make room" in ended.sentence


def test_options_are_recorded_and_their_mistakes_are_sentences(command, pictures, tmp_path):
    where = ("dataset=folder:pictures", "scales=[1.0]", "folder=run", "steps=2")
    options = ("hard_tail=0.5", "lambda_draw=cubic", "optimizer=soap", "first_crop=64", "hold=0.5")
    done = command("qres", "train", "with", "smoke", *where, *options)
    assert done.code == 0, done.err
    recipe = json.loads((tmp_path / "run" / "meta.json").read_text())["recipe"]
    told = {"hard_tail": 0.5, "lambda_draw": "cubic", "optimizer": "soap", "first_crop": 64, "hold": 0.5}
    assert told.items() <= recipe.items()
    for word, sentence in (
        ("hard_tail=1.5", "hard_tail=1.5 must be at least 0 and less than 1"),
        ("lambda_draw=linear", "lambda_draw=linear must be log or cubic"),
        ("optimizer=adamw", "unknown optimizer 'adamw': known are adam, adamax, lamb, soap"),
    ):
        ended = command("qres", "train", "with", "smoke", *where[:2], "folder=other", word)
        assert ended.code == 2 and sentence in ended.sentence
    ended = command("vq", "train", "with", "smoke", "method=vqvae", "dataset=folder:pictures", "hard_tail=0.1")
    assert ended.code == 2 and "hard_tail=0.1 is an option of the QRes-VAE methods, not of vqvae" in ended.sentence
