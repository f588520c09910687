"""Weights on disk: what is saved, found, fetched and refused. The network is a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core import checkpoint
from core.checkpoint import CheckpointError
from core.codec import Method, MissingWeights, TesseraError
from core.download import DownloadError
from core.registry import METHODS, discover, make_method
from tests.support.mirror import local_server
from tests.support.tiny_qres import shrink


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 5)
        self.register_buffer("count", torch.arange(4))


@dataclass(frozen=True)
class Toy(Method):
    name = "toy"
    curve = "lmb"
    points = (1, 2)
    trains_on = ("sample",)
    lmb: int = 1

    def model(self) -> Net:
        return Net()

    def read_state(self, state: Any) -> Any:
        return {key: value for key, value in state.items() if "discrete_gaussian" not in key}


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``shipped(entry, ...)`` writes a manifest of toy checkpoints; the cache is empty."""
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(checkpoint, "_unreachable", {})
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "cache"))

    def write(*entries: dict[str, Any]) -> None:
        (tmp_path / "shipped").mkdir(exist_ok=True)
        common = {"method": "toy", "licence": "MIT", "origin": "official", "sha256": None}
        text = json.dumps({"checkpoints": [{**common, **entry} for entry in entries]})
        (tmp_path / "shipped" / "manifest.json").write_text(text)

    write()
    return write


def official(state: dict[str, torch.Tensor]) -> bytes:
    """An official .pt file: the state under 'model', with tables of the authors' own entropy coder."""
    buffer = io.BytesIO()
    torch.save({"model": {**state, "block.discrete_gaussian._cdf": torch.zeros(3)}}, buffer)
    return buffer.getvalue()


# Files


