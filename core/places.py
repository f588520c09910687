"""Places of results: what the repository ships is only read, what is measured here goes to a folder of the user's own.

The user's folder is ``results/local``, or what the environment variable ``TESSERA_RESULTS`` names. Without
``results=DIR`` commands write there and read both, the user's first. Any other folder is read alone: so is ``results``
itself, the shipped one. Only the standard library is imported: the Snakefile needs these names, too.
"""

from __future__ import annotations

import os
from pathlib import Path

SHIPPED = Path("results")  # of the checkout that commands run in
VARIABLE = "TESSERA_RESULTS"


def default_results() -> str:
    """The user's own folder of results, which ``results=DIR`` replaces."""
    return os.environ.get(VARIABLE) or str(SHIPPED / "local")


def roots(results: str | Path) -> tuple[Path, ...]:
    """The folders that are read as these results, the one that is written first."""
    own, usual = Path(results), Path(default_results())
    return (own, SHIPPED) if own.absolute() == usual.absolute() != SHIPPED.absolute() else (own,)


def find(path: Path, results: str | Path) -> Path:
    """Where a file is that would be written as ``path`` below ``results``: there, or shipped; ``path`` if nowhere."""
    name = path.relative_to(results)
    return next((root / name for root in roots(results) if (root / name).exists()), path)


def listed(results: str | Path, pattern: str) -> list[Path]:
    """Files that match a pattern below the results, sorted by their names; of equal names the user's own."""
    found = {path.relative_to(root): path for root in reversed(roots(results)) for path in root.glob(pattern)}
    return [found[name] for name in sorted(found)]
