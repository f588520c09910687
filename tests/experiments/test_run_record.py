"""A run folder is of one run: what differs is refused by name, and what was seen is inherited along any chain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core import checkpoint
from core.codec import TesseraError
from core.images import save_image
from core.registry import discover, make_method
from experiments.calibrate import calibrate
from experiments.run_record import claim, default_folder, facts
from tests.support.tiny_qres import shrink

discover()
TRAIN = ("vq", "train", "with", "smoke", "method=vqvae", "params.size=16", "params.channels=1", "crop=16",
         "scales=[1.0]", "steps=2")  # fmt: skip
RUN = "runs/vqvae-16-channels=1-seed0"  # where it goes by default


@pytest.fixture
def folders(tmp_path) -> None:
    """Folders A, B and C of pictures, all different."""
    for i, name in enumerate("ABC"):
        for j in range(2):
            image = np.random.default_rng(10 * i + j).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            save_image(tmp_path / name / f"{j}.png", image)


def meta(folder: str) -> dict:
    return json.loads(Path(folder, "meta.json").read_text())


def test_another_run_in_the_same_folder_is_refused_and_named(command, folders):
    first = command(*TRAIN, "dataset=folder:A")
    assert first.code == 0, first.err
    before = meta(RUN)
    for words, said in (
        (("dataset=folder:B",), "dataset=folder:A there, dataset=folder:B here; other training pictures"),
        (("dataset=folder:A", "lr=1e-4"), "lr=0.002 there, lr=0.0001 here"),
        (("dataset=folder:A", "params.commitment=1.0", f"folder={RUN}"), "commitment=0.25 there, commitment=1"),
        (("dataset=folder:A", f"init={RUN}"), f"init=none there, init={before['id']} here"),
        (("dataset=folder:A", "steps=1"), "holds a run of 2 steps and steps=1 are fewer"),
        (("dataset=folder:A", "params.size=64", f"folder={RUN}"), "point=16 there, point=64 here"),
    ):
        done = command(*TRAIN, *words)
        assert done.code == 2 and said in done.sentence and RUN in done.sentence, done.err
        assert "folder=DIR" in done.sentence and meta(RUN) == before
    elsewhere = command(*TRAIN, "dataset=folder:B", "folder=runs/other")
    assert elsewhere.code == 0 and meta("runs/other")["data"]["names"] == ["folder:B"]
    assert command(*TRAIN, "dataset=folder:A", "params.commitment=1.0").code == 0  # another run by default
    assert meta("runs/vqvae-16-channels=1-commitment=1.0-seed0")["params"]["commitment"] == 1


@pytest.mark.parametrize(
    ("name", "params", "folder"),
    [
        ("qres34m", {"lmb": 32}, "runs/qres34m-32-seed3"),
        (
            "qres3m_vr",
            {"lmb": 32, "target": "ms_ssim", "lmb_range": [4, 2048]},
            "qres3m_vr-lmb_range=4x2048-target=ms_ssim-seed3",
        ),
        ("lattice_full", {"lmb": 0.3, "backbone": "a/b"}, "runs/lattice_full-0.3-backbone=a_b-seed3"),
    ],
)
def test_every_set_of_parameters_has_a_folder(name, params, folder):
    method = make_method(name, {k: v for k, v in params.items() if k != "backbone"})
    assert folder in str(default_folder(method, params, 3))


def test_changed_pictures_are_another_run(command, folders, tmp_path):
    assert command(*TRAIN, "dataset=folder:A").code == 0
    save_image(tmp_path / "A" / "1.png", np.full((24, 32, 3), 7, np.uint8))
    done = command(*TRAIN, "dataset=folder:A", "steps=3")
    assert done.code == 2 and "(other training pictures)" in done.sentence


def test_the_same_run_goes_on_and_may_be_longer(command, folders):
    for steps, more in ((2, ()), (2, ("log_every=2", "half=True", "device=cpu:0")), (3, ("save_every=1",)), (5, ())):
        done = command(*TRAIN, "dataset=folder:A", "folder=run", f"steps={steps}", *more)
        assert done.code == 0, done.err
    recipe = meta("run")["recipe"]
    assert recipe["steps"] == 5 and recipe["steps_before"] == [2, 3] and recipe["device"] == "cpu"


def test_a_state_that_says_nothing_is_not_resumed(command, folders):
    assert command(*TRAIN, "dataset=folder:A", "folder=run").code == 0
    Path("run/run.json").unlink()  # as older versions left it: a run that has ended is known by its meta.json
    assert command(*TRAIN, "dataset=folder:A", "folder=run", "steps=3").code == 0
    Path("run/run.json").unlink()
    done = command(*TRAIN, "dataset=folder:B", "folder=run", "steps=4")
    assert done.code == 2 and "other training pictures" in done.sentence
    Path("run/meta.json").unlink()
    for data in "AB":
        done = command(*TRAIN, f"dataset=folder:{data}", "folder=run", "steps=4")
        assert done.code == 2 and "state.pt does not say what it was trained on" in done.sentence
    Path("run/state.pt").unlink()
    assert command(*TRAIN, "dataset=folder:B", "folder=run").code == 0


def test_what_was_seen_is_inherited_along_a_chain(command, folders):
    start = ()
    for name in "ABC":
        assert command(*TRAIN, f"dataset=folder:{name}", f"folder=run{name}", *start).code == 0
        start = (f"init=run{name}",)
    discover()
    method = make_method("vqvae", {"size": 16})
    config = {
        "method": "vqvae",
        "params": {**method.parameters(), "size": 16},
        "dataset": "folder:C",
        "data_root": None,
    }
    calibrate({**config, "weights": "runB", "folder": "counted", "crop": 1, "scales": (1.0,)}, None)
    for folder, seen in (("runA", "A"), ("runB", "AB"), ("runC", "ABC"), ("counted", "ABC")):
        assert sorted(meta(folder)["data"]["names"]) == [f"folder:{name}" for name in seen]
        for name in "ABC":
            done = command("vq", "evaluate", "with", "method=vqvae", f"weights={folder}", f"dataset=folder:{name}")
            leak = "2 of 2 images of folder" in done.err and "in the training data of these weights" in done.err
            assert leak == (name in seen) and done.code == (2 if leak else 0), (folder, name, done.err)


def test_folding_inherits_too(command, folders, monkeypatch):
    shrink(monkeypatch)
    small = ("qres", "train", "with", "smoke", "steps=1", "scales=[1.0]", "crop=64")
    for name in "AB":
        for j in range(2):
            path = Path(name, f"{j}.png")
            rng = np.random.default_rng(ord(name) + j)
            save_image(path, rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert command(*small, "method=qres34m_vr", "dataset=folder:A", "folder=vr").code == 0
    assert command(*small, "method=qres34m", "init=vr", "dataset=folder:B", "folder=folded").code == 0
    for name in "AB":
        done = command("qres", "evaluate", "with", "method=qres34m", "weights=folded", f"dataset=folder:{name}")
        assert done.code == 2 and "in the training data of these weights" in done.err


def test_many_fingerprints_are_inherited_through_their_file(tmp_path):
    many = [f"{i:064x}"[::-1] for i in range(1500)]
    model = torch.nn.Linear(2, 2)
    start = checkpoint.save(tmp_path / "a", model, {"method": "m", "data": {"names": ["a"], "fingerprints": many}})
    own = {"names": ["b"], "fingerprint": "x", "fingerprints": [*many[:3], "f" * 64]}
    data = checkpoint.inherited(own, start)
    assert data["names"] == ["b", "a"] and len(data["fingerprints"]) == 1501 and data["fingerprint"] == "x"
    after = checkpoint.save(tmp_path / "b", model, {"method": "m", "data": data})
    assert checkpoint.seen(after) == {d[:16] for d in [*many, "f" * 64]}
    assert checkpoint.inherited(own, None) == own


def test_an_option_that_is_younger_than_a_run_is_not_asked_of_it(tmp_path):
    method, data = make_method("qres3m_vr"), {"names": ["a"], "fingerprint": "0"}
    config = {"method": "qres3m_vr", "params": {}, "dataset": "a", "steps": 5, "lr": 1e-3}
    claim(tmp_path, facts(method, config, data, None))
    (tmp_path / "state.pt").touch()
    assert claim(tmp_path, facts(method, {**config, "newer": True}, data, None)) == []
    with pytest.raises(TesseraError, match="newer=True there, newer=False here"):
        claim(tmp_path, facts(method, {**config, "newer": False}, data, None))


def test_a_branch_of_a_run_that_has_not_ended(command, folders, tmp_path):
    """It begins from the averaged weights so far, has seen what that run has seen, and resumes while that goes on."""
    long = (*TRAIN, "method=vqvae", "dataset=folder:A", "folder=runs/long", "schedule=constant")
    assert command(*long, "save_every=1").code == 0
    (tmp_path / "runs" / "long" / "weights.safetensors").unlink()
    (tmp_path / "runs" / "long" / "meta.json").unlink()
    state = torch.load(tmp_path / "runs" / "long" / "state.pt", weights_only=True)
    short = (*TRAIN, "dataset=folder:B", "init=runs/long", "folder=runs/short", "lr=1e-3")
    done = command(*short)
    assert done.code == 0, done.err
    found, begun = meta("runs/short"), meta("runs/short/start")
    assert found["data"]["names"] == ["folder:B", "folder:A"] and len(found["data"]["fingerprints"]) == 4
    assert found["recipe"]["init"] == begun["id"] and begun["branched"] == {"from": "long", "step": 2}
    assert begun["data"]["names"] == ["folder:A"] and begun["recipe"]["schedule"] == "constant"
    method = make_method("vqvae", {"size": 16})
    weights = checkpoint.find(method, "runs/short/start")
    assert weights is not None
    loaded = checkpoint.load(method, weights).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state["average"].items())
    assert command(*long, "steps=3").code == 0, "the long run goes on"
    again = command(*short, "steps=3")
    assert again.code == 0 and meta("runs/short")["recipe"]["init"] == begun["id"], again.err
    other = command(*TRAIN, "dataset=folder:B", "init=runs/other", "folder=runs/short", "lr=1e-3")
    assert other.code == 2 and "begins from a run in long, not other" in other.sentence


def test_a_run_that_does_not_say_what_it_has_seen_is_no_start(command, folders, tmp_path):
    assert command(*TRAIN, "dataset=folder:A", "folder=runs/old").code == 0
    run = tmp_path / "runs" / "old"
    (run / "weights.safetensors").unlink()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({name: part for name, part in record.items() if name != "seen"}))
    done = command(*TRAIN, "dataset=folder:B", "init=runs/old", "folder=runs/new")
    assert done.code == 2 and "does not say which pictures it has seen" in done.sentence
    (run / "run.json").write_text(json.dumps(record))
    (run / "state.pt").write_bytes(b"damaged")
    done = command(*TRAIN, "dataset=folder:B", "init=runs/old", "folder=runs/new")
    assert done.code == 2 and "state.pt cannot be read" in done.sentence and not (tmp_path / "runs" / "new").exists()
