"""LL-VQ-VAE as published: names and outputs of the official models, losses, recipes; and every method's streams."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core import checkpoint
from core.bitstream import BitstreamError
from core.checkpoint import CheckpointError
from core.codec import Codec, HasEstimate, HasPayload, Image, Method, TesseraError
from core.registry import METHODS, discover, make_method
from core.train import TrainConfig, fit
from experiments.families.lattice import translated
from lattice.network import LatticeVAE
from lattice.quantizers import Codebook, DiagonalLattice, MovingCodebook
from lattice.trained import Density, LearnedLattice
from tests.conftest import Command
from tests.support.recorded import assert_recorded
from tests.support.shared import shared

discover()
NAMES = {"vq": "vq", "vq_ema": "vq-ema", "sparse": "sparse_lattice", "dense": "dense_lattice"}
FOLDERS = {"fashion_mnist": "fashion-mnist", "ffhq": "ffhq1024", "celeba": "celeba"}
OURS = ("lattice_z", "lattice_a2", "lattice_d4", "lattice_e8", "lattice_full")
GOLDEN = [(data, quantizer) for data in ("fashion_mnist", "ffhq") for quantizer in NAMES]


@cache
def official(data: str, quantizer: str) -> tuple[LatticeVAE, dict[str, np.ndarray]]:
    """The model with the official weights, and the golden outputs."""
    stem = f"golden/llvq/{FOLDERS[data]}_{NAMES[quantizer]}"
    method = make_method(f"llvq_{quantizer}", {"backbone": data})
    weights = checkpoint.find(method, str(shared(f"{stem}.safetensors")))
    assert weights is not None
    net = checkpoint.load(method, weights)
    assert isinstance(net, LatticeVAE)
    return net, dict(np.load(shared(f"{stem}.npz")))


@pytest.mark.parametrize(("data", "quantizer"), GOLDEN)
def test_golden_outputs(data: str, quantizer: str) -> None:
    net, golden = official(data, quantizer)
    x = torch.from_numpy(golden["input_u8"]).permute(0, 3, 1, 2) / 255
    z = torch.from_numpy(golden["z_e"]).permute(0, 2, 3, 1)
    assert torch.allclose(net.latent(x), z, atol=1e-4)
    k = net.quantizer.encode(z.reshape(-1, 64)).view(*z.shape[:3], -1).numpy()
    expected = golden["lattice_k"] if "lattice_k" in golden else golden["codes"][..., None]
    assert np.array_equal(k, expected), "of the stored latents every position agrees"
    decoded = net.decode(torch.from_numpy(k).long().view(*z.shape[:3], net.quantizer.blocks, 1)) - net.shift
    assert np.allclose(decoded.numpy(), golden["recon"], atol=1e-4)
    assert float(net.quantizer(z.reshape(-1, 64)).loss.detach()) == pytest.approx(float(golden["vq_loss"]), rel=1e-5)
    assert len(np.unique(k.reshape(-1, k.shape[-1]), axis=0)) == int(golden["n_unique"])
    step = net(x)
    assert float(step.distortion.detach()) == pytest.approx(float(golden["mse"]), rel=1e-4)
    assert float(step.loss.detach()) == pytest.approx(float(golden["mse"]) + float(golden["vq_loss"]), rel=1e-4)


@pytest.mark.parametrize("data", FOLDERS)
@pytest.mark.parametrize("quantizer", NAMES)
def test_official_names_and_shapes(data: str, quantizer: str) -> None:
    """The state dict is the official one plus the coder's counts, which official files get when they are read."""
    known = json.loads(shared("specs/llvq_state_keys.json").read_text())
    entry = known[f"{FOLDERS[data]}_{NAMES[quantizer]}"]["state_dict"]
    method = make_method(f"llvq_{quantizer}", {"backbone": data})
    mine = {name: list(v.shape) for name, v in method.model().state_dict().items() if not name.startswith("coder.")}
    assert mine == {name: shape for name, (shape, _) in entry.items()}
    stored = {name: torch.zeros(shape) for name, shape in mine.items()}
    method.model().load_state_dict(method.read_state(stored))


