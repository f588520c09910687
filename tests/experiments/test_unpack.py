"""Archives are unpacked flat and whole, or not at all."""

from __future__ import annotations

import pytest

from experiments.prepare import PrepareError, unpack
from tests.support.mirror import tar_of, zip_of

FILES = {"valid/a.png": b"A", "valid/b.png": bytes(9000), "__MACOSX/valid/._a.png": b"fork", "valid/notes.txt": b"text"}


def leftovers(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


@pytest.mark.parametrize("pack", [zip_of, lambda **f: tar_of("w:gz", **f), lambda **f: tar_of("w", **f)])
def test_archives_are_unpacked_flat(tmp_path, pack):
    (tmp_path / "x.bin").write_bytes(pack(**FILES))
    unpack(tmp_path / "x.bin", "valid/*.png", tmp_path / "out")
    assert leftovers(tmp_path) == ["out/a.png", "out/b.png", "x.bin"]
    assert (tmp_path / "out" / "b.png").read_bytes() == FILES["valid/b.png"]


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "valid/../../evil.png", "..\\evil.png"])
@pytest.mark.parametrize("pack", [zip_of, lambda **f: tar_of("w", **f)])
def test_unsafe_paths_are_refused(tmp_path, name, pack):
    (tmp_path / "x.zip").write_bytes(pack(**{"valid/a.png": b"1", name: b"2"}))
    with pytest.raises(PrepareError, match="unsafe path"):
        unpack(tmp_path / "x.zip", "*.png", tmp_path / "out")
    assert leftovers(tmp_path) == ["x.zip"]


@pytest.mark.parametrize(
    "data,words",
    [
        (zip_of(**{"a/x.png": b"1", "b/x.png": b"2"}), "two files called x.png"),
        (zip_of(**{"a/x.txt": b"1"}), r"no file like '\*\.png'"),
        (b"neither", "damaged"),
        (tar_of("w:gz", **FILES)[:-3000], "damaged"),
    ],
)
def test_bad_archives_leave_nothing(tmp_path, data, words):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(PrepareError, match=words):
        unpack(tmp_path / "x.bin", "*.png", tmp_path / "out")
    assert leftovers(tmp_path) == ["x.bin"]
