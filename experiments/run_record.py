"""Record of a run folder: method, parameters, data and recipe, so that nothing else is trained on in it.

``run.json`` is written before the first step. Another command in the same folder would go on from weights that have
seen other images, which no checkpoint would then tell of; it is refused, naming what differs. What may differ is how
and where it runs, and ``steps``, which may grow: a run that is trained further is still the same run. Its
``meta.json`` then lists the lengths it had before, as a schedule that falls towards the end had another end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.store.cell import plain
from core import atomic, fingerprints, parallel
from core.checkpoint import Weights
from core.codec import Method, TesseraError
from core.given import read_json

NAME = "run.json"
SEEN = "seen"  # what the weights have been trained on so far, as meta.json will say it
FREE = ("method", "params", "dataset", "steps", "device", "threads", "folder", "half", "log_every", "save_every",
        "validation", "results", "data_root", "init")  # fmt: skip
# method, params, dataset and init are noted below, as what they stand for


def default_folder(method: Method, params: Mapping[str, Any], seed: int) -> Path:
    """Where a run goes that is told no folder: each method, point, set of parameters (those given) and seed apart."""
    point = [] if method.curve is None or method.variable_rate else [method.point]
    more = [f"{name}={_brief(value)}" for name, value in sorted(params.items()) if name != method.curve]
    return Path("runs") / "-".join(map(str, [method.name, *point, *more, f"seed{seed}"]))


def _brief(value: Any) -> str:
    text = "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return re.sub(r"[^\w.+=-]", "_", text)


def facts(
    method: Method, config: Mapping[str, Any], data: Mapping[str, Any], start: Weights | None
) -> dict[str, dict[str, Any]]:
    """What a run is, from its config, its training data and the weights it begins with."""
    return {
        "method": {"method": method.name, "point": None if method.variable_rate else method.point},
        "params": dict(method.variant),
        "data": {"dataset": data["names"], "pictures": data["fingerprint"]},
        "recipe": {**{k: v for k, v in config.items() if k not in FREE}, "init": start and start.id},
        "length": {"steps": config["steps"], "steps_before": []},
    }


def claim(folder: Path, run: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Any] | None = None) -> list[int]:
    """Note in a folder what is trained in it; the lengths that the run had before, when it is trained further.

    ``seen`` is the training data with what was inherited, for runs that begin from this one before it has ended.

    Raises ``TesseraError`` where the folder's state is of something else, or does not say of what.
    """
    path, now = folder / NAME, plain(run)
    if (folder / "state.pt").exists():
        known = _noted(folder)
        _compare(folder, known, now)
        before, length = known["length"], now["length"]
        if length["steps"] < before["steps"]:
            raise TesseraError(
                f"{folder} holds a run of {before['steps']} steps and steps={length['steps']} are fewer: "
                "give another folder=DIR."
            )
        length["steps_before"] = [*before["steps_before"], *([before["steps"]] * (before["steps"] < length["steps"]))]
    if parallel.is_main():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if seen is not None:
                now[SEEN] = fingerprints.stored(seen, folder)
            atomic.write_text(path, json.dumps(now, indent=1, sort_keys=True) + "\n")
        except OSError as error:
            raise TesseraError(f"{folder} cannot be written ({error.strerror}): give another folder=DIR.") from None
    return list(now["length"]["steps_before"])


def _noted(folder: Path) -> dict[str, Any]:
    """What the state in a folder is of: from ``run.json``, else from the ``meta.json`` of a run that has ended."""
    if (folder / NAME).exists():
        return read_json(folder / NAME)
    if not (folder / "meta.json").exists():
        raise TesseraError(
            f"{folder / 'state.pt'} does not say what it was trained on: give another folder=DIR, or delete it."
        )
    meta = read_json(folder / "meta.json")
    recipe, data = dict(meta.get("recipe", {})), meta.get("data", {})
    return {
        "method": {"method": meta.get("method"), "point": meta.get("point")},
        "params": meta.get("params", {}),
        "data": {"pictures": data.get("fingerprint")},
        "recipe": {k: v for k, v in recipe.items() if k == "init" or k not in (*FREE, "first_batch")},
        "length": {"steps": recipe.get("steps", 0), "steps_before": []},
    }


def _compare(folder: Path, known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise unless both say the same wherever both say something."""
    other = [
        (name, before[name], value)
        for part in ("method", "params", "data", "recipe")
        for before in (known.get(part, {}),)
        for name, value in now[part].items()
        if name in before and before[name] != value
    ]
    if other:
        said = "; ".join(_said(name, before, value) for name, before, value in other)
        raise TesseraError(f"{folder} holds another run ({said}): give another folder=DIR, or the options it had.")


def _said(name: str, before: Any, value: Any) -> str:
    before, value = (
        "none" if x is None else ",".join(map(str, x)) if isinstance(x, list) else x for x in (before, value)
    )
    return "other training pictures" if name == "pictures" else f"{name}={before} there, {name}={value} here"