def test_official_files_are_in_the_manifest() -> None:
    published = [e for e in checkpoint.manifest() if e["origin"] == "official" and e["method"].startswith("llvq_")]
    entries = {(e["method"], e["params"]["backbone"]): e for e in published}
    for data in FOLDERS:
        for quantizer in NAMES:
            entry = entries[f"llvq_{quantizer}", data]
            assert entry["url"].endswith(f"/{FOLDERS[data]}/{NAMES[quantizer]}.ckpt")
            if data != "celeba":
                assert entry["sha256"] == str(official(data, quantizer)[1]["sha256_ckpt"])


def test_lightning_files_are_read_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``weights=official`` takes the state out of a Lightning checkpoint, after its SHA-256 was compared."""
    method = METHODS["llvq_vq"]()
    state = {k: v for k, v in method.model().state_dict().items() if not k.startswith("coder.")}
    path = tmp_path / "weights" / "llvq_vq-fashion_mnist.ckpt"
    path.parent.mkdir()
    torch.save({"epoch": 4, "global_step": 4300, "state_dict": state, "lr_schedulers": [{"gamma": 0.0}]}, path)
    monkeypatch.setenv("TESSERA_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="not the published file"):
        checkpoint.find(method, "official")
    entry = next(e for e in checkpoint.manifest() if e["id"] == "llvq_vq-fashion_mnist")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(checkpoint, "manifest", lambda: [{**entry, "sha256": digest}])
    weights = checkpoint.find(method, "official")
    assert weights is not None and weights.origin == "official"
    loaded = checkpoint.load(method, weights).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_diagonal_lattice_start_and_gradient() -> None:
    torch.manual_seed(0)
    sparse, dense = DiagonalLattice(codes=512), DiagonalLattice(codes=0, sparsity=-1.0)
    reach = sparse.embedding.weight.abs().max()
    assert 9 < float(reach) < 9.76729 and float(dense.embedding.weight.abs().max()) < 1
    rows = torch.randn(50, 64) * 30
    b = sparse.embedding.weight.detach()
    k = torch.round(rows * (1 / b))
    sparse(rows).loss.backward()
    expected = (
        2 * (k * (k * b - rows)).mean(0) / 64 - b[0].sign()
    )  # of the codebook loss, k held fixed, and of the size
    assert torch.allclose(sparse.embedding.weight.grad[0], expected, atol=1e-4)
    assert not torch.isnan(dense.encode(torch.full((1, 64), 1e30))).any()


def test_moving_codebook_update() -> None:
    """One step by the formulas of the paper, after quantising with the old codebook."""
    torch.manual_seed(0)
    book = MovingCodebook(codes=4).train()
    old, sums, rows = book.embedding.weight.clone(), book.ema_w.clone(), torch.randn(30, 64)
    index = torch.cdist(rows, old).argmin(1)
    book(rows)
    hits = torch.nn.functional.one_hot(index, 4).float()
    size = 0.01 * hits.sum(0)
    size = (size + 1e-5) / (size.sum() + 4e-5) * size.sum()
    sums = 0.99 * sums + 0.01 * hits.T @ rows
    assert torch.allclose(book.embedding.weight, sums / size[:, None], rtol=1e-4)
    before = book.embedding.weight.clone()
    book.eval()(rows)
    assert torch.equal(book.embedding.weight, before)


def pictures(n: int = 24, side: int = 12, seed: int = 0) -> list[Image]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side][..., None]
    centres = rng.uniform(0, side, (n, 2, 1))
    return [(250 * np.exp(-((y - c[0]) ** 2 + (x - c[1]) ** 2) / 12)).astype(np.uint8) for c in centres]


@cache
def trained(name: str) -> tuple[Method, LatticeVAE]:
    """A method's model after a few steps on blobs, calibrated on them."""
    import tempfile

    method = METHODS[name]()
    tensor = torch.from_numpy(np.stack(pictures())).permute(0, 3, 1, 2) / 255
    torch.manual_seed(0)
    config = TrainConfig(12, batch=8, lr=5e-3, warmup=1, ema=0.5)
    with tempfile.TemporaryDirectory() as folder:
        model = fit(
            method.model(), lambda step, share: tensor[[(8 * step + k) % 24 for k in share]], config, Path(folder)
        )
    assert isinstance(model, LatticeVAE)
    model.calibrate(pictures())
    return method, model


