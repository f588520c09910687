"""experiments.prepare against a local server that answers rightly, wrongly, in part, slowly or not at all."""

from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow

from benchmarks.datasets import DATASETS, Dataset, Download, Found, MissingData, Split
from benchmarks.datasets.files import image_files
from core import checkpoint, download
from core.codec import TesseraError
from core.download import DownloadError
from experiments.prepare import PrepareError, catalogue, main, prepare
from tests.support.mirror import local_server, tar_of, zip_of
from tests.support.shared import shared

RNG = np.random.default_rng(5)


def png(side=180):
    file = io.BytesIO()
    pillow.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


PICTURE = png(400)  # about 480 kB: several chunks of a download


@pytest.fixture
def server():
    with local_server() as http:
        yield http


@pytest.fixture
def dots(monkeypatch):
    """A registered data set of one picture, kept as the file it is."""
    return register(monkeypatch, Download("http://gone.invalid/dot.png", sha(PICTURE), len(PICTURE)))


def register(monkeypatch, *files, count=1, fingerprint=""):
    def find(folder: Path, split: str) -> Found | None:
        images = image_files(folder)
        return Found(images) if images else None

    facts = Dataset("dots", find, {"test": Split(count, fingerprint=fingerprint)}, "free", ("test",), "dots", files)
    monkeypatch.setattr(DATASETS, "_items", {**DATASETS._items, "dots": facts})
    return facts


def sha(data):
    return hashlib.sha256(data).hexdigest()


def leftovers(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_right_answer_then_nothing_to_do(server, dots, tmp_path):
    server.files["dot.png"] = PICTURE
    images = prepare("dots", tmp_path, url=f"{server.url}/")
    assert images.title == "dots" and images.images[0].data() == PICTURE
    assert leftovers(tmp_path) == ["dots/dot.png"]
    prepare("dots", tmp_path, url=server.url)
    assert len(server.requests) == 1


def test_wrong_checksum_keeps_nothing(server, dots, tmp_path):
    server.files["dot.png"] = PICTURE[:-1] + b"x"
    with pytest.raises(DownloadError, match=r"dot\.png has another SHA-256 .* was deleted: run this again"):
        prepare("dots", tmp_path, url=server.url)
    assert leftovers(tmp_path) == []


def test_wrong_size_is_refused_before_the_download(server, dots, tmp_path):
    server.files["dot.png"] = b"<html>moved</html>"
    with pytest.raises(DownloadError, match=rf"offers 18 bytes, not {len(PICTURE)}: give a mirror"):
        prepare("dots", tmp_path, url=server.url)
    assert leftovers(tmp_path) == []


def test_truncated_answer_is_resumed_in_the_same_run(server, dots, tmp_path):
    server.files["dot.png"], server.faults = PICTURE, ["cut"]
    assert prepare("dots", tmp_path, url=server.url).images[0].data() == PICTURE
    (_, first), (_, second) = server.requests
    assert first is None and 0 < int(second[6:-1]) <= len(PICTURE) // 2


def test_truncated_every_time_then_resumed_by_the_next_run(server, dots, tmp_path):
    server.files["dot.png"], server.faults = PICTURE, ["cut"] * download.ATTEMPTS
    with pytest.raises(
        DownloadError, match=r"stopped after \d+ bytes \(cut off\): run this again to resume, or .*manual"
    ):
        prepare("dots", tmp_path, url=server.url)
    assert leftovers(tmp_path) == ["downloads/dot.png.part"]
    have = (tmp_path / "downloads" / "dot.png.part").stat().st_size
    assert have > 0 and PICTURE.startswith((tmp_path / "downloads" / "dot.png.part").read_bytes())
    prepare("dots", tmp_path, url=server.url)
    assert server.requests[-1][1] == f"bytes={have}-"
    assert leftovers(tmp_path) == ["dots/dot.png"]


def test_server_without_resume_starts_again(server, dots, tmp_path):
    server.files["dot.png"], server.faults = PICTURE, ["cut", "no resume"]
    assert prepare("dots", tmp_path, url=server.url).images[0].data() == PICTURE


def test_complete_part_needs_only_to_be_verified(server, dots, tmp_path):
    server.files["dot.png"] = PICTURE
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "dot.png.part").write_bytes(PICTURE)
    prepare("dots", tmp_path, url=server.url)
    assert leftovers(tmp_path) == ["dots/dot.png"]


