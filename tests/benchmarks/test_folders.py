"""Sets of files as people have them: links, pipes, refused and converted pictures, cut LMDB and array_record."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image as pillow

from benchmarks.datasets import DataError, converted_name, files, lmdb_images, open_dataset, tfds
from benchmarks.store import Store
from core.atomic import sha256
from core.codec import TesseraError
from core.images import save_image

ROOT = Path(__file__).resolve().parents[2]
RD = "benchmarks/rd_curve.py"


def picture(path: Path, channels: int = 3, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.fromarray(samples).save(path)
    return samples


# Links


def test_linked_folders_are_followed_and_loops_are_not(tmp_path):
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "elsewhere" / "deep" / "b.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "file.png").symlink_to(tmp_path / "elsewhere" / "deep" / "b.png")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "in")
    images = open_dataset(f"folder:{tmp_path / 'in'}")
    assert [image.name for image in images] == ["a", "file", "linked-deep-b"] and not images.left_out


def test_what_is_no_file_is_counted(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    images = open_dataset(f"folder:{tmp_path}")
    assert [image.name for image in images] == ["a"]
    assert images.title == f"folder {tmp_path.name}, 2 left out"
    assert [s.removeprefix(f"{tmp_path}/") for s in images.left_out] == [
        "gone.png is a link to nothing; mend or remove it.",
        "pipe.png is not a regular file; remove it.",
    ]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    entries = Path.iterdir

    def iterdir(path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DataError, match=r"locked cannot be read \(Permission denied\); make it readable or move it\."):
        open_dataset(f"folder:{tmp_path}")


def test_a_link_to_nothing_in_a_verified_set_is_left_out(tmp_path):
    images = (files.file_image(tmp_path / "a.png", "a"),)
    (tmp_path / "a.png").symlink_to(tmp_path / "nothing")
    found = files.verified(images, {"a": "0" * 64})
    assert not found.images and "a.png is a link to nothing" in found.left_out[0]


# Limits


def test_a_limit_of_all_images_is_none(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png", seed=i)
    name = f"folder:{tmp_path}"
    assert [open_dataset(name, limit).limit for limit in (None, 2, 3, 99)] == [None, 2, None, None]


def test_a_limit_of_all_images_is_the_same_cell(command, tmp_path):
    picture(tmp_path / "one" / "a.png")
    for words in ((), ("limit=99",), ("limit=1",)):
        assert command(RD, "with", "method=jpeg", "dataset=folder:one", "points=50,50", *words).code == 0
    (result,) = Store("results").cells()
    assert result.cell.limit is None


# Conversions


def test_conversions_are_part_of_the_name_and_of_the_title(tmp_path):
    image = picture(tmp_path / "clear.png", 4)
    with pytest.raises(TesseraError, match=r"no image of .* can be used: .*clear\.png has transparent pixels"):
        open_dataset(f"folder:{tmp_path}")
    name = f"folder:{tmp_path}+depth=8+alpha=black"
    images = open_dataset(name)
    assert images.name == f"folder:{tmp_path}+alpha=black+depth=8" and not images.left_out
    assert images.title == f"folder {tmp_path.name}, alpha=black, depth=8"
    colours, opacity = image[..., :3].astype(int), image[..., 3:].astype(int)
    assert np.array_equal(images.images[0].read(), (2 * colours * opacity + 255) // 510)
    assert converted_name(f"folder:{tmp_path}", "black", 8) == images.name == converted_name(name)
    assert converted_name("kodak") == "kodak"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("folder:x+alpha=red", "alpha=red must be white or black"),
        ("folder:x+alpha=", "alpha= must be white or black"),
        ("folder:x+depth=16", "depth=16 must be 8"),
        ("kodak+alpha=white", "kodak is measured as it is stored: alpha=white are for folder:"),
    ],
)
def test_wrong_conversions_are_sentences(name, sentence):
    with pytest.raises(TesseraError, match=sentence):
        open_dataset(name)


def test_converted_sets_have_cells_of_their_own(command, tmp_path):
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.png", 4)
    words = (RD, "with", "method=jpeg", "dataset=folder:in", "points=50")
    plain, white, black = command(*words), command(*words, "alpha=white"), command(*words, "alpha=black", "depth=8")
    assert plain.code == 1 and plain.err.startswith("left out: 1 of 2 pictures of folder:in: ")
    assert (white.code, black.code) == (0, 0) and not white.err
    cells = {r.cell.dataset: (r.count, r.about["title"]) for r in Store("results").cells()}
    assert cells == {
        "folder:in": (1, "folder in, 1 left out"),
        "folder:in+alpha=white": (2, "folder in, alpha=white"),
        "folder:in+alpha=black+depth=8": (2, "folder in, alpha=black, depth=8"),
    }
    assert not [path for path in Path("results").rglob("*") if "broken" in path.name]


# LMDB


OPEN = """
import sys
from benchmarks.datasets import open_dataset
from core.codec import TesseraError
try:
    print(len(open_dataset(sys.argv[1], root=sys.argv[2])), "images")
