"""Data sets: layouts, counts, titles, and what is said when they are incomplete, broken or absent."""

from __future__ import annotations

import csv
import hashlib
import io
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from benchmarks.datasets import (
    DATASETS,
    MissingData,
    data_roots,
    fingerprints,
    open_dataset,
    training_set,
)
from benchmarks.datasets.files import array_images, image_files
from core.codec import TesseraError
from core.images import ImageError
from core.registry import UnknownName
from tests.support.shared import shared

RNG = np.random.default_rng(3)
TITLES = [  # name, title, number, subset, trainable, shape of the first image
    ("kodak", "kodak", 24, False, False, (512, 768, 3)),
    ("cid22", "CID22-512 validation, 41 images (imazen/codec-corpus)", 41, True, False, (512, 512, 3)),
    ("clic2025", "CLIC 2025 validation, centre crops of 26 of 32", 26, True, False, (768, 512, 3)),
    ("clic", "clic, 8 assorted images (not a CLIC split)", 8, True, False, (2048, 1716, 3)),
    ("cifar10", "cifar10, first 1000 test", 1000, True, False, (32, 32, 3)),
    ("cifar10_train", "cifar10, first 4000 train", 4000, True, True, (32, 32, 3)),
    ("fashion_mnist", "fashion_mnist test", 10000, False, False, (28, 28, 1)),
    ("celeba", "celeba, last 1000 of the first 10000 training images at half size", 1000, True, False, (109, 89, 3)),
    ("ffhq", "ffhq, first 113 thumbnails128", 113, True, False, (128, 128, 3)),
    ("ffhq_images256", "ffhq, 17 images downsampled to 256x256 by others", 17, True, False, (256, 256, 3)),
    ("bsds500_train", "bsds500 train", 200, False, True, (321, 481, 3)),
    ("bsds500_val", "bsds500 val", 100, False, True, (481, 321, 3)),
    ("imagenet64_sample", "imagenet64_sample: 1000 images box-downsampled by us", 1000, True, True, (64, 64, 3)),
    (
        "imagenet32",
        "imagenet32 sample: 1000 images box-downsampled by us, not the official ImageNet32",
        1000,
        True,
        False,
        (32, 32, 3),
    ),
    (
        "imagenet32_unseen",
        "imagenet32 sample, the 552 of 1000 that are not in imagenet_photos",
        552,
        True,
        False,
        (32, 32, 3),
    ),
    (
        "lossless_pictures",
        "lossless_pictures train (30 photos, 4000 cifar10, 448 imagenet64_sample)",
        4478,
        True,
        True,
        (512, 512, 3),
    ),
]


def test_what_is_trained_on_is_not_among_the_unseen():
    """The classes on the list are those of the folder; models that saw them are scored on the others alone."""
    root = shared("data")
    names = {path.stem for path in (root / "imagenet_photos").glob("*.avif")}
    unseen = {image.name for image in open_dataset("imagenet32_unseen", root=root)}
    trained = {image.name for image in open_dataset("lossless_pictures", root=root)}
    assert len(names) == 448 and not unseen & names and names <= trained and not unseen & trained
    assert "lossless_pictures" in open_dataset("imagenet32", root=root).overlaps
    assert open_dataset("imagenet32_unseen", root=root).overlaps == ("imagenet64_sample",)


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    pillow.fromarray(image).save(file, kind)
    return file.getvalue()


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name,title,number,subset,trainable,shape", TITLES, ids=[t[0] for t in TITLES])
def test_real_data(name, title, number, subset, trainable, shape):
    images = open_dataset(name, root=shared("data"))
    assert (images.title, len(images), images.subset, images.trainable) == (title, number, subset, trainable)
    assert images.left_out == () and images.license
    assert images.images[0].read().shape == shape
    assert len({image.name for image in images}) == number
    assert images.images[-1].read().dtype == np.uint8


def test_real_kodak_is_verified_and_its_fingerprint_pinned():
    images = open_dataset("kodak", root=shared("data"))
    assert [image.name for image in images] == [f"kodim{i:02d}" for i in range(1, 25)]
    assert images.fingerprint == "9a8aa4b5d4cea29a56d9f4d8d927f64ff8b794c416dc1917b5e82f3f251b604e"