def test_part_longer_than_the_file_is_dropped(server, dots, tmp_path):
    server.files["dot.png"] = PICTURE
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "dot.png.part").write_bytes(PICTURE + b"more")
    prepare("dots", tmp_path, url=server.url)
    assert leftovers(tmp_path) == ["dots/dot.png"]


def test_stalled_answer_gives_up(server, dots, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.files["dot.png"], server.faults = PICTURE, ["stall"]
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"stopped after \d+ bytes \(no data for 0\.2 s\): run this again"):
        prepare("dots", tmp_path, url=server.url, read_s=0.2)
    assert time.monotonic() - started < 1.2


def test_slow_but_steady_answer_is_awaited_with_lines(server, dots, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "LINE_EVERY_S", 0.15)
    server.files["dot.png"], server.faults = PICTURE, ["slow"]
    prepare("dots", tmp_path, url=server.url, read_s=5)
    lines = [line for line in capsys.readouterr().out.splitlines() if " MB of 0.5 MB" in line]
    assert len(lines) >= 2 and lines[0].startswith("dot.png: 0.")


def test_missing_file_and_no_server(server, dots, tmp_path):
    with pytest.raises(
        DownloadError, match=r"answered 404 Not Found: give a mirror with url=\.\.\., or .*manual/dot\.png"
    ):
        prepare("dots", tmp_path, url=server.url)
    with pytest.raises(DownloadError, match=r"cannot be reached: check the network, or download it by hand to"):
        prepare("dots", tmp_path, url="http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="correct the URL"):
        prepare("dots", tmp_path, url="no-url")


def test_manual_file_is_verified_and_kept(dots, tmp_path):
    manual = tmp_path / "downloads" / "manual" / "dot.png"
    manual.parent.mkdir(parents=True)
    manual.write_bytes(PICTURE[:-1] + b"x")
    with pytest.raises(DownloadError, match=r"manual/dot\.png has another SHA-256 .*replace it"):
        prepare("dots", tmp_path)
    manual.write_bytes(PICTURE)
    assert prepare("dots", tmp_path).images[0].data() == PICTURE
    assert leftovers(tmp_path) == ["dots/dot.png", "downloads/manual/dot.png"]


def test_one_hash_verifies_a_set_whose_archive_has_none(server, tmp_path, monkeypatch):
    archive = Download("http://x.invalid/all.zip", members="*.png")
    server.files["all.zip"] = zip_of(**{"a.png": PICTURE})
    published = sha(f"{sha(PICTURE)}  a\n".encode())
    register(monkeypatch, archive, fingerprint=published)
    assert prepare("dots", tmp_path / "good", url=server.url).fingerprint == published
    server.files["all.zip"] = zip_of(**{"a.png": png()})
    with pytest.raises(PrepareError, match="are not the published ones"):
        prepare("dots", tmp_path / "bad", url=server.url)
    register(monkeypatch, archive, count=2)
    with pytest.raises(PrepareError, match="has 1 images of dots test, not 2"):
        prepare("dots", tmp_path / "few", url=server.url)


def test_cifar_archive_becomes_the_layout_its_loader_reads(server, tmp_path, monkeypatch):
    """The official archive cannot be had in a test: same layout, other samples, no digest."""
    batch = bytes(10000 * 3073)
    server.files["cifar-10-binary.tar.gz"] = tar_of("w:gz", **{"cifar-10-batches-bin/test_batch.bin": batch})
    facts = DATASETS["cifar10"]
    anonymous = tuple(Download(d.url, members=d.members) for d in facts.downloads)
    changed = Dataset(facts.name, facts.find, facts.splits, facts.license, ("test",), facts.folder, anonymous)
    monkeypatch.setattr(DATASETS, "_items", {**DATASETS._items, "cifar10": changed})
    images = prepare("cifar10", tmp_path, url=server.url)
    assert images.title == "cifar10 test" and len(images) == 10000
    assert leftovers(tmp_path) == ["cifar10/test_batch.bin"]


@pytest.mark.parametrize("name,files", [("kodak", 24), ("fashion_mnist", 1)])
def test_the_published_files_from_a_mirror(server, tmp_path, name, files):
    for file in DATASETS[name].downloads:
        server.files[file.file] = (shared(f"data/{name}") / file.file).read_bytes()
    images = prepare(name, tmp_path, url=server.url)
    assert not images.subset and not images.left_out
    assert len(server.requests) == len(leftovers(tmp_path)) == files


@pytest.mark.parametrize("name", ["celeba", "clic_assorted", "imagenet32_sample"])
def test_what_no_program_can_fetch_is_explained(tmp_path, name):
    with pytest.raises(PrepareError, match=r"manual/img_align_celeba\.zip|cannot be downloaded"):
        prepare(name, tmp_path)


@pytest.mark.parametrize("name", ["ffhq", "imagenet64_sample", "tfds:none", "folder:/nowhere"])
def test_sets_without_a_download_say_how_they_come_about(tmp_path, name):
    with pytest.raises(MissingData, match="no images of"):
        prepare(name, tmp_path)


def test_command_line(server, dots, tmp_path, capsys):
    server.files["dot.png"] = PICTURE
    tokens = ["with", "dataset=dots,sample", f"data_root={tmp_path}", f"url={server.url}", "read_s=5"]
    assert main(tokens) == 0
    out = capsys.readouterr().out
    assert "dots: 1 images ready. Terms: free." in out and "sample: 5 images ready" in out


@pytest.mark.parametrize(
    "tokens,words",
    [
        (["with", "dataset=kodac"], "did you mean kodak"),
        (["with", "data_rot=x"], "did you mean data_root"),
        (["with", "kodak"], "is not key=value"),
        (["with", "dataset=kodak", "read_s=soon"], "soon"),
        (["with", "dataset=clic", "split=mobile_tst"], "did you mean mobile_test"),
        (["with", "dataset=ffhq", "data_root=/nowhere"], "download_ffhq.py"),
    ],
)
def test_command_line_mistakes_are_one_sentence_and_exit_code_2(tokens, words, capsys):
    assert main(tokens) == 2
    streams = capsys.readouterr()
    assert words in streams.err and streams.err.count("\n") == 1 and "Traceback" not in streams.err


def test_unwritable_root(dots, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    assert main(["with", "dataset=dots", f"data_root={tmp_path / 'file'}"]) == 2
    assert "choose another place" in capsys.readouterr().err


def test_catalogue_names_every_set(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"{catalogue()}\n") and "with dataset=kodak" in out
    for name, facts in DATASETS.items():
        assert name in out and facts.license in out


def test_official_downloads_are_complete():
    """Every official archive has a digest but two, which a hash over the set or a count covers."""
    for facts in DATASETS.values():
        for file in facts.downloads:
            assert file.url.startswith("http") and file.file
            if file.file not in ("bsds500.zip", "image_test_30.zip"):
                assert len(file.sha256) == 64, file.url
    assert DATASETS["kodak"].downloads[23].file == "kodim24.png"


def test_official_weights_of_a_method(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(checkpoint, "_fetch", lambda url, *_: asked.append(url) or (_ for _ in ()).throw(StopHere()))
    assert main(["with", "weights=qres34m"]) == 2
    assert asked == [u for u, _ in checkpoint.official("qres34m")][:1] and "stopped" in capsys.readouterr().err
    assert main(["with", "weights=jpeg"]) == 2
    assert "no official weights of jpeg are published; there are some of" in capsys.readouterr().err
    assert [path.suffix for _, path in checkpoint.official("qres34m", [16, 64])] == [".pt", ".pt"]


class StopHere(TesseraError):
    """A download that is not made."""

    def __init__(self) -> None:
        super().__init__("stopped")
