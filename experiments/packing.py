"""One file that trains elsewhere: program and pictures in a zip archive that Python runs, and weights in small pieces.

The archive holds the packages that training needs, the pictures as their files are, and ``index.json``: what was
packed, from which commit, with the fingerprint of every picture, so that the weights can tell what they have seen.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image as pillow

from core import atomic
from core.codec import Image, TesseraError
from core.images import ImageError, as_rgb, decode_image

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ("core/**/*.py", "qres/*.py", "experiments/__init__.py", "experiments/studies/__init__.py",
           "experiments/studies/gpu_training/*.py", "experiments/packing.py",
           "experiments/training_log.py", "experiments/validation.py")  # fmt: skip
MAIN = "import sys\nfrom experiments.studies.gpu_training import main\nsys.exit(main())\n"
SETS = {"valid": ("photos_valid", 0.1), "lossless_pictures": ("lossless_pictures", 0.25), "photos": ("photos", 1.0)}
# what is packed, in this order, and the share of the room that is left which each may take
PIECE = 15_000_000  # bytes


def pack(path: Path, megabytes: float, data_root: str | None = None) -> dict[str, Any]:
    """Write the archive, with pictures of at most ``megabytes``; returns its index without the fingerprints."""
    from benchmarks.datasets import fingerprints, open_dataset
    from benchmarks.measure.provenance import git_state

    commit, dirty = git_state()
    index: dict[str, Any] = {"commit": commit, "dirty": dirty, "sets": {}}
    files: dict[str, bytes] = {}
    for name, (source, share) in SETS.items():
        images = open_dataset(source, root=data_root)
        room = share * (megabytes * 1e6 - sum(map(len, files.values())))
        chosen = {}
        for image in sorted(images, key=lambda i: hashlib.sha256(i.name.encode()).digest()):
            data = _file(image)
            digest = hashlib.sha256(data).hexdigest()
            cost = 0 if digest in files else len(data)
            if cost <= room:
                room -= cost
                chosen[digest], files[digest] = image, data
        digests = fingerprints([image.read() for image in chosen.values()])
        index["sets"][name] = {
            "name": images.name,
            "title": f"{images.title}, {len(chosen)} of them",
            "license": images.license,
            "files": list(chosen),
            "fingerprint": hashlib.sha256("".join(digests).encode()).hexdigest(),
            "fingerprints": digests,
        }
    with atomic.writing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for pattern in PROGRAM:
            for file in sorted(ROOT.glob(pattern)):
                archive.writestr(file.relative_to(ROOT).as_posix(), file.read_bytes())
        archive.writestr("__main__.py", MAIN)
        archive.writestr("index.json", json.dumps(index))
        for digest, data in files.items():
            archive.writestr(f"pictures/{digest}", data)
    return {name: {k: entry[k] for k in ("title", "license")} for name, entry in index["sets"].items()}


def _file(image: Any) -> bytes:
    """The file of an image as it is, or a PNG of one that lies in an array."""
    data: bytes = image.data()
    try:
        decode_image(data, image.name)
        return data
    except ImageError:
        file = io.BytesIO()
        pillow.fromarray(as_rgb(image.read())).save(file, "PNG", optimize=True)
        return file.getvalue()


def index_of(archive: Path) -> dict[str, Any]:
    """What is in an archive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            found: dict[str, Any] = json.loads(opened.read("index.json"))
            return found
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise TesseraError(f"{archive} is not an archive of 'pack' ({error}): pack it again.") from None


def pictures(archive: Path, files: Sequence[str]) -> list[Image]:
    """The pictures of an archive as RGB; those that cannot be decoded here are left out, with a sentence."""
    with zipfile.ZipFile(archive) as opened:
        stored = [opened.read(f"pictures/{name}") for name in files]

    def read(data: bytes) -> Image | None:
        try:
            return as_rgb(decode_image(data, "packed picture"))
        except ImageError:
            return None

    with ThreadPoolExecutor() as pool:
        found = [image for image in pool.map(read, stored) if image is not None]
    if len(found) < len(files):
        print(
            f"{len(files) - len(found)} of {len(files)} pictures cannot be decoded here (Pillow reads AVIF from 11.3)."
        )
    if not found:
        raise TesseraError("no packed picture can be decoded here: install a newer Pillow, or pack other pictures.")
    return found


def split(folder: Path, name: str, output: Path, which: range | None = None) -> list[Path]:
    """Write the files of a folder as pieces of at most 15 MB, and what they are into ``name.json``.

    ``which`` chooses pieces, where not all can be taken along at once. The same folder gives the same pieces.
    """
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            entry = tarfile.TarInfo(file.name)
            entry.size = file.stat().st_size
            with file.open("rb") as handle:
                archive.addfile(entry, handle)
    data = whole.getvalue()
    parts = {f"{name}.{i:03d}": data[i * PIECE : (i + 1) * PIECE] for i in range(-(-len(data) // PIECE))}
    output.mkdir(parents=True, exist_ok=True)
    listed = [{"file": part, "sha256": hashlib.sha256(content).hexdigest()} for part, content in parts.items()]
    atomic.write_text(output / f"{name}.json", json.dumps({"pieces": listed}, indent=1) + "\n")
    written = [output / f"{name}.json"]
    for i, (part, content) in enumerate(parts.items()):
        if which is None or i in which:
            atomic.write_bytes(output / part, content)
            written.append(output / part)
    return written


def join(pieces: Path, output: Path) -> list[Path]:
    """Put together what ``split`` wrote into a folder, each run in a folder of its own below ``output``.

    Raises ``TesseraError`` for a piece that is missing or damaged; nothing is written then.
    """
    lists = sorted(pieces.glob("*.json"))
    if not lists:
        raise TesseraError(f"{pieces} holds no pieces: give the folder that 'export' filled.")
    return [_joined(path, output / path.stem) for path in lists]


def _joined(listed: Path, folder: Path) -> Path:
    data = b"".join(_verified(listed.parent, json.loads(listed.read_text())["pieces"]))
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive.getmembers():
            content = archive.extractfile(entry)
            if content is not None:
                atomic.write_bytes(folder / Path(entry.name).name, content.read())
    return folder


def _verified(folder: Path, pieces: Sequence[Mapping[str, str]]) -> Iterator[bytes]:
    for piece in pieces:
        path = folder / Path(piece["file"]).name
        if not path.is_file():
            raise TesseraError(f"{path} is missing: export it again.")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != piece["sha256"]:
            raise TesseraError(f"{path} is damaged (SHA-256 differs): export it again.")
        yield content
