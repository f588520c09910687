"""Search at the encoder: better streams that the plain decoder reads, the same each time, and never worse ones."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import search_gain
from benchmarks.datasets import open_dataset
from benchmarks.store import Cell, Store
from core import checkpoint
from core.codec import MOST_SEARCH, HasSearch, TesseraError
from core.registry import discover, make_method
from qres import search
from qres.architectures import QRES34M_LOSSLESS
from qres.blocks import CNX, AdaCNX
from qres.codec import QResCodec
from qres.network import QResVAE
from tests.support.golden_qres import fill

discover()


@cache
def shipped(target: str = "mse", lmb: float = 16) -> QResCodec:
    method = make_method("qres3m_vr", {"lmb": lmb, "target": target})
    return method.codec(checkpoint.load(method, checkpoint.find(method, "ours")))


@cache
def untrained(name: str) -> QResCodec:
    method = make_method(name, {"lmb": 16})
    return method.codec(fill(method.model()))


def picture(height: int, width: int) -> np.ndarray:
    return next(iter(open_dataset("sample"))).read()[:height, :width]


def cost(codec: QResCodec, image: np.ndarray, stream: bytes) -> float:
    """Nats per dimension + lambda x squared error on the (-1, 1) scale, from bytes and the decoded picture."""
    error = np.mean((codec.decompress(stream).astype(float) - image) ** 2) / 127.5**2
    return 8 * len(stream) * np.log(2) / (3 * image.shape[0] * image.shape[1]) + codec.model.lmb * error


def test_better_deterministic_and_read_by_the_plain_decoder():
    codec, image = shipped(), picture(64, 96)
    plain = codec.compress(image)
    found = codec.searching(30).compress(image)
    assert cost(codec, image, found) < 0.97 * cost(codec, image, plain)
    assert codec.searching(30).compress(image) == found
    assert codec.compress(image) == plain, "the plain codec is as it was"
    other = make_method("qres3m_vr", {"lmb": 64})  # the stream says its lambda, as ever
    read = other.codec(checkpoint.load(other, checkpoint.find(other, "ours")))
    np.testing.assert_array_equal(read.decompress(found), codec.searching(1).decompress(found))


def test_more_steps_find_more():
    codec, image = shipped(), picture(64, 96)
    few, many = (cost(codec, image, codec.searching(n).compress(image)) for n in (5, 60))
    assert many < few


def test_the_encoders_own_means_give_the_plain_stream():
    codec, image = shipped(), picture(50, 70)
    assert codec.compress_batch([image], codec.means([image])) == [codec.compress(image)]


@pytest.mark.parametrize("shape", [(1, 1, 3), (33, 70, 3), (65, 40, 1)])
def test_odd_sizes_and_grey_are_never_worse(shape):
    codec, image = shipped(), picture(*shape[:2])[..., : shape[2]]
    stream = codec.searching(4).compress(image)
    assert cost(codec, image, stream) <= cost(codec, image, codec.compress(image))
    assert codec.decompress(stream).shape == shape


def test_a_batch_of_one_padded_size():
    codec, images = shipped(), [picture(60, 96), picture(64, 90)[::-1].copy()]
    streams = codec.searching(15).compress_batch(images)
    for image, stream in zip(images, streams, strict=True):
        assert cost(codec, image, stream) < cost(codec, image, codec.compress(image))


def test_a_search_that_fails_gives_the_plain_stream(monkeypatch):
    codec, image = shipped(), picture(64, 64)
    plain = codec.compress(image)
    with monkeypatch.context() as patch:
        patch.setattr(search, "RATE", float("inf"))  # means, and then the loss, are not finite
        assert codec.searching(10).compress(image) == plain
    with monkeypatch.context() as patch:
        patch.setattr(search, "search", lambda network, x, sizes, means, steps: [m + 3 for m in means])
        assert codec.searching(10).compress(image) == plain


def test_it_stops_where_nothing_is_gained(monkeypatch):
    codec, image = shipped(), picture(64, 64)
    looked = []
    monkeypatch.setattr(search, "RATE", 0.0)  # no step leads anywhere
    rounded = search.Descent.rounded
    monkeypatch.setattr(search.Descent, "rounded", lambda self, means: looked.append(1) or rounded(self, means))
    assert codec.searching(40).compress(image) == codec.compress(image)
    assert len(looked) < 1 + search.CHECKS


@pytest.mark.parametrize(("height", "width", "stride"), [(64, 64, 64), (768, 512, 64), (832, 2048, 64), (1600, 96, 32)])
def test_windows_cover_every_cell_once(height, width, stride):
    kept = np.zeros((height, width), int)
    for window in search.windows(height, width, stride):
        kept[window.inner] += 1
        for inner, outer in zip(window.inner, window.outer, strict=True):
            assert outer.start <= inner.start and inner.stop <= outer.stop
            assert outer.stop - outer.start <= search.TILE + 2 * search.OVERLAP + stride
            assert all(v % stride == 0 for s in (inner, outer) for v in (s.start, s.stop))
    assert (kept == 1).all()
    assert len(list(search.windows(height, width, stride))) == -(-height // search.TILE) * -(-width // search.TILE)


def test_large_pictures_gain_window_by_window(monkeypatch):
    monkeypatch.setattr(search, "TILE", 64)
    monkeypatch.setattr(search, "OVERLAP", 32)
    codec, image = shipped(), picture(96, 160)
    stream = codec.searching(25).compress(image)
    assert cost(codec, image, stream) < 0.98 * cost(codec, image, codec.compress(image))


@pytest.mark.parametrize("name", ["qres34m", "qres17m", "qres3m_vr"])
def test_every_lossy_model(name):
    codec, image = untrained(name), picture(64, 64)
    stream = codec.searching(3).compress(image)
    assert cost(codec, image, stream) <= cost(codec, image, codec.compress(image))


def test_a_conditional_network_that_cannot_be_folded(monkeypatch):
    class Other(QResVAE):
        """A model of another kind, conditional on lambda."""

        def at_lambda(self):
            raise AssertionError("not of this kind")

    codec, image = shipped(), picture(64, 96)
    monkeypatch.setattr(codec.model, "__class__", Other)
    stream = codec.searching(30).compress(image)
    assert cost(codec, image, stream) < cost(codec, image, codec.compress(image))


def test_ms_ssim():
    codec, image = shipped("ms_ssim"), picture(176, 192)
    searching = codec.searching(12)
    stream, plain = searching.compress(image), codec.compress(image)
    assert stream != plain and searching._cost(image, stream) < searching._cost(image, plain)
    small = picture(100, 192)  # MS-SSIM says nothing about it
    assert searching.compress(small) == codec.compress(small)


def test_the_callers_model_is_left_alone():
    model = make_method("qres3m_vr", {}).model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    codec = make_method("qres3m_vr", {}).codec(model)
    codec.searching(2).compress(picture(64, 64))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_within_inference_mode():
    codec, image = shipped(), picture(64, 64)
    with torch.inference_mode():
        stream = codec.searching(5).compress(image)
    assert stream == codec.searching(5).compress(image)


def test_rounding_steepens_to_a_step():
    fraction = torch.tensor([0.0, 0.3, 0.49, 0.5, 0.51, 0.7, 1.0])
    soft, hard = search.soft_share(fraction, search.SOFT), search.soft_share(fraction, search.HARD)
    assert all(a < b for a, b in pairwise(soft[1:-1].tolist()))
    torch.testing.assert_close(hard, torch.tensor([0, 0, 0, 0.5, 1, 1, 1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel", [1, 7])
@pytest.mark.parametrize("kind", [CNX, AdaCNX])
def test_a_block_of_frozen_weights_has_the_gradient_of_its_input(kind, kernel):
    torch.manual_seed(kernel)
    block = kind(32, kernel, embedding=8, gamma=0.5)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x, condition = torch.randn(2, 32, 6, 5).contiguous(memory_format=torch.channels_last), torch.randn(2, 8)
    found = {}
    for name, frozen, amp in (("frozen", True, True), ("trained", False, True), ("exact", True, False)):
        block.requires_grad_(not frozen)
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            block(leaf, condition).float().sin().sum().backward()
        found[name] = leaf.grad
    torch.testing.assert_close(found["frozen"], found["trained"])
    assert (found["frozen"] - found["exact"]).norm() < 0.03 * found["exact"].norm()


# What is refused


@pytest.mark.parametrize("effort", [-1, MOST_SEARCH + 1, 2.5, True, "3"])
def test_absurd_counts(effort):
    with pytest.raises(TesseraError, match="must be a whole number from"):
        shipped().searching(effort)
    with pytest.raises(TesseraError, match="must be a whole number from 0"):
        make_method("qres3m_vr", {}).check_search(effort)


def test_methods_without_search():
    method = make_method("jpeg", {})
    codec = method.codec(None)
    assert method.searching(codec, 0) is codec and not isinstance(codec, HasSearch)
    with pytest.raises(TesseraError, match="jpeg has no search at the encoder: leave search=3 out"):
        method.searching(codec, 3)
    with pytest.raises(TesseraError, match="qres34m_lossless has no search"):
        make_method("qres34m_lossless", {}).check_search(3)
    lossless = QResCodec(QResVAE(QRES34M_LOSSLESS, 1), "qres34m_lossless", bytes(32))
    with pytest.raises(TesseraError, match="no lambda to search with"):
        lossless.searching(3)


# Commands and cells


def test_a_search_is_a_variant_and_no_search_keeps_its_key(command, pictures):
    words = ("with", "method=qres3m_vr", "dataset=folder:pictures", "limit=1", "points=16")
    assert command("benchmarks/rd_curve.py", *words).code == 0
    assert command("benchmarks/rd_curve.py", *words, "search=3").code == 0
    assert command("benchmarks/rd_curve.py", *words, "search=0").code == 0
    plain, searched = sorted(Store("results").scan()[0], key=lambda r: "search" in r.cell.variant)
    assert "search" not in plain.cell.variant and plain.label == "qres3m_vr"
    assert searched.cell.variant == {**plain.cell.variant, "search": 3} and searched.label == "qres3m_vr(search=3)"
    assert "3 gradient steps" in searched.about["method_note"]
    assert searched.means["encode_s"] > 0 and plain.key == Cell.from_dict(vars(plain.cell)).key


def test_files_are_smaller_and_decode(command, pictures):
    words = ("method=qres3m_vr", "params.lmb=16", "input=pictures/0.png", "psnr=True")
    for n in (0, 10):
        assert command("qres", "compress", "with", *words, f"search={n}", f"output={n}.tsr").code == 0
    assert command("qres", "decompress", "with", *words[:2], "input=10.tsr", "output=x.png").code == 0
    assert Path("10.tsr").stat().st_size < Path("0.tsr").stat().st_size


@pytest.mark.parametrize("words", [("search=-1",), ("search=1000001",), ("search=many",), ("method=jpeg", "search=3")])
def test_bad_counts_are_one_sentence(command, pictures, words):
    for script, *others in (
        ("benchmarks/rd_curve.py", "dataset=folder:pictures"),
        ("benchmarks/match_rate.py", "dataset=folder:pictures", "target_bpp=1"),
        ("qres", "compress", "input=pictures/0.png"),
    ):
        head = (script, *others[:1]) if script == "qres" else (script,)
        done = command(*head, "with", *others[len(head) - 1 :], *words)
        assert done.code == 2 and "search" in done.sentence
    assert not list(Path().glob("results/cells/*"))


def measured(store: Store, effort: int, rates: float, seconds: float, points: tuple[int, ...] = (4, 16, 64)) -> None:
    """Cells of a curve through (rates x point, log2 point dB); the seed and the device are those of all."""
    for point in points:
        variant = {"size": 3} | ({"search": effort} if effort else {})
        known = "abc" if effort else ""  # in the key since a while, beside it in older cells
        cell = Cell("toy", variant, point, "pictures", "all", checkpoint=f"weights{point}", pictures=known)
        row = {"image": "a", "bpp": rates * point, "psnr": np.log2(point), "encode_s": seconds}
        store.write(cell, pd.DataFrame([row]), {"title": "pictures", "data_fingerprint": "abc"}, {})


def test_the_figure_of_rate_saved_over_seconds(command, tmp_path):
    store = Store(tmp_path / "results")
    measured(store, 0, 0.01, 0.5, (4, 16, 64, 256))
    measured(store, 100, 0.009, 40)
    measured(store, 300, 0.008, 120)
    few, many = search_gain.gains(store.cells(), "psnr")
    assert (few.plain, few.searched, few.effort, few.points) == ("toy(size=3)", "toy(search=100, size=3)", 100, 3)
    assert few.rate_percent == pytest.approx(-10) and many.rate_percent == pytest.approx(-20)
    assert (many.plain_s, many.searched_s) == (0.5, 120)
    figure = search_gain.gain_figure([few, many], "psnr")
    assert figure.series[0].x == (0.5, 40, 120) and figure.series[0].y == pytest.approx((0, 10, 20))
    done = command("benchmarks/search_gain.py", "with", "dataset=pictures")
    assert done.code == 0 and "toy(search=300, size=3)" in done.out
    assert Path("results/figures/search_pictures_psnr.pdf").is_file()
    assert Path("results/tables/search_pictures_psnr.csv").is_file()
    done = command("benchmarks/search_gain.py", "with", "dataset=kodak")
    assert done.code == 2 and "kodak has no curve with search=N" in done.sentence


def test_a_searched_curve_alone_gains_nothing(tmp_path):
    store = Store(tmp_path / "results")
    measured(store, 100, 0.009, 40)
    assert search_gain.gains(store.cells(), "psnr") == []