@pytest.mark.parametrize("name", ["llvq_sparse", "llvq_dense", "llvq_vq_ema", *OURS])
def test_streams_of_trained_models(name: str, tmp_path: Path) -> None:
    """Round trips, a learned error below that of fresh weights, counts that travel with float16 weights."""
    method, model = trained(name)
    codec = method.codec(model)
    assert isinstance(codec, Codec) and isinstance(codec, HasEstimate) and isinstance(codec, HasPayload)
    image = pictures(1, seed=5)[0]
    for shape in (image, np.repeat(image, 3, axis=2)[:5, :7]):
        stream = codec.compress(shape)
        decoded = codec.decompress(stream)
        assert decoded.shape == shape.shape and np.array_equal(codec.decompress(codec.compress(shape)), decoded)
        assert abs(codec.payload_bits(stream) - codec.bits(shape)) < 64
    checkpoint.save(tmp_path, model, {"method": name}, half=True)
    found = checkpoint.find(method, str(tmp_path))
    assert found is not None
    again = method.codec(checkpoint.load(method, found))
    stream = again.compress(image)
    assert np.array_equal(again.decompress(stream), again.decompress(stream))
    assert int(again.model.coder.counts.sum()) == int(model.coder.counts.sum()) > 0
    with pytest.raises(BitstreamError, match="another method or checkpoint"):
        codec.decompress(stream)


def test_learned_basis_is_shaped_by_training_and_stored() -> None:
    torch.manual_seed(0)
    lattice = LearnedLattice(64, 4, 2)
    lattice(torch.randn(40, 64)).vectors.square().sum().backward()
    assert lattice.basis.grad is not None and float(lattice.basis.grad.abs().max()) > 0
    with torch.no_grad():
        lattice.basis.copy_(torch.tensor([[1.0, 0.5], [0.0, 3**0.5 / 2]]))
    mean, error = lattice.moment(20_000)
    assert abs(mean - 0.080188) < 4 * error < 0.002, "the hexagonal lattice, when the basis is its own"
    lattice.settle()
    assert abs(int(lattice.triangle[0, 1])) == 2048 and int(lattice.triangle[0, 0]) == 4096
    rows = torch.randn(30, 64)
    k = lattice.encode(rows)
    assert torch.equal(lattice.nearest(lattice.vectors(k)), k)


def test_a_skewed_basis_survives_float16() -> None:
    lattice, k = LearnedLattice(64, 4, 2), torch.tensor([[[3, -2], [0, 5]]])
    with torch.no_grad():
        lattice.basis.copy_(torch.tensor([[1.0, 1234.3], [0.0, 1.0]]))
    lattice.settle()
    points = lattice.vectors(k)
    lattice.load_state_dict(
        {name: v.half() if v.is_floating_point() else v for name, v in lattice.state_dict().items()}
    )
    assert float((lattice.vectors(k) - points).abs().max()) < 1e-2


def test_density_is_a_distribution() -> None:
    torch.manual_seed(0)
    density = Density(3)
    for p in density.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    mass = torch.exp2(-density.bits(torch.arange(-400.0, 401)[:, None].repeat(1, 3)))
    assert torch.allclose(mass.sum(0), torch.ones(3), atol=1e-4)


def test_wrong_parameters_are_sentences() -> None:
    for name, params, text in (
        ("lattice_e8", {"width": 12}, "multiple of 8"),
        ("lattice_full", {"block": 3}, "multiple of block=3"),
        ("lattice_a2", {"lmb": 0}, "positive"),
        ("llvq_vq", {"backbone": "mnist"}, "fashion_mnist"),
        ("llvq_sparse", {"codes": 1}, "at least 2"),
    ):
        with pytest.raises(TesseraError, match=text):
            make_method(name, params).model()
    with pytest.raises(TesseraError, match="at least 2"):
        Codebook(codes=1)


