"""Fingerprints of many training images: one small file that checkpoints share, and which still stops leaks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.datasets import open_dataset
from benchmarks.measure.harness import LeakError, refuse_leaks
from core import checkpoint, fingerprints
from core.checkpoint import Weights
from core.fingerprints import BYTES, INLINE, FingerprintError
from core.images import save_image

MANY = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(INLINE + 500)]


def saved(folder: Path, digests: list[str]) -> Weights:
    return checkpoint.save(folder, nn.Linear(2, 2), {"method": "m", "data": {"names": ["d"], "fingerprints": digests}})


def test_few_stay_in_meta_json(tmp_path: Path) -> None:
    weights = saved(tmp_path, MANY[:INLINE])
    assert json.loads((tmp_path / "meta.json").read_text())["data"]["fingerprints"] == MANY[:INLINE]
    assert checkpoint.seen(weights) == frozenset(MANY[:INLINE]) and not list(tmp_path.glob("*.fingerprints"))
    assert checkpoint.seen(Weights(tmp_path / "w.pt", "w", "path")) == frozenset(), "weights that say nothing"


def test_many_go_to_one_small_file_that_checkpoints_share(tmp_path: Path) -> None:
    first, second = (saved(tmp_path / name, MANY) for name in "ab")
    (stored,) = (tmp_path / "a").glob("*.fingerprints")
    assert stored.stat().st_size == BYTES * len(MANY) and (tmp_path / "a" / "meta.json").stat().st_size < 1000
    assert first.meta["data"]["fingerprints"] == second.meta["data"]["fingerprints"]
    for found in tmp_path.glob("?/*.fingerprints"):
        found.replace(tmp_path / found.name)  # from both folders to the one above
    assert checkpoint.seen(first) == checkpoint.seen(second) == {digest[: 2 * BYTES] for digest in MANY}
    assert list(tmp_path.rglob(".part-*")) == []


def test_a_missing_or_damaged_file_is_not_taken_for_no_training_images(tmp_path: Path) -> None:
    weights = saved(tmp_path / "run", MANY)
    (stored,) = (tmp_path / "run").glob("*.fingerprints")
    stored.write_bytes(stored.read_bytes()[:-BYTES])
    with pytest.raises(FingerprintError, match="damaged"):
        checkpoint.seen(weights)
    stored.unlink()
    with pytest.raises(FingerprintError, match="missing: copy it"):
        checkpoint.seen(weights)


def test_names_cannot_lead_out_of_the_folders(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"12345678")
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    noted = {"file": "../../../secret", "sha256": hashlib.sha256(b"12345678").hexdigest(), "images": 1}
    with pytest.raises(FingerprintError, match="missing"):
        fingerprints.read({"fingerprints": noted}, tmp_path / "a" / "b" / "c")


def test_short_and_whole_fingerprints_stop_leaks(tmp_path: Path) -> None:
    for name in range(3):
        save_image(tmp_path / f"{name}.png", np.full((4, 4, 3), name, np.uint8))
    images = open_dataset(f"folder:{tmp_path}")
    from benchmarks.datasets import fingerprints as digests

    one = digests([images.images[1]])
    for seen in (one, [one[0][: 2 * BYTES]], [one[0][: 2 * BYTES], *MANY]):
        with pytest.raises(LeakError, match="1 of 3 images"):
            refuse_leaks(images, seen)
    refuse_leaks(images, [digest[: 2 * BYTES] for digest in MANY])


def test_floats_beyond_float16_are_stored_whole(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, 1e5)
    state = checkpoint.read(checkpoint.save(tmp_path, model, {"method": "m"}, half=True).path)
    assert state["weight"].dtype == torch.float32 and state["bias"].dtype == torch.float16
    assert bool(torch.isfinite(state["weight"]).all())