def test_what_is_saved_is_loaded(tmp_path):
    model = net(1)
    written = checkpoint.save(tmp_path / "run", model, {"method": "toy", "data": {"names": ["sample"]}})
    for place in (tmp_path / "run", tmp_path / "run" / "weights.safetensors"):
        found = checkpoint.find(Toy(), str(place))
        assert equal(checkpoint.load(Toy(), found), model) and not checkpoint.load(Toy(), found).training
        assert found.id == written.id and found.origin == "path" and found.meta["data"] == {"names": ["sample"]}
    assert written.meta["bytes"] == written.path.stat().st_size and written.id == f"toy-{written.meta['sha256'][:8]}"
    assert hashlib.sha256(written.path.read_bytes()).hexdigest() == written.meta["sha256"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["meta.json", "weights.safetensors"]
    assert checkpoint.save(tmp_path / "again", model, {"method": "toy"}).id == written.id


def test_half_precision(tmp_path):
    model = net(1)
    full, half = (checkpoint.save(tmp_path / n, model, {"method": "toy"}, half=n == "half") for n in ("full", "half"))
    loaded = checkpoint.load(Toy(), half)
    assert half.id != full.id and half.meta["bytes"] < full.meta["bytes"]
    assert loaded.layer.weight.dtype == torch.float32 and torch.equal(loaded.count, model.count)
    assert torch.allclose(loaded.layer.weight, model.layer.weight, rtol=5e-4, atol=1e-7)


def test_digest_sees_every_weight():
    model = net()
    before = checkpoint.digest(model)
    assert before == checkpoint.digest(net()) and len(before) == 32
    model.count[3] += 1
    assert checkpoint.digest(model) != before


def test_weights_that_changed_are_refused(tmp_path):
    written = checkpoint.save(tmp_path, net(), {"method": "toy"})
    data = bytearray(written.path.read_bytes())
    data[-1] ^= 1
    written.path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"not what its meta\.json describes"):
        checkpoint.find(Toy(), str(tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", '{"id": "toy-0"}'])
def test_a_damaged_description_is_refused(tmp_path, text):
    checkpoint.save(tmp_path, net(), {"method": "toy"})
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(CheckpointError):
        checkpoint.find(Toy(), str(tmp_path))


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_another_model_are_refused(tmp_path, change):
    state = net().state_dict()
    if change == "missing":
        del state["layer.bias"]
    elif change == "extra":
        state["other"] = torch.zeros(1)
    else:
        state["layer.bias"] = torch.zeros(4)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="does not hold the weights of toy"):
        checkpoint.load(Toy(), checkpoint.find(Toy(), str(tmp_path / "w.pt")))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("damage", ["empty", "half", "text"])
def test_damaged_files_are_refused(tmp_path, name, damage):
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(net().state_dict(), path)
    else:
        path = checkpoint.save(tmp_path, net(), {"method": "toy"}).path.rename(path)
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "text": b"<html>404</html>"}[damage])
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(Toy(), checkpoint.Weights(path, "x", "path"))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Trap:
    """An object whose unpickling would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", ["trap", "trap in torch", "list", "nested", "numbers"])
def test_pickles_that_are_not_plain_tensors_are_refused(tmp_path, content):
    path, trace = tmp_path / "w.pth", tmp_path / "trace"
    if content == "trap":
        path.write_bytes(pickle.dumps({"model": Trap(trace)}))
    else:
        other = {"list": [torch.zeros(1)], "nested": {"a": {"b": torch.zeros(1)}}, "numbers": {"layer.bias": 3.0}}
        torch.save(other.get(content, {"model": {"layer.bias": torch.zeros(5)}, "extra": Trap(trace)}), path)
    with pytest.raises(CheckpointError, match=r"not a plain dictionary of tensors|cannot be read"):
        checkpoint.read(path)
    assert not trace.exists()


def test_a_codec_is_opened_with_its_weights(tmp_path):
    class Coded(Toy):
        def codec(self, model: Net | None) -> Any:
            return model

    model = net(1)
    checkpoint.save(tmp_path, model, {"method": "toy"})
    codec, weights = checkpoint.opened(Coded(), str(tmp_path), "cpu:0")
    assert equal(codec, model) and not codec.training and weights.path == tmp_path / "weights.safetensors"
    with pytest.raises(TesseraError, match="device=tpu is not available here"):
        checkpoint.opened(Coded(), str(tmp_path), "tpu")
    without = type("Bare", (Method,), {"codec": lambda self, model: model})()
    assert checkpoint.opened(without) == (None, None)


# Finding


def test_missing_weights_say_what_to_do(shipped, tmp_path):
    assert checkpoint.find(type("Bare", (Method,), {})()) is None
    with pytest.raises(MissingWeights, match=r"no weights at .*nowhere: give a run folder"):
        checkpoint.find(Toy(), str(tmp_path / "nowhere"))
    with pytest.raises(MissingWeights, match=r"for toy at lmb=2: none.*train with method=toy params.lmb=2"):
        checkpoint.find(Toy(lmb=2))
    shipped({"id": "toy-1", "point": 1, "url": "http://127.0.0.1:9/toy.pt"})
    with pytest.raises(MissingWeights, match=r"none are published for this point \(there are: 1\)"):
        checkpoint.find(Toy(lmb=2), "official")


def test_ours_where_there_are_no_official_ones(shipped, tmp_path):
    checkpoint.save(tmp_path / "shipped" / "toy", net(3), {"method": "toy"})
    shipped(
        {"id": "toy-1", "point": 1, "url": "http://127.0.0.1:9/toy.pt"},
        {"id": "toy-ours", "point": None, "origin": "ours", "path": "toy"},
    )
    for point in Toy.points:
        for asked in ("auto", "ours"):
            found = checkpoint.find(Toy(lmb=point), asked)
            assert found.origin == "ours" and equal(checkpoint.load(Toy(), found), net(3))
    with pytest.raises(MissingWeights, match="cannot be reached"):
        checkpoint.find(Toy(lmb=1), "official")


def test_ours_of_a_method_whose_weights_another_takes(shipped, tmp_path, monkeypatch):
    """One has its own at 64, and takes the other's elsewhere in their range; the legend tells them apart."""
    shrink(monkeypatch)
    ours = {"origin": "ours", "point": None}
    for name in ("qres34m", "qres34m_vr"):
        checkpoint.save(tmp_path / "shipped" / name, make_method(name).model(), {"method": name})
    shipped(
        {**ours, "id": "qres34m-1", "method": "qres34m", "point": 64, "path": "qres34m"},
        {**ours, "id": "qres34m_vr-1", "method": "qres34m_vr", "path": "qres34m_vr"},
    )
    own, taken = (checkpoint.find(make_method("qres34m", {"lmb": point}), "ours") for point in (64, 32))
    assert (own.legend, taken.legend) == ("ours", "ours, of qres34m_vr") and taken.id.startswith("qres34m_vr-")
    checkpoint.load(make_method("qres34m", {"lmb": 32}), taken)
    with pytest.raises(MissingWeights) as caught:
        checkpoint.find(make_method("qres34m", {"lmb": 3000}), "ours")
    assert "outside of what qres34m_vr is trained for" in caught.value.why


def test_the_large_model_takes_its_variable_rate_weights_once_they_are_shipped(shipped, tmp_path, monkeypatch):
    shrink(monkeypatch)
    meta = {"method": "qres34m_vr", "params": {"target": "mse", "lmb_range": [16, 2048]}, "point": None}
    checkpoint.save(tmp_path / "shipped" / "qres34m_vr", make_method("qres34m_vr").model(), meta, half=True)
    entry = {"id": "qres34m_vr-1", "method": "qres34m_vr", "point": None, "origin": "ours", "path": "qres34m_vr"}
    shipped({**entry, "params": {"target": "ms_ssim"}})
    with pytest.raises(MissingWeights, match="none are shipped"):
        checkpoint.find(make_method("qres34m", {"lmb": 256}))
    shipped({**entry, "params": {"target": "mse"}})
    found = [checkpoint.find(make_method("qres34m", {"lmb": point})) for point in METHODS["qres34m"].points]
    assert {weights.legend for weights in found} == {"ours, of qres34m_vr"}
    checkpoint.load(make_method("qres34m", {"lmb": 256}), found[4])


def test_weights_of_another_method_are_named(tmp_path):
    discover()
    state = {**make_method("qres3m_vr").model().state_dict()}
    torch.save(state, tmp_path / "w.pt")
    asked = make_method("qres34m")
    with pytest.raises(CheckpointError, match="holds weights of qres3m_vr, not of qres34m: ask for method=qres3m_vr"):
        checkpoint.load(asked, checkpoint.find(asked, str(tmp_path / "w.pt")))


