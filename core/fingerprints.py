"""Fingerprints of a checkpoint's training images: in its ``meta.json``, or where they are many, in a file.

Such a file holds the first 8 bytes of each image's SHA-256, sorted. It is named for its own contents and looked for
beside the weights and one folder above, so that all checkpoints of a data set can share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.atomic import write_bytes
from core.codec import TesseraError

INLINE = 1000  # fingerprints that stay in meta.json
BYTES = 8  # of a digest in a file: 10,000 new images among 60,000 meet by chance once in 30 billion times


class FingerprintError(TesseraError):
    """A file of fingerprints that is missing or damaged: what the weights were trained on cannot be told."""


def stored(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What ``meta.json`` says of ``data``: many 'fingerprints' (hex) go to a file in ``folder``, which it names."""
    digests = data.get("fingerprints", ())
    if isinstance(digests, Mapping) or len(digests) <= INLINE:
        return dict(data)
    content = b"".join(sorted(bytes.fromhex(digest)[:BYTES] for digest in digests))
    whole = hashlib.sha256(content).hexdigest()
    path = folder / f"{whole[:16]}.fingerprints"
    write_bytes(path, content)
    return {**data, "fingerprints": {"file": path.name, "sha256": whole, "images": len(digests)}}


def read(data: Mapping[str, Any], folder: Path) -> frozenset[str]:
    """Fingerprints (hex, whole or their first 8 bytes) of the training images of weights that are in ``folder``.

    Raises ``FingerprintError`` where they are in a file that is not there, or not as it was written.
    """
    noted = data.get("fingerprints", ())
    if not isinstance(noted, Mapping):
        return frozenset(noted)
    name = Path(str(noted["file"])).name
    found = [path for path in (folder / name, *(above / name for above in [*folder.parents][:2])) if path.is_file()]
    if not found:
        raise FingerprintError(
            f"{folder / name}, which tells training images from others, is missing: copy it beside the weights."
        )
    content = found[0].read_bytes()
    if hashlib.sha256(content).hexdigest() != noted["sha256"]:
        raise FingerprintError(f"{found[0]} is damaged (SHA-256 differs): fetch it again.")
    return frozenset(content[i : i + BYTES].hex() for i in range(0, len(content), BYTES))