@pytest.mark.parametrize("name,folder", [("cid22", "cid22_valid"), ("clic2025_crops", "clic2025_valid_crops")])
def test_real_pictures_are_those_of_the_manifest_and_not_for_training(name, folder):
    images = open_dataset(name, root=shared("data"))
    with (shared("data") / folder / "manifest.csv").open(newline="") as file:
        digests = {Path(row["file"]).stem: row["rgb_sha256"] for row in csv.DictReader(file)}
    assert {image.name: hashlib.sha256(image.read().tobytes()).hexdigest() for image in images} == digests
    with pytest.raises(TesseraError, match="for evaluation only"):
        training_set(name, root=shared("data"))


def test_real_cid22_as_png_is_the_same_set_and_changed_ones_are_left_out(tmp_path):
    """The layout of imazen/codec-corpus; another format of the files is not another identity of results."""
    stored = open_dataset("cid22", root=shared("data"))
    folder = tmp_path / "CID22" / "CID22-512" / "validation"
    folder.mkdir(parents=True)
    for image in stored:
        pillow.fromarray(image.read()).save(folder / f"{image.name}.png", compress_level=0)
    found = open_dataset("cid22", root=tmp_path)
    assert (found.title, found.fingerprint) == (stored.title, stored.fingerprint)
    changed = stored.images[0].read()
    changed[0, 0, 0] ^= 1
    pillow.fromarray(changed).save(folder / f"{stored.images[0].name}.png")
    (folder / f"{stored.images[1].name}.png").write_bytes(b"no picture")
    found = open_dataset("cid22", root=tmp_path)
    assert found.title == "CID22-512 validation, 39 of 41 images (imazen/codec-corpus), 2 left out"
    assert [stored.images[i].name in text for i, text in enumerate(found.left_out)] == [True, True]


def test_clic2025_crops_are_cut_from_whole_pictures(tmp_path):
    """At the stored places; those that differ from the digests are left out, the whole set is of PNG files."""
    folder = tmp_path / "clic2025" / "validation"
    folder.mkdir(parents=True)
    names = [image.name for image in open_dataset("clic2025_crops", root=shared("data"))]
    real = open_dataset("clic2025_crops", root=shared("data")).images[0]
    whole = noise(2048, 1507, 3)
    whole[640 : 640 + 768, 497 : 497 + 512] = real.read()
    pillow.fromarray(whole).save(folder / f"{names[0]}.png", compress_level=0)
    pillow.fromarray(noise(600, 800, 3)).save(folder / f"{names[1]}.png", compress_level=0)
    crops, valid = open_dataset("clic2025_crops", root=tmp_path), open_dataset("clic2025", root=tmp_path)
    assert (len(crops), len(crops.left_out), valid.split) == (1, 1, "valid")
    assert valid.title.startswith("clic2025, 2 of 32 valid (") and valid.subset
    assert np.array_equal(crops.images[0].read(), real.read()) and crops.images[0].sha256() == real.sha256()
    assert crops.title == "CLIC 2025 validation, centre crops of 1 of 32, 1 left out"


def test_real_cifar_first_image_is_the_published_one():
    """Its SHA-256 (NHWC bytes) is stated with the data."""
    first = open_dataset("cifar10", root=shared("data")).images[0]
    assert first.sha256() == "af12e1241a1e7a0c9ba326825279bef5fe961ceb5f95212a99f9b1f22711f913"


def test_real_bsds_is_the_published_one():
    for split in ("train", "val"):
        images = open_dataset("bsds500", root=shared("data"), split=split)
        assert images.fingerprint == DATASETS["bsds500"].splits[split].fingerprint


def test_celeba_is_private_and_split_without_overlap():
    test, train = (open_dataset("celeba", root=shared("data"), split=s) for s in ("test", "train"))
    assert test.private and train.private and "published" in test.license
    assert len(train) == 9000 and train.trainable and not test.trainable
    assert not {image.name for image in test} & {image.name for image in train}
    assert test.images[0].name == "009001"


