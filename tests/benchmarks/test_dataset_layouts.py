"""The files the loaders read: official archives as they come, built here in miniature, and damaged ones."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image as pillow

from benchmarks.datasets import DataError, MissingData, fingerprints, open_dataset

RNG = np.random.default_rng(3)


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    pillow.fromarray(image).save(file, kind)
    return file.getvalue()


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def cifar_records(images):
    return b"".join(bytes([7]) + image.transpose(2, 0, 1).tobytes() for image in images)


@pytest.mark.parametrize("place", ["", "cifar-10-batches-bin"])
def test_cifar_binary_files(tmp_path, place):
    images = noise(3, 32, 32, 3)
    folder = tmp_path / "cifar10" / place
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(cifar_records(images))
    found = open_dataset("cifar10", root=tmp_path)
    assert found.title == "cifar10, first 3 test" and found.subset
    assert np.array_equal(np.stack([image.read() for image in found]), images)
    for i in range(1, 6):
        (folder / f"data_batch_{i}.bin").write_bytes(cifar_records(images[:1]))
    assert len(open_dataset("cifar10_train", root=tmp_path)) == 5


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:100]])
def test_damaged_cifar_is_named(tmp_path, damage):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "test_batch.bin").write_bytes(damage(cifar_records(noise(2, 32, 32, 3))))
    with pytest.raises(DataError, match=r"test_batch\.bin.*prepare again"):
        open_dataset("cifar10", root=tmp_path)


def idx(images):
    return struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()


@pytest.mark.parametrize("suffix,pack", [(".gz", gzip.compress), ("", bytes)])
def test_idx_files(tmp_path, suffix, pack):
    images = noise(4, 28, 28)
    (tmp_path / "fashion_mnist").mkdir()
    (tmp_path / "fashion_mnist" / f"t10k-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
    found = open_dataset("fashion_mnist", root=tmp_path)
    assert np.array_equal(np.stack([image.read() for image in found])[..., 0], images)


@pytest.mark.parametrize("data", [gzip.compress(b"abc", mtime=0), b"abc", gzip.compress(idx(noise(4, 28, 28)))[:-20]])
def test_damaged_idx_is_named(tmp_path, data):
    (tmp_path / "fashion_mnist").mkdir()
    (tmp_path / "fashion_mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz.*prepare again"):
        open_dataset("fashion_mnist", root=tmp_path)


def test_zip_of_jpeg(tmp_path):
    """The half-size layout of celeba: the last 1,000 are held out; macOS clutter is left alone."""
    (tmp_path / "celeba").mkdir()
    with zipfile.ZipFile(tmp_path / "celeba" / "celeba_half_89x109_000001-010000.zip", "w") as archive:
        for i in range(1, 1004):
            archive.writestr(f"{i:06d}.jpg", encoded(np.full((4, 4, 3), i % 256, np.uint8), "JPEG"))
        archive.writestr("__MACOSX/._000001.jpg", b"fork")
    test, train = open_dataset("celeba", root=tmp_path), open_dataset("celeba_train", root=tmp_path)
    assert [image.name for image in train] == ["000001", "000002", "000003"]
    assert len(test) == 1000 and test.images[0].read().mean() == pytest.approx(4, abs=1)
    assert test.title == "celeba, last 1000 of the first 1003 training images at half size"


def test_damaged_zip_is_named(tmp_path):
    (tmp_path / "celeba").mkdir()
    (tmp_path / "celeba" / "img_align_celeba.zip").write_bytes(b"PK not")
    with pytest.raises(DataError, match=r"img_align_celeba\.zip is not a readable zip"):
        open_dataset("celeba", root=tmp_path)


def test_tar_of_png(tmp_path):
    """The official layout of imagenet32, read in place; 10.png comes after 2.png."""
    images = {f"valid_32x32/{i}.png": noise(32, 32, 3) for i in (10, 2, 1)}
    (tmp_path / "imagenet").mkdir()
    with tarfile.open(tmp_path / "imagenet" / "valid_32x32.tar", "w") as archive:
        for name, image in images.items():
            data = encoded(image)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    found = open_dataset("imagenet32", root=tmp_path)
    assert [image.name for image in found] == ["1", "2", "10"]
    assert found.title == "imagenet32, 3 of 50000 valid (1, 2, 10)"
    for image in found:
        assert np.array_equal(image.read(), images[f"valid_32x32/{image.name}.png"])


def test_clic_splits_are_folders(tmp_path):
    folder = tmp_path / "clic" / "mobile_test"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(noise(3, 3, 3)))
    assert open_dataset("clic_mobile_test", root=tmp_path).title == "clic, 1 of 178 mobile_test (a)"
    with pytest.raises(MissingData, match=r"no images of clic in .*experiments\.prepare with dataset=clic'"):
        open_dataset("clic", root=tmp_path)
    with pytest.raises(MissingData, match=r"clic \(test2022\).*dataset=clic split=test2022'"):
        open_dataset("clic", root=tmp_path, split="test2022")


TFDS_SET = """
import sys, pathlib
import tensorflow_datasets as tfds
class Dots(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(sys.argv[1])
    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, manager):
        return {"test": self._generate_examples()}
    def _generate_examples(self):
        for path in sorted(pathlib.Path(sys.argv[1]).glob("*.png")):
            yield path.name, {"image": str(path)}
builder = Dots(data_dir=sys.argv[2], file_format="array_record")
builder.download_and_prepare()
assert "tensorflow" not in sys.modules
"""


def test_tfds_reads_prepared_sets_without_tensorflow(tmp_path, monkeypatch):
    pixels = {f"{i}.png": noise(5, 4 + i, 3) for i in range(3)}
    (tmp_path / "in").mkdir()
    for name, image in pixels.items():
        (tmp_path / "in" / name).write_bytes(encoded(image))
    code = [sys.executable, "-c", TFDS_SET, str(tmp_path / "in"), str(tmp_path / "tfds")]
    subprocess.run(code, check=True, capture_output=True, timeout=300)
    for root, variable in ((tmp_path / "tfds", tmp_path / "none"), (tmp_path / "none", tmp_path / "tfds")):
        monkeypatch.setenv("TFDS_DATA_DIR", str(variable))
        images = open_dataset("tfds:dots", root=root)
        assert (images.name, images.title, len(images)) == ("tfds:dots", "tfds dots 1.0.0 test", 3)
        assert not images.trainable
        assert sorted(fingerprints(images)) == sorted(fingerprints(pixels.values()))
    assert "tensorflow" not in sys.modules
    (record,) = (tmp_path / "tfds").rglob("*array_record*")
    whole = record.read_bytes()
    for damaged in (
        b"",
        whole[:100],
        whole[: len(whole) // 2],
        bytes(len(whole)),
        whole[:90] + bytes(99) + whole[189:],
    ):
        record.write_bytes(damaged)
        with pytest.raises(
            DataError, match=r"dots/1\.0\.0, test image 0 is damaged \(.*\); prepare the data set again"
        ):
            open_dataset("tfds:dots", root=tmp_path / "tfds")
    (tmp_path / "tfds" / "dots" / "1.0.0" / "features.json").write_text("{")
    with pytest.raises(DataError, match=r"dots/1\.0\.0 is damaged \(.*\); prepare it again"):
        open_dataset("tfds:dots", root=tmp_path / "tfds")
    with pytest.raises(MissingData, match=r"tfds:none in .*download_and_prepare"):
        open_dataset("tfds:none", root=tmp_path)