def test_quantizer_and_reproduce_on_the_command_line() -> None:
    words = ["-m", "train", "with", "dataset=ffhq", "quantizer=dense_lattice", "reproduce=true"]
    found = dict(w.split("=") for w in translated(words)[3:])
    assert found["method"] == "llvq_dense" and found["params.backbone"] == "ffhq"
    assert found["schedule"] == "constant:1875" and found["steps"] == "9375" and found["batch"] == "32"
    plain = dict(w.split("=") for w in translated([*words[:5], "crop=64"])[3:])
    assert "schedule" not in plain and plain["crop"] == "64"
    config = TrainConfig(9375, lr=1e-3, warmup=0, schedule=found["schedule"])
    assert [config.rate(step) for step in (0, 1874, 1875, 9374)] == [1e-3, 1e-3, 0.0, 0.0]
    with pytest.raises(TesseraError, match="did you mean"):
        translated(["-m", "train", "with", "quantizer=dense_latice"])
    with pytest.raises(TesseraError, match="paper's quantisers"):
        translated(["-m", "train", "with", "quantizer=e8", "reproduce=True"])
    with pytest.raises(TesseraError, match="unknown schedule"):
        replace(config, schedule="constant:soon").rate(0)


def test_train_evaluate_and_table_from_the_command_line(command: Command, tmp_path: Path) -> None:
    import gzip

    folder = tmp_path / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    for stem, seed in (("train", 0), ("t10k", 1)):
        array = np.stack(pictures(6, 28, seed))[..., 0]
        header = bytes([0, 0, 8, 3]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    data = ("dataset=fashion_mnist", f"data_root={tmp_path / 'data'}")
    recipe = ("steps=3", "batch=2", "save_every=2", "log_every=1", "folder=trained")
    done = command("lattice", "train", "with", *data, "quantizer=a2", "params.lmb=0.3", *recipe)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "trained" / "meta.json").read_text())["method"] == "lattice_a2"
    done = command("lattice", "evaluate", "with", *data, "quantizer=a2", "points=0.3", "weights=trained")
    assert done.code == 0 and "lattice_a2" in done.out, done.err
    weights = checkpoint.save(tmp_path / "w", METHODS["llvq_sparse"]().model(), {"method": "llvq_sparse"})
    weights.path.rename(tmp_path / "fashion-mnist_sparse_lattice.safetensors")
    table = ("quantizers=sparse", f"weights={tmp_path}", "coded=2", "pictures=2")
    done = command("benchmarks/llvq_table.py", "with", *data, *table)
    assert done.code == 0, done.err
    assert "457" in done.out and f"{6 * 196:,}" in done.out
    assert (tmp_path / "results/figures/llvq_fashion_mnist_reconstructions.png").is_file()
    folder = f"folder={tmp_path / 'counted'}"
    done = command("lattice", "calibrate", "with", *data, "quantizer=a2", "params.lmb=0.3", "weights=trained", folder)
    assert done.code == 0, done.err
    counts = load_file(tmp_path / "counted" / "weights.safetensors")["coder.common_counts"]
    assert int(counts.sum()) == 6 * 196


def test_gap_and_speed_tables(command: Command) -> None:
    done = command("benchmarks/lattice_gap.py", "with", "smoke")
    assert done.code == 0 and "A2 (hexagonal)" in done.out, done.err
    done = command("benchmarks/quantizer_speed.py", "with", "smoke")
    assert done.code == 0 and "VQ, K=8192" in done.out and "leech" in done.out, done.err
    for stem, words in (
        ("lattice_gap_normal2d", "lattice_gap.py with smoke"),
        ("speed_quantizers", "quantizer_speed.py with smoke"),
    ):
        assert_recorded(stem, words)