def test_sample_is_always_here():
    images = open_dataset("sample")
    names = ["astronaut", "coffee", "chelsea", "motorcycle_left", "motorcycle_right"]
    assert [image.name for image in images] == names
    assert (images.title, images.subset, images.trainable) == ("sample", False, False)
    assert images.images[1].read().shape == (400, 600, 3)


def test_limit_changes_the_title_and_the_fingerprint():
    images = open_dataset("sample", limit=2)
    assert (images.title, len(images), images.subset) == ("sample, first 2", 2, True)
    assert images.fingerprint != open_dataset("sample").fingerprint
    assert open_dataset("sample", limit=99).title == "sample"
    with pytest.raises(TesseraError, match="limit=0"):
        open_dataset("sample", limit=0)


def test_importing_is_light():
    heavy = "{'torch', 'tensorflow_datasets', 'pandas', 'skimage'}"
    code = f"import sys, benchmarks.datasets; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_changed_kodak_file_is_reported_and_left_out(tmp_path):
    folder = tmp_path / "kodak"
    folder.mkdir()
    for i in (1, 2):
        (folder / f"kodim{i:02d}.png").write_bytes((shared("data/kodak") / f"kodim{i:02d}.png").read_bytes())
    (folder / "kodim03.png").write_bytes(encoded(noise(8, 8, 3)))
    images = open_dataset("kodak", root=tmp_path)
    assert [image.name for image in images] == ["kodim01", "kodim02"]
    assert images.subset and images.title == "kodak, first 2, 1 left out"
    assert images.left_out[0].startswith("kodim03 is not the published file")


def test_folder_reports_what_it_leaves_out_and_keeps_the_others(tmp_path):
    good = noise(5, 6, 3)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "good.png").write_bytes(encoded(good))
    (tmp_path / "broken.png").write_bytes(encoded(noise(50, 50, 3))[:-500])
    (tmp_path / "deep.tif").write_bytes(encoded(np.zeros((3, 3), np.uint16), "TIFF"))
    (tmp_path / "notes.txt").write_text("no image")
    images = open_dataset(f"folder:{tmp_path}")
    assert [image.name for image in images] == ["sub-good"]
    assert np.array_equal(images.images[0].read(), good)
    assert (
        len(images.left_out) == 2 and "broken.png is damaged" in images.left_out[0] and "8 bits" in images.left_out[1]
    )
    assert images.title == f"folder {tmp_path.name}, 2 left out" and images.subset


def test_folder_names_are_unique(tmp_path):
    for name in ("a.png", "a.bmp", "b/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(noise(2, 2, 3), name[-3:].upper()))
    assert [image.name for image in open_dataset(f"folder:{tmp_path}")] == ["a.bmp", "a.png", "b-a.png"]
    assert open_dataset(f"folder:{tmp_path}").subset is False


def test_folder_without_images(tmp_path):
    with pytest.raises(MissingData, match=r"no images of folder:.* in .*: a folder of PNG"):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(MissingData, match=r"no image of folder:.* can be used: .*x\.png is not an image"):
        open_dataset(f"folder:{tmp_path}")


def test_checked_moves_refused_images(tmp_path):
    (tmp_path / "ffhq" / "thumbnails128").mkdir(parents=True)
    (tmp_path / "ffhq" / "thumbnails128" / "00000.png").write_bytes(encoded(noise(4, 4, 3)))
    (tmp_path / "ffhq" / "thumbnails128" / "00001.png").write_bytes(b"")
    images = open_dataset("ffhq", root=tmp_path)
    with pytest.raises(ImageError, match=r"00001\.png"):
        images.images[1].read()
    checked = images.checked()
    assert len(checked) == 1 and len(checked.left_out) == 1 and "1 left out" in checked.title


def test_names_are_answered():
    with pytest.raises(UnknownName, match="did you mean kodak"):
        open_dataset("kodac")
    with pytest.raises(UnknownName, match="did you mean mobile_test"):
        open_dataset("clic", split="mobile_tes")
    with pytest.raises(TesseraError, match="must be written as 'folder:PATH'"):
        open_dataset("folder")
    with pytest.raises(TesseraError, match="must be written as 'kodak'"):
        open_dataset("kodak:x")


def test_missing_data_says_where_and_how(tmp_path):
    with pytest.raises(MissingData) as caught:
        open_dataset("kodak", root=tmp_path)
    assert str(caught.value) == (
        f"no images of kodak in {tmp_path}/kodak: run 'python -m experiments.prepare with dataset=kodak', "
        "or set data_root or TESSERA_DATA."
    )


def test_order_of_data_roots(tmp_path, monkeypatch):
    monkeypatch.setenv("TESSERA_DATA", str(tmp_path / "variable"))
    assert data_roots(tmp_path / "argument") == [tmp_path / "argument"]
    assert data_roots() == [tmp_path / "variable"]
    monkeypatch.delenv("TESSERA_DATA")
    assert str(data_roots()[0]) == "data" and len(data_roots()) <= 2


def test_training_sets_refuse_evaluation_splits(tmp_path):
    with pytest.raises(TesseraError, match="sample is for evaluation only"):
        training_set("sample")
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "test_batch.bin").write_bytes(bytes(3073))
    with pytest.raises(TesseraError, match="train on cifar10_train"):
        training_set("cifar10_test", tmp_path)


