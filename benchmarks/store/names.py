"""Names of files that follow from what is in them: curves, sets of images, any text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

LONGEST = 120  # characters of a file name without suffix


def slug(text: str) -> str:
    """Text as a part of a file name: letters, digits, dots, dashes and plus; anything else becomes one underscore."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_.") or "unnamed"


def slugs(texts: Sequence[str]) -> list[str]:
    """The slug of each text, with a hash where another one has the same."""
    known = [slug(text) for text in texts]
    return [f"{s}-{_hash(text)}" if known.count(s) > 1 else s for s, text in zip(known, texts, strict=True)]


def label_name(label: str) -> str:
    """A curve's label as a part of a file name; where parameters are in it, its hash tells it from one like it."""
    return f"{slug(label)}-{_hash(label)}" if "(" in label else slug(label)


def set_name(dataset: str, title: str, pictures: str = "") -> str:
    """A set of images as a part of a file name: its title, and a hash where other sets may bear the same title."""
    sure = ":" not in dataset and not re.search(r"\d of \d|, \d+ \w* ?images|left out|\(", title.removeprefix(dataset))
    return slug(title) if sure else f"{slug(title)}-{_hash(f'{dataset} {pictures or title}')}"


def stem_of(text: str) -> str:
    """A file name without suffix, cut between words where it is too long for some systems; a hash says the rest."""
    if len(text) <= LONGEST:
        return text
    most = LONGEST - 7
    kept = re.match(rf".{{1,{most}}}(?=\+)", text) or re.match(rf".{{1,{most}}}(?=_)", text)
    return f"{kept[0] if kept else text[:most]}-{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def file_name(name: str) -> str:
    """``name`` as a single portable path component; a changed name carries a hash, so that names stay distinct."""
    safe = re.sub(r"[^\w.+=-]", "_", name)
    if safe == name and not name.startswith("."):
        return name
    return f"{safe.lstrip('.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
