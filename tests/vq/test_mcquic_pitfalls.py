"""The sixteen pitfalls of the published version (specs/mcquic.md), one test each: ours has none of them."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import random
import sys
import zlib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from PIL import Image as pillow

from core import checkpoint
from core.bitstream import BitstreamError
from core.checkpoint import CheckpointError
from core.codec import Image
from core.crops import Crops
from core.frequencies import PRECISION, categorical_table
from core.registry import METHODS, discover
from tests.conftest import Command
from tests.support.golden_mcquic import fill, uneven
from vq.mcquic import augment, quantizer, rans
from vq.mcquic.codec import McQuicCodec
from vq.mcquic.network import McQuic, Recipe
from vq.mcquic.quantizer import Quantizer, revive

discover()
torch.set_num_threads(1)
SMALL = {"channel": 16, "m": 2, "k": (32, 16, 8)}


def model(levels: int = 3) -> McQuic:
    return uneven(fill(McQuic(16, 2, (32, 16, 8, 4)[:levels])))


def codec(container: str = "tessera") -> McQuicCodec:
    return McQuicCodec(model(), "x", b"", container)


def picture(height: int, width: int) -> Image:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_01_quality_from_a_file_is_the_models_own() -> None:
    """What was reported lower than published (issues 1 and 9): here no step between model and file loses quality."""
    net, image = model(), picture(128, 192)
    with torch.inference_mode():
        out = net.decode(net.encode(net.tensor(image)))[0]
    expected = ((out + 1) * 127.5).clamp(0, 255).round().permute(1, 2, 0).numpy()
    decoded = codec().decompress(codec().compress(image))
    assert np.abs(decoded - expected).max() <= 1 and (decoded != expected).mean() < 0.01


def test_02_every_augmentation_changes_the_images() -> None:
    torch.manual_seed(0)
    x = torch.rand(8, 3, 32, 32)
    for change in (augment.planckian, augment.erase):
        assert ((change(x) - x).abs().amax((1, 2, 3)) > 0.01).all()
    changed = (augment.gamma(x) - x).abs().amax((1, 2, 3)) > 0.01
    assert changed.any() and augment.gamma(x).isfinite().all()
    assert abs(float((augment.erase(torch.ones(1, 3, 64, 64)) == 0).float().mean()) - augment.ERASED) < 1e-6
    image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    crops = {Crops([image], 64).sample(0, k).tobytes() for k in range(64)}
    assert len(crops) == 8, "four turns, flipped or not"


def test_03_training_runs_on_a_cpu_with_assertions_and_without_apex(
    command: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vq.mcquic.context.STEPS", 2)
    assert __debug__ and "apex" not in sys.modules
    words = ("method=mcquic_small", "params.channel=8", "params.m=2", "params.k=[8,4]", "params.free=1", "crop=32")
    words = (*words, "params.revive=2", "steps=3", "batch=2", "log_every=1", "save_every=2", "folder=run", "seed=1")
    data = f"dataset=folder:{pictures}"
    for optimizer in ("adam", "lamb"):
        ended = command("vq", "train", "with", data, *words, f"optimizer={optimizer}", f"folder={optimizer}")
        assert ended.code == 0, ended.err
        assert Path(optimizer, "weights.safetensors").exists()


def test_04_data_set_command_and_checkpoints_of_the_published_trainer(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, side in (("a.png", 512), ("b.jpg", 600), ("c.png", 100)):
        pillow.fromarray(np.full((side, side, 3), side % 251, np.uint8)).save(tmp_path / "in" / name)
    (tmp_path / "in" / "d.png").write_bytes(b"no picture")
    for _ in range(2):  # again: verified
        ended = command("vq", "dataset", "with", "input=in", "output=out")
        assert ended.code == 0 and "2 images, verified" in ended.out, ended.err
    assert json.loads((tmp_path / "out" / "metadata.json").read_text()) == {
        "length": 2,
        "hash": hashlib.sha256((tmp_path / "out" / "data.mdb").read_bytes()).hexdigest(),
    }
    from benchmarks.datasets import training_set

    images = training_set(f"lmdb:{tmp_path / 'out'}")
    assert sorted(image.read().shape[0] for image in images) == [512, 600]
    assert {i.data() for i in images} == {(tmp_path / "in" / n).read_bytes() for n in ("a.png", "b.jpg")}

    method, net = METHODS["mcquic"](**SMALL), model()
    state = {f"module._compressor.{name}": value for name, value in net.state_dict().items()}
    state["module._postProcess.permutePattern"] = torch.arange(3)
    torch.save({"trainer": {"_model": state, "_epoch": 3, "_optimizer": {"state": {}}}, "config": {}}, "a.ckpt")
    torch.save({"model": net.state_dict(), "config": {}, "version": "0.1.40"}, "b.mcquic")
    for name in ("a.ckpt", "b.mcquic"):
        found = checkpoint.find(method, name)
        assert found is not None
        loaded = checkpoint.load(method, found)
        assert checkpoint.digest(loaded) == checkpoint.digest(net)


@pytest.mark.parametrize("dead", [1, 100, 412, 511])
def test_05_all_dead_codes_are_revived_near_live_ones(dead: int) -> None:
    torch.manual_seed(dead)
    book, frequencies = torch.randn(512, 8), torch.full((512,), 1.0)
    lost = torch.randperm(512)[:dead]
    frequencies[lost] = 0
    frequencies /= frequencies.sum()
    book[lost] = 100.0
    before, alive = book.clone(), torch.ones(512, dtype=torch.bool)
    alive[lost] = False
    assert revive(book, frequencies) == dead
    assert torch.equal(book[alive], before[alive]) and len(torch.unique(book, dim=0)) == 512
    assert torch.cdist(book[lost], before[alive]).amin(1).max() < 1.5
    assert abs(float(frequencies.sum()) - 1) < 1e-5 and (frequencies >= quantizer.DEAD).all()


@pytest.mark.parametrize("container", ["tessera", "mcq"])
def test_06_small_images_and_four_levels(container: str) -> None:
    for levels, sizes in ((3, ((1, 1), (43, 3), (1, 200))), (4, ((1, 1), (100, 128)))):
        c = McQuicCodec(model(levels), "x", b"", container)
        for size in sizes:
            assert c.decompress(c.compress(picture(*size))).shape == (*size, 3)


def test_07_official_weights_of_another_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS["mcquic"]()
    entry = next(e for e in checkpoint.manifest() if e["method"] == "mcquic")
    assert entry["url"].endswith(f"qp_2_msssim_{entry['sha256']}.mcquic") and entry["sha256"] == "8e954998"
    asked = []

    def fetch(url: str, path: Path, sha256: str) -> None:
        asked.append((url, sha256))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"something else")

    monkeypatch.setattr(checkpoint, "fetch", fetch)
    with pytest.raises(CheckpointError, match="not the published file"):
        checkpoint.find(method, "official")
    assert asked == [(entry["url"], "8e954998")], "and the download itself is told what to expect"
    with pytest.raises(checkpoint.MissingWeights):
        checkpoint.find(METHODS["mcquic"](m=12), "official")
    with pytest.raises(checkpoint.MissingWeights):
        checkpoint.find(METHODS["mcquic"](target="mse"), "official")


def test_08_paths_in_files_are_neither_opened_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c = codec("mcq")
    evil = tmp_path / "evil.mcquic"
    evil.write_bytes(b"\x80\x04cos\nsystem\n")
    whole = msgpack.unpackb(c.compress(picture(40, 60)))
    assert whole["fileHeader"]["qp"] == "qp_2_msssim"
    whole["fileHeader"]["qp"] = str(evil)
    opened: list[Any] = []
    monkeypatch.setattr(torch, "load", lambda *a, **k: opened.append(a))
    monkeypatch.setattr(Path, "open", lambda *a, **k: opened.append(a))
    assert c.decompress(msgpack.packb(whole)).shape == (40, 60, 3)
    whole["fileHeader"]["codeSize"]["m"] = 3
    with pytest.raises(BitstreamError) as caught:
        c.decompress(msgpack.packb(whole))
    assert not opened and str(tmp_path) not in str(caught.value)


def test_09_damage_is_noticed_and_sizes_are_validated() -> None:
    c, image = codec(), picture(64, 128)
    stream = c.compress(image)
    for bit in range(0, 8 * len(stream), 3):
        bad = bytearray(stream)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            c.decompress(bytes(bad))
    files = codec("mcq").files
    whole = codec("mcq").compress(image)
    for cut in (0, 1, 12, 80, len(whole) // 2, len(whole) - 4, len(whole) - 1):
        with pytest.raises(BitstreamError):
            files.unpack(whole[:cut])
    for path, value in {
        ("imageSize", "height"): 2**31,
        ("imageSize", "width"): 0,
        ("imageSize", "channel"): 4,
        ("codeSize", "m"): 1,
        ("codeSize", "k"): [32, 16, 2**40],
        ("codeSize", "heights"): [2**40, 4, 2],
        ("codeSize", "widths"): [8, 4],
        ("version",): "0.2.0",
        ("qp",): "qp_2_mse",
    }.items():
        header = msgpack.unpackb(whole)
        place = header["fileHeader"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        with pytest.raises(BitstreamError):
            files.unpack(msgpack.packb(header))
    for extra in ({"more": 1}, {"contents": []}, {"fileHeader": {}}):
        with pytest.raises(BitstreamError):
            files.unpack(msgpack.packb({**msgpack.unpackb(whole), **extra}))


def test_10_a_checksum_catches_what_the_coder_cannot() -> None:
    """Flips in the payload with a CRC32 that was made to fit are caught by the check of the symbols."""
    c, draw = codec(), random.Random(0)
    stream = c.compress(picture(128, 128))
    for _ in range(200):
        bad = bytearray(stream)
        bad[draw.randrange(16, len(bad))] ^= 1 << draw.randrange(8)
        bad[6:10] = zlib.crc32(bad[10:], zlib.crc32(bad[:6])).to_bytes(4, "little")
        with pytest.raises(BitstreamError):
            c.decompress(bytes(bad))


def test_11_tables_have_one_entry_more_than_symbols() -> None:
    for k in (2, 5, 512):
        table = rans.cumulative(np.ones(k, np.float32))
        assert len(table) == k + 1 and table[0] == 0 and table[-1] == 1 << rans.PRECISION
        assert (np.diff(table) >= 1).all()
        assert rans.decode(rans.encode([0, k - 1], [0, 0], [table]), [0, 0], [table]) == [0, k - 1]


def test_12_tables_do_not_depend_on_the_order_of_summation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        row = rng.exponential(size=8192).astype(np.float32)
        assert np.float32(math.fsum(row.tolist())) == np.float32(np.sum(row, dtype=np.float64))
        order = rng.permutation(8192)
        exact = [float(np.float32(np.sum(r, dtype=np.float64))) for r in (row, row[order], np.sort(row))]
        assert len(set(exact)) == 1
    one, other = categorical_table(row), categorical_table(np.asfortranarray(row[None])[0])
    assert np.array_equal(one.frequencies[0], other.frequencies[0])


def test_13_tables_follow_the_weights() -> None:
    net, image = model(), picture(64, 64)
    before = McQuicCodec(net, "x", b"")
    for level in net._quantizer._entropyCoder._freqEMA:
        level.data.copy_(level.data.flip(1))
    after = McQuicCodec(net, "x", b"")
    assert not np.array_equal(before.tables[0].frequencies[0], after.tables[0].frequencies[0])
    assert not np.array_equal(before.files.tables[0][0], after.files.tables[0][0])
    assert after.decompress(after.compress(image)).shape == image.shape


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_14_dead_codes_cost_next_to_nothing(share: float) -> None:
    live = round(8192 * (1 - share))
    row = np.r_[np.full(live, 1 / live), np.zeros(8192 - live)].astype(np.float32)
    bits = PRECISION - np.log2(categorical_table(row).frequencies[0][0])
    assert bits - math.log2(live) < 0.002, "16 bits cost 0.19 and 0.56"


def test_15_no_distutils_no_shared_folders_and_headers_count() -> None:
    root = Path(augment.__file__).parent
    names: set[str] = set()
    for path in root.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names |= {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
    assert names and not any(
        n.split(".")[0] in ("distutils", "tempfile", "shutil", "apex", "torchvision") for n in names
    )
    for container in ("tessera", "mcq"):
        c = codec(container)
        streams = [c.compress(picture(*size)) for size in ((64, 64), (40, 200))]
        assert [c.decompress(s).shape[:2] for s in streams] == [(64, 64), (40, 200)]
        assert all(c.payload_bits(s) <= 8 * (len(s) - 16) for s in streams)


def test_16_sampling_in_training_keeps_no_table_of_logits() -> None:
    """The gradients are those of the dense form, and nothing with an entry for each vector and codeword is kept."""
    torch.manual_seed(0)
    n, k, d = 600, 48, 6
    book = Quantizer(d, 1, k)
    x = torch.randn(1, d, 1, n, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        torch.manual_seed(1)
        out = book(x)
    assert max(kept) < n * k / 4
    target = torch.randn_like(out.vectors)
    (out.vectors * target).sum().backward()
    got = [x.grad, book._codebook.grad, book._temperature.grad]

    rows, table = x.detach()[0, :, 0].T.clone().requires_grad_(), book._codebook.detach().clone().requires_grad_()
    heat = book._temperature.detach().clone().requires_grad_()
    torch.manual_seed(1)
    seeds = torch.randint(2**62, (-(-n // quantizer.ROWS),)).tolist()
    logits = (
        -(torch.cdist(rows, table[0], compute_mode="donot_use_mm_for_euclid_dist") ** 2) / math.sqrt(k) * heat.view(())
    )
    noise = torch.cat([quantizer._gumbel(part, s) for part, s in zip(logits.split(quantizer.ROWS), seeds, strict=True)])
    soft = torch.softmax(logits + noise, 1)
    hard = torch.nn.functional.one_hot((logits + noise).argmax(1), k).float()
    dense = (hard - soft.detach() + soft) @ table[0]
    assert torch.allclose(dense, out.vectors[0, :, 0].T, atol=1e-5)
    assert torch.equal(out.codes.view(-1), logits.argmax(1))
    (dense * target[0, :, 0].T).sum().backward()
    for mine, theirs in zip(got, (rows.grad.T[None, :, None], table.grad, heat.grad), strict=True):
        assert torch.allclose(mine, theirs, atol=2e-3, rtol=2e-3)


def test_recipe_is_checked_before_training() -> None:
    from core.registry import UnknownName

    with pytest.raises(UnknownName):
        Recipe(target="psnr")