def test_evaluation_sets_have_no_trainable_split():
    for name in ("kodak", "clic", "imagenet32", "sample"):
        assert not any(split.trainable for split in DATASETS[name].splits.values())
    for facts in DATASETS.values():
        assert not any(s.trainable for split, s in facts.splits.items() if "test" in split or "valid" in split)


def test_training_sets_of_real_data():
    root = shared("data")
    for name, count in (("cifar10", 4000), ("imagenet64_sample", 1000), ("bsds500", 300)):
        assert len(training_set(name, root)) == count
    shapes = {image.read().shape for image in training_set("bsds500_val", root)}
    assert shapes == {(321, 481, 3), (481, 321, 3)}


def test_fingerprints_see_pixels_not_files(tmp_path):
    image = noise(6, 4, 3)
    (tmp_path / "a.png").write_bytes(encoded(image))
    (tmp_path / "b.bmp").write_bytes(encoded(image, "BMP"))
    (tmp_path / "c.png").write_bytes(encoded(noise(6, 4, 3)))
    a, b, c = image_files(tmp_path)
    assert a.sha256() != b.sha256() and fingerprints([a]) == fingerprints([b]) == fingerprints([image])
    assert len(set(fingerprints([a, b, c]))) == 2
    assert fingerprints([image]) != fingerprints([image.reshape(4, 6, 3)])
    assert fingerprints(np.stack([image, image])) == fingerprints([a]) * 2


def test_images_can_be_sent_to_other_processes(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(noise(2, 3, 3)))
    images = open_dataset(f"folder:{tmp_path}")
    assert pickle.loads(pickle.dumps(images)).fingerprint == images.fingerprint


def test_the_worked_example_of_the_page_adds_a_data_set(tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text()
    for name in DATASETS:
        assert f"`{name}" in page
    monkeypatch.setattr(DATASETS, "_items", dict(DATASETS._items))
    exec(page.split("```python\n")[1].split("```")[0], {})
    with pytest.raises(MissingData, match=r"no images of tecnick in .*/tecnick: download the archive"):
        open_dataset("tecnick", root=tmp_path)
    (tmp_path / "tecnick").mkdir()
    (tmp_path / "tecnick" / "a.png").write_bytes(encoded(noise(2, 2, 3)))
    assert open_dataset("tecnick", root=tmp_path).title == "tecnick, 1 of 100 (a)"


def test_celeba_official_partition(tmp_path, monkeypatch):
    from benchmarks.datasets import celeba

    (tmp_path / "celeba").mkdir()
    everything = array_images(np.zeros((202599, 1, 1, 3), np.uint8), "x")
    monkeypatch.setattr(celeba, "zip_images", lambda path: everything)
    test, train = open_dataset("celeba", root=tmp_path), open_dataset("celeba_train", root=tmp_path)
    assert (test.title, test.subset, len(test)) == ("celeba test", False, 19962)
    assert (train.title, train.subset, len(train)) == ("celeba train", False, 162770)
