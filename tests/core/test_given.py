"""Weights given by path: compared with what is asked, their own point, their names, folders of several."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks.curves import curve
from benchmarks.store import Store
from core import checkpoint
from core.checkpoint import CheckpointError
from core.codec import MissingWeights, TesseraError
from core.registry import METHODS, discover, make_method
from tests.support.tiny_qres import shrink

discover()
HERE = "dataset=folder:pictures"
SHIPPED = checkpoint.SHIPPED


def saved(folder: Path, name: str, seed: int = 0, **params) -> checkpoint.Weights:
    """Fresh weights of a method as training leaves them."""
    torch.manual_seed(seed)
    method = make_method(name, params)
    point = None if method.variable_rate else method.point
    meta = {"method": name, "params": dict(method.variant), "point": point}
    return checkpoint.save(folder, method.model(), meta)


# Compared


@pytest.mark.parametrize(
    ("asked", "params", "place", "sentence"),
    [
        (
            "qres3m_vr",
            {},
            "qres3m_vr_ms_ssim",
            "holds qres3m_vr with target=ms_ssim, not with target=mse: ask for params",
        ),
        ("qres3m_vr", {"lmb_range": (1, 9000)}, "qres3m_vr", "with lmb_range=4,1024, not with lmb_range=1,9000"),
        ("vqvae_ema", {}, "vq/vqvae_rot-256", "holds weights of vqvae_rot, not of vqvae_ema: ask for method=vqvae_rot"),
        ("qres34m", {}, "vq/rvq", "holds weights of rvq, not of qres34m"),
        ("vqvae", {"commitment": 1.0}, "vq/vqvae-256", "with commitment=0.25, not with commitment=1.0"),
        ("vqvae", {"size": 64}, "vq/vqvae-256", "was trained for size=256, not 64: ask for points=256"),
    ],
)
def test_weights_of_something_else_are_refused(asked, params, place, sentence):
    with pytest.raises(TesseraError, match=sentence) as caught:
        checkpoint.find(make_method(asked, params), str(SHIPPED / place))
    assert str(SHIPPED / place) in str(caught.value)
    assert checkpoint.find(make_method(asked, params), str(SHIPPED / place), any_point=True), "a start for training"


def test_weights_that_a_method_takes_of_another_keep_their_range_and_name(tmp_path, monkeypatch):
    """``qres34m`` folds those of ``qres34m_vr`` at a lambda that they were trained for."""
    shrink(monkeypatch)
    given = saved(tmp_path / "run", "qres34m_vr", lmb_range=(16, 1024))
    taken = checkpoint.find(make_method("qres34m", {"lmb": 100}), str(tmp_path / "run"))
    assert taken.legend == taken.id == given.id and taken.id.startswith("qres34m_vr-")
    with pytest.raises(TesseraError, match="lmb=2048 is outside of what qres34m_vr is trained for: use 16 to 1024"):
        checkpoint.find(make_method("qres34m", {"lmb": 2048}), str(tmp_path / "run"))


def test_how_streams_are_made_does_not_bind_weights():
    for name, params, place in (
        ("rvae_small", {"coder": "argmax", "block_size": 8}, "rvae_small"),
        ("vqvae", {"prior": False}, "vq/vqvae-256"),
        ("mcquic_small", {"m": 2, "context": False, "container": "mcq"}, "mcquic_small/mse2"),
    ):
        assert checkpoint.find(make_method(name, params), str(SHIPPED / place))


def test_all_that_is_shipped_is_found_by_path_and_by_name():
    for entry in checkpoint.manifest():
        if entry["origin"] == "ours":
            method = make_method(entry["method"], entry.get("params"))
            method = method if entry["point"] is None else method.at(entry["point"])
            by_path = checkpoint.find(method, str(SHIPPED / entry["path"]))
            assert by_path.id == checkpoint.find(method, "ours").id and by_path.verified


def test_shipped_weights_are_not_those_of_other_parameters():
    with pytest.raises(MissingWeights, match=r"those shipped have commitment=0\.25, not 1\.0.*weights=PATH, or train"):
        checkpoint.find(make_method("vqvae", {"commitment": 1.0}), "ours")


# Points


@pytest.mark.parametrize("lmb", [1, 3.99, 1025, 5000, float("nan")])
def test_a_setting_outside_of_the_trained_range(lmb):
    method = make_method("qres3m_vr", {"lmb": lmb})
    for refuse in (lambda: checkpoint.find(method, "ours"), lambda: method.codec(method.model())):
        with pytest.raises(TesseraError, match=f"lmb={lmb} is outside of what qres3m_vr is trained for: use 4 to 1024"):
            refuse()


@pytest.mark.parametrize("wrong", [5, (4,), (1024, 4), (0, 4), ("a", "b"), (float("nan"), 4)])
def test_a_range_is_two_numbers(wrong):
    with pytest.raises(TesseraError, match="must be two numbers above 0, the lower one first"):
        make_method("qres3m_vr", {"lmb_range": wrong})


def test_every_method_of_one_set_of_weights_says_its_range():
    """What a new one does not say would be measured anywhere."""
    for name, cls in METHODS.items():
        if cls.variable_rate:
            low, high = cls().trained_range
            assert all(low <= point <= high for point in cls.points), name
            with pytest.raises(TesseraError, match=f"{cls.curve}={2 * high} is outside of what {name} is trained for"):
                checkpoint.find(cls().at(2 * high), "auto")


def test_the_range_is_kept_by_every_command(command, pictures):
    for words in (
        ("benchmarks/rd_curve.py", "with", "method=qres3m_vr", HERE, "limit=1", "points=1,5000"),
        ("qres", "evaluate", "with", HERE, "limit=1", "points=5000"),
        ("qres", "compress", "with", "params.lmb=5000", "input=pictures/0.png"),
    ):
        done = command(*words)
        assert done.code == 2 and "is trained for: use" in done.err, done.err
    done = command("benchmarks/match_rate.py", "with", HERE, "target_bpp=9", "params.lmb_range=[1,9000]")
    assert done.code == 2 and "those shipped have lmb_range=[4, 1024], not (1, 9000)" in done.err
    assert not list(Path("results").glob("cells/*")) and not Path("pictures/0.tsr").exists()


def test_weights_choose_their_own_point_unless_one_is_asked(command, pictures):
    saved(Path("run"), "vqvae", size=16)
    done = command("vq", "evaluate", "with", "method=vqvae", HERE, "weights=run")
    (cell,) = Store("results").cells()
    assert done.code == 0 and cell.cell.point == 16, done.err
    assert command("vq", "evaluate", "with", "method=vqvae", HERE, "weights=run", "points=64").code == 2
    for asked in ("params.size=64", "params.size=256"):  # the latter is the default
        done = command("vq", "evaluate", "with", "method=vqvae", HERE, "weights=run", asked)
        assert done.code == 2 and "was trained for size=16" in done.err
        done = command("vq", "compress", "with", "method=vqvae", "weights=run", "input=pictures/0.png", asked)
        assert done.code == 2 and "was trained for size=16" in done.err
    for words in (("compress", "input=pictures/0.png"), ("decompress", "input=pictures/0.tsr")):
        done = command("vq", words[0], "with", "method=vqvae", "weights=run", words[1])
        assert done.code == 0, done.err
    done = command("benchmarks/match_rate.py", "with", "method=vqvae", HERE, "weights=run", "target_bpp=1")
    assert done.code in (0, 1) and "16" in done.out, done.err


def test_a_parameter_on_the_command_line_is_asked_for_also_where_it_is_the_default(command, pictures):
    assert command("qres", "evaluate", "with", HERE, "limit=1", "params.lmb=64").code == 0
    assert [r.cell.point for r in Store("results").cells()] == [64]


# Names


def test_two_checkpoints_given_by_path_are_two_curves(command, pictures):
    made = [saved(Path(place), "qres3m_vr", seed) for seed, place in enumerate(("a/run", "b/run"))]
    for place in ("a/run", "b/run"):
        assert command("qres", "evaluate", "with", HERE, "limit=1", "points=64", f"weights={place}").code == 0
    found = curve.measured(Store("results"))
    assert {c.label for c in found} == {f"qres3m_vr [{weights.id}]" for weights in made}


def test_runs_of_one_curve_share_a_name_and_others_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for place, size in (
        ("runs/vqvae-16-seed0", 16), ("runs/vqvae-64-seed0", 64), ("runs/vqvae-64-seed1", 64),
        ("other/vqvae-64-seed0", 64), ("mine/size16", 16), ("mine/16", 16),
    ):  # fmt: skip
        saved(Path(place), "vqvae", size=size)
        for path in (place, f"{place}/weights.safetensors"):
            names[place] = checkpoint.find(make_method("vqvae", {"size": size}), path).legend
    assert list(names.values()) == [
        "vqvae-seed0",
        "vqvae-seed0",
        "vqvae-seed1",
        "other/vqvae-seed0",
        "mine/size",
        "mine",
    ]


def test_cells_of_older_versions_are_told_apart_too(command, pictures):
    """Their legend is 'path': two checkpoints of one point were one curve, of which the later cell was shown."""
    for seed, place in enumerate("ab"):
        saved(Path(place), "vqvae", seed, size=16)
        assert command("vq", "evaluate", "with", "method=vqvae", HERE, "limit=1", f"weights={place}").code == 0
    found = Store("results").cells()
    for result in found:
        result.about["legend"] = "path"
    labels = {c.label for c in curve.of_cells(found)}
    assert labels == {f"vqvae [path] [weights {r.cell.checkpoint}]" for r in found}
    first, second = found
    object.__setattr__(second.cell, "point", 64)  # two points of one curve
    assert [c.label for c in curve.of_cells([first, second])] == ["vqvae [path]"]


# Folders of several


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Files of qres34m, made small, under names as the authors have them, and a manifest that says so."""
    shrink(monkeypatch)
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    entries = []
    (tmp_path / "zoo").mkdir()
    for lmb in (16, 64):
        torch.manual_seed(lmb)
        path = tmp_path / "zoo" / f"qres34m-lmb{lmb}.pt"
        torch.save({"model": METHODS["qres34m"](lmb=lmb).model().state_dict()}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entry = {"id": path.stem, "method": "qres34m", "point": lmb, "origin": "official", "licence": "none"}
        address = f"https://far.example/{path.name}"
        entries.append({**entry, "url": address, "sha256": digest if lmb == 16 else None})
    (tmp_path / "shipped" / "manifest.json").write_text(json.dumps({"checkpoints": entries}))
    return tmp_path / "zoo"


def test_a_folder_of_published_files(published):
    method = METHODS["qres34m"]
    assert checkpoint.points(method(), str(published)) == (16, 64)
    found = {lmb: checkpoint.find(method(lmb=lmb), str(published)) for lmb in (16, 64)}
    assert [w.path.name for w in found.values()] == ["qres34m-lmb16.pt", "qres34m-lmb64.pt"]
    name = f"{published.parent.name}/zoo"
    assert [w.legend for w in found.values()] == [name, f"{name}, not verified"]
    assert all(checkpoint.load(method(lmb=lmb), weights) is not None for lmb, weights in found.items())
    with pytest.raises(MissingWeights, match=r"no weights at .*zoo of qres34m at lmb=256 \(there are: 16, 64\)"):
        checkpoint.find(method(lmb=256), str(published))
    with pytest.raises(MissingWeights, match=r"no weights at .*zoo of vqvae at size=256: give a run folder"):
        checkpoint.find(make_method("vqvae"), str(published))


def test_one_published_file_is_of_its_point(published):
    file = str(published / "qres34m-lmb64.pt")
    assert checkpoint.points(METHODS["qres34m"](), file) == (64,)
    with pytest.raises(MissingWeights, match="was trained for lmb=64, not 16"):
        checkpoint.find(METHODS["qres34m"](lmb=16), file)
    (published / "qres34m-lmb16.pt").write_bytes((published / "qres34m-lmb64.pt").read_bytes())
    with pytest.raises(CheckpointError, match="has the name of a published file and other contents"):
        checkpoint.find(METHODS["qres34m"](lmb=16), str(published))


def test_a_file_of_which_nothing_is_known_says_so(tmp_path, monkeypatch):
    shrink(monkeypatch)
    torch.save(METHODS["qres34m"]().model().state_dict(), tmp_path / "w.pt")
    found = checkpoint.find(METHODS["qres34m"](), str(tmp_path / "w.pt"))
    assert found.legend == f"{found.id}, not verified" and not found.verified


def test_a_folder_of_run_folders(tmp_path):
    for size in (16, 64):
        saved(tmp_path / f"vqvae-{size}", "vqvae", size=size)
    saved(tmp_path / "ema", "vqvae_ema", size=16)
    assert checkpoint.points(make_method("vqvae"), str(tmp_path)) == (16, 64)
    assert checkpoint.find(make_method("vqvae", {"size": 64}), str(tmp_path)).path.parent.name == "vqvae-64"
    saved(tmp_path / "again", "vqvae", 5, size=64)
    with pytest.raises(CheckpointError, match=r"several weights of vqvae at size=64 \(again, vqvae-64\): give one"):
        checkpoint.find(make_method("vqvae", {"size": 64}), str(tmp_path))


def test_an_official_file_that_nobody_published_a_checksum_of_is_not_verified(published, monkeypatch, tmp_path):
    """One that was put into the cache by hand does not become the recorded checksum of the published one."""
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))
    cache = tmp_path / "cache" / "weights"
    cache.mkdir(parents=True)
    for lmb in (16, 64):
        (cache / f"qres34m-lmb{lmb}.pt").write_bytes((published / f"qres34m-lmb{lmb}.pt").read_bytes())
    assert checkpoint.find(METHODS["qres34m"](lmb=16), "official").legend == "official"
    assert checkpoint.find(METHODS["qres34m"](lmb=64), "official").legend == "official, not verified"
    assert not (tmp_path / "cache" / "weights.lock.json").exists()
