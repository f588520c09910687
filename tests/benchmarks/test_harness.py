"""The harness on toy codecs: what is written, what is refused, which pictures are kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.datasets import NamedImage, fingerprints
from benchmarks.measure.harness import HarnessError, LeakError, measure, refuse_leaks
from benchmarks.store import Cell, Store, StoreError
from core.codec import TesseraError
from tests.support.toy_codec import Rich, Zip, image_set, run


def test_numbers_of_a_cell(tmp_path):
    images = image_set()
    result = run(tmp_path, Zip(), images)
    frame = result.images
    assert list(frame["image"]) == [i.name for i in images] and result.count == 3
    for i, image in enumerate(images):
        pixels = image.read()
        size = len(Zip().compress(pixels))
        row = frame.iloc[i]
        assert (row["height"], row["width"], row["channels"]) == pixels.shape and row["bytes"] == size
        assert row["bpp"] == 8 * size / (pixels.shape[0] * pixels.shape[1]) and row["bpd"] == 8 * size / pixels.size
        assert row["payload_bits"] == 8 * size and row["psnr"] == math.inf and row["mse"] == 0
    assert result.means["bpp"] == pytest.approx(frame["bpp"].mean()) and result.means["psnr"] == math.inf
    assert (frame["encode_s"] >= 0).all() and (frame["decode_s"] >= 0).all() and (frame["peak_memory_mb"] > 10).all()
    assert "estimate_bits" not in frame and "ms_ssim" not in frame and result.codebook is None
    assert result.about["title"] == "toy test" and result.about["defaults"] == {"level": 6, "shift": 0}
    assert result.provenance["wall_s"] >= 0 and result.about["method_note"] == "zlib"


def test_lossy_quality_is_of_the_decoded_image(tmp_path):
    images = image_set()
    frame = run(tmp_path, Zip(shift=4), images, point=4).images
    error = [np.mean((i.read() % 16).astype(float) ** 2) for i in images]
    assert frame["mse"].to_numpy() == pytest.approx(error)
    assert frame["psnr"].to_numpy() == pytest.approx(10 * np.log10(255**2 / np.array(error)))


def test_capabilities_make_columns(tmp_path):
    images = image_set()
    result = run(tmp_path, Rich(), images)
    frame, book = result.images, result.codebook
    assert list(frame["estimate_bits"]) == [8 * i.read().size for i in images]
    assert (frame["payload_bits"] == 8 * frame["bytes"] - 48).all()
    values = np.concatenate([i.read().ravel() for i in images])
    counts = book[book["level"] == 0].set_index("code")["count"]
    assert counts.to_dict() == dict(zip(*np.unique(values, return_counts=True), strict=True))
    assert result.about["codebook_sizes"] == [256, 8] and book[book["level"] == 1]["code"].max() < 8


@pytest.mark.parametrize("sides, present", [((180, 200), True), ((180, 100), False)])
def test_a_metric_needs_every_image_large_enough(tmp_path, sides, present):
    images = image_set([(side, side, 1) for side in sides])
    frame = run(tmp_path, Zip(shift=5), images, point=4).images
    assert ("ms_ssim" in frame) == present and ("ms_ssim_db" in frame) == present and "psnr" in frame


# ---- broken codecs


class Failing(Zip):
    def compress(self, image):
        if image.shape[2] == 1:
            raise RuntimeError("no grey")
        return super().compress(image)


class Refusing(Zip):
    def decompress(self, stream):
        raise TesseraError("the stream is damaged.")


class Cropping(Zip):
    def decompress(self, stream):
        return super().decompress(stream)[:-1]


class Floating(Zip):
    def decompress(self, stream):
        return super().decompress(stream) / 255.0


class Texting(Zip):
    def compress(self, image):
        return "bytes"


class Guessing(Rich):
    def bits(self, image):
        raise ValueError("first line\nsecond line")


class Altering(Zip):
    """Darkens its input, to look better than it is."""

    def compress(self, image):
        image &= 0xF0
        return super().compress(image)


class Overflowing(Rich):
    codebook_sizes = (256, 4)


class Levelless(Rich):
    codebook_sizes = (256,)


@pytest.mark.parametrize(
    "codec, words",
    [
        (Failing(), "cannot compress im/1: RuntimeError: no grey"),
        (Refusing(), "the stream is damaged"),
        (Cropping(), r"shape \(39, 30, 3\) instead of \(40, 30, 3\)"),
        (Floating(), "float64, not uint8"),
        (Texting(), "str instead of bytes"),
        (Overflowing(), r"outside \[0, 4\)"),
        (Levelless(), "2 levels"),
        (Guessing(), "cannot estimate the bits of im/0: ValueError: first line second line"),
    ],
)
def test_a_broken_codec_is_an_error_and_no_cell(tmp_path, codec, words):
    with pytest.raises(HarnessError, match=words) as caught:
        run(tmp_path, codec)
    assert "\n" not in str(caught.value)
    assert Store(tmp_path).scan() == ([], [])


def test_a_lossless_lie_is_an_error(tmp_path):
    run(tmp_path / "a", Zip(), lossless=True)
    with pytest.raises(HarnessError, match="says it is lossless"):
        run(tmp_path / "b", Zip(shift=1), lossless=True)


def test_a_codec_cannot_alter_the_original(tmp_path):
    images = image_set()
    held = {image.name: image.read().copy() for image in images}
    images = replace(images, images=tuple(NamedImage(n, lambda: b"", lambda _, a=a: a) for n, a in held.items()))
    assert (run(tmp_path, Altering(), images).images["mse"] > 10).all()


def test_an_unreadable_image_is_no_cell(tmp_path):
    def broken(data):
        raise TesseraError("im/x cannot be read.")

    images = image_set()
    images = replace(images, images=(*images.images, NamedImage("im/x", bytes, broken)))
    with pytest.raises(TesseraError, match="im/x"):
        run(tmp_path, Zip(), images)
    assert Store(tmp_path).cells() == []


def test_nothing_to_measure_and_other_rates_are_refused(tmp_path):
    with pytest.raises(HarnessError, match="no images"):
        run(tmp_path, Zip(), image_set([]))
    cell = Cell("zip", {}, 0, "toy", "test", rate="estimate")
    with pytest.raises(HarnessError, match="estimate"):
        measure(cell, Zip(), image_set(), Store(tmp_path), about={}, provenance={})


# ---- leaks


def test_trained_images_are_refused(tmp_path):
    images = image_set()
    seen = fingerprints([images.images[1]])
    with pytest.raises(LeakError, match="1 of 3 images of toy test \\(im/1\\)"):
        run(tmp_path, Zip(), images, train_fingerprints=seen)
    run(tmp_path, Zip(), images, train_fingerprints=fingerprints(image_set(seed=1)))
    renamed = replace(images, images=tuple(replace(i, name=f"other{i.name}") for i in images))
    with pytest.raises(LeakError, match="3 of 3"):
        refuse_leaks(renamed, set(fingerprints(images)))


def test_the_same_pictures_in_another_size_are_refused():
    images = image_set(overlaps=("toy64",))
    refuse_leaks(images, (), ("bsds500",))
    with pytest.raises(LeakError, match="toy64"):
        refuse_leaks(images, (), ("bsds500", "toy64"))


# ---- pictures


def test_kept_pictures_are_exact(tmp_path):
    from core.images import open_image

    images, store = image_set(), Store(tmp_path)
    result = run(tmp_path, Zip(shift=4), images, point=4, keep_images=True)
    for image in images:
        original = np.broadcast_to(image.read(), (*image.read().shape[:2], 3))
        kept = open_image(store.picture(result.key, image.name))
        assert np.array_equal(np.broadcast_to(kept, original.shape), original >> 4 << 4)
        beside = open_image(store.original("toy", image.name, images.fingerprint))
        assert np.array_equal(np.broadcast_to(beside, original.shape), original)


def test_private_and_unwanted_pictures_are_not_kept(tmp_path):
    run(tmp_path, Zip(), image_set(private=True), keep_images=True)
    run(tmp_path, Zip(), image_set(), point=2)
    assert not (tmp_path / "images").exists()


def test_a_changed_original_is_kept_anew(tmp_path):
    from core.images import open_image

    for seed in (0, 1):
        images = image_set([(8, 8, 3)], seed=seed)
        run(tmp_path, Zip(), images, point=seed, keep_images=True)
        kept = Store(tmp_path).original("toy", "im/0", images.fingerprint)
        assert np.array_equal(open_image(kept), images.images[0].read())


def test_results_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="file"):
        run(tmp_path / "file", Zip())
    with pytest.raises(StoreError, match="picture"):
        run(tmp_path / "file", Zip(), keep_images=True)