except TesseraError as error:
    print("sentence:", error)
"""


def opened(name: str, root: Path = ROOT) -> str:
    """What a process of its own says when it opens a set, which may end it with a signal."""
    code = [sys.executable, "-c", OPEN, name, str(root)]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    """An LMDB data set of four pictures of noise."""
    folder = tmp_path_factory.mktemp("lmdb")
    noise = np.random.default_rng(0).integers(0, 256, (4, 90, 90, 3), dtype=np.uint8)
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for number, image in enumerate(noise):
            save_image(folder / "x.png", image)
            transaction.put(lmdb_images.key(number), (folder / "x.png").read_bytes())
    (folder / "x.png").unlink()
    (folder / "lock.mdb").unlink()
    about = {"length": 4, "hash": sha256(folder / "data.mdb")}
    (folder / "metadata.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("part", [1.0, 0.9, 0.5, 0.1, 0.0])
def test_a_cut_lmdb_is_a_sentence(database, tmp_path, part, hashed):
    folder = tmp_path / "copy"
    shutil.copytree(database, folder)
    data = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(data[: int(part * len(data))])
    if not hashed:
        (folder / "metadata.json").write_text(json.dumps({"length": 4}))
    said = opened(f"lmdb:{folder}")
    if part == 1:
        assert said == "4 images"
    else:
        assert said.startswith(f"sentence: {folder}") and "build" in said


def test_a_damaged_lmdb_is_a_sentence(database, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(database, folder)
    data = bytearray((folder / "data.mdb").read_bytes())
    data[3 * 4096 : 3 * 4096 + 64] = b"\xff" * 64
    (folder / "data.mdb").write_bytes(data)
    assert "is cut or damaged, its SHA-256 differs: build the data set again" in opened(f"lmdb:{folder}")


def test_building_on_a_cut_lmdb_is_refused(database, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(database, folder)
    data = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(data[: len(data) // 2])
    with (
        lmdb.open(str(folder), map_size=2**24, readonly=True, lock=False) as environment,
        pytest.raises(DataError, match=r"has \d+ bytes of \d+: delete .* and build the data set again"),
    ):
        lmdb_images.refuse_cut(environment, folder)


# array_record


class Source:
    """A reader as of tensorflow-datasets, of records that may raise."""

    def __init__(self, *records: object) -> None:
        self.records = records

    def __getitem__(self, index: int) -> object:
        record = self.records[index]
        if isinstance(record, Exception):
            raise record
        return record


def test_a_damaged_record_is_a_sentence():
    error = RuntimeError("Corrupted Riegeli/records file:\n chunk data hash mismatch.")
    with pytest.raises(
        DataError, match=r"^test image 0 is damaged \(Corrupted .* mismatch\); prepare the data set again"
    ):
        tfds._stored("test image 0", Source(error), 0)
    with pytest.raises(DataError, match="have no 'image'"):
        tfds._stored("test image 0", Source({"label": 3}), 0)
    deep = tfds._stored("x", Source({"image": np.full((2, 2, 3), 513, np.uint16)}), 0)
    with pytest.raises(TesseraError, match="x has more than 8 bits a sample"):
        tfds._image("x", deep)