def test_an_unreachable_host_is_asked_once(shipped, monkeypatch):
    asked = []

    def fetch(url: str, *rest: Any, **more: Any) -> None:
        asked.append(url)
        raise checkpoint.Unreachable(f"{url} cannot be reached.")

    monkeypatch.setattr(checkpoint, "fetch", fetch)
    shipped(*({"id": f"toy-{p}", "point": p, "url": f"http://far.example/{p}.pt"} for p in (1, 2)))
    for point in (1, 2, 1):
        with pytest.raises(MissingWeights, match="cannot be reached"):
            checkpoint.find(Toy(lmb=point))
    assert asked == ["http://far.example/1.pt"]


# Official files


def test_official_weights_are_fetched_once_and_verified(shipped, capsys):
    data = official(net(5).state_dict())
    with local_server() as web:
        web.files["toy.pt"] = data
        shipped(
            {"id": "toy-1", "point": 1, "url": f"{web.url}/toy.pt", "sha256": hashlib.sha256(data).hexdigest()},
            {"id": "toy-2", "point": 2, "url": f"{web.url}/toy.pt", "sha256": "00" * 32},
        )
        for _ in range(2):
            found = checkpoint.find(Toy())
            assert found.origin == "official" and found.id == f"toy-1-{hashlib.sha256(data).hexdigest()[:8]}"
            assert equal(checkpoint.load(Toy(), found), net(5))
        assert len(web.requests) == 1 and "MIT" in capsys.readouterr().out
        with pytest.raises(MissingWeights, match="another SHA-256"):
            checkpoint.find(Toy(lmb=2))
        web.files.clear()
        (found.path.with_name("toy-1.pt")).rename(found.path.with_name("kept"))
        with pytest.raises(MissingWeights):  # what was converted is not trusted without the file it is of
            checkpoint.find(Toy())
    digest = hashlib.sha256(data).hexdigest()[:8]
    assert {p.name for p in found.path.parent.iterdir()} == {"kept", f"toy-1-{digest}.safetensors"}


def test_a_file_without_published_checksum_is_locked_on_first_use(shipped, tmp_path):
    with local_server() as web:
        web.files["toy.pt"] = official(net(5).state_dict())
        shipped({"id": "toy-1", "point": 1, "url": f"{web.url}/toy.pt"})
        found = checkpoint.find(Toy())
        lock = json.loads((tmp_path / "cache" / "weights.lock.json").read_text())
        fetched = found.path.with_name("toy-1.pt")
        assert lock == {"toy-1": hashlib.sha256(fetched.read_bytes()).hexdigest()}
        fetched.write_bytes(official(net(6).state_dict()))
        with pytest.raises(CheckpointError, match="not the published file"):
            checkpoint.find(Toy())
        fetched.unlink()
        assert equal(checkpoint.load(Toy(), checkpoint.find(Toy())), net(5))
        fetched.unlink()
        web.files["toy.pt"] = official(net(6).state_dict())  # replaced by its authors
        with pytest.raises(MissingWeights, match="another SHA-256"):
            checkpoint.find(Toy())
        (tmp_path / "cache" / "weights.lock.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"weights\.lock\.json cannot be read"):
            checkpoint.find(Toy())


def test_a_missing_page_and_an_unusable_cache_are_sentences(shipped, tmp_path, monkeypatch):
    with local_server() as web:
        shipped({"id": "toy-1", "point": 1, "url": f"{web.url}/gone.pt"})
        with pytest.raises(MissingWeights, match="answered 404"):
            checkpoint.find(Toy())
        (tmp_path / "file").touch()
        monkeypatch.setenv("TESSERA_CACHE", str(tmp_path / "file"))
        with pytest.raises(MissingWeights, match="cannot be made"):
            checkpoint.find(Toy())
    assert issubclass(checkpoint.Unreachable, DownloadError)


def test_the_manifest_is_complete_and_its_files_are_here():
    entries = checkpoint.manifest()
    assert len({e["id"] for e in entries}) == len(entries) > 10
    for entry in entries:
        assert entry["licence"] and entry["origin"] in ("official", "ours")
        if entry["origin"] == "official":
            assert entry["url"].startswith("https://") and entry["source"]
        else:
            assert (checkpoint.SHIPPED / entry["path"]).exists()


def test_official_qres_layout():
    """The official state of qres34m, tables included, loads strictly under its own names."""
    from core.registry import METHODS, discover

    discover()
    method = METHODS["qres34m"](lmb=16)
    with torch.device("meta"):
        names = {key: value.shape for key, value in method.model().state_dict().items()}
    extra = {"decoder.dec_blocks.0.discrete_gaussian._offset": torch.zeros(64)}
    state = {**{name: torch.empty(shape, device="meta") for name, shape in names.items()}, **extra}
    with torch.device("meta"):
        method.model().load_state_dict(method.read_state(state), strict=True)
    assert set(method.read_state(state)) == set(names)
