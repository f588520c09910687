"""Start of a run from another one: its weights, or of a run that has not ended the averaged weights so far.

A short run whose rate falls can so be branched off a long one at a constant rate. The weights it begins with are kept
in its own folder, ``start/``, with what they have seen: the long run goes on, and the branch resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core import checkpoint, fingerprints
from core.checkpoint import Weights
from core.codec import Method, TesseraError
from core.given import OWN, read_json
from core.registry import make_method
from experiments.run_record import NAME, SEEN

STATE = "state.pt"


def start(method: Method, init: str | None, folder: Path) -> Weights | None:
    """The weights that ``init=`` names for a run in ``folder``; None where it names none.

    Raises ``TesseraError`` where there are none, where a run that has not ended does not say what it has seen, or
    where the folder holds a branch of another run.
    """
    if init is None:
        return None
    run, kept = Path(init), folder / "start"
    if (kept / "meta.json").exists():
        found = checkpoint.find(method, str(kept), any_point=True)
        branched = found.meta.get("branched", {}) if found else {}
        if branched.get("from") != run.name:
            raise TesseraError(
                f"{folder} begins from a run in {branched.get('from')}, not {run.name}: give another one."
            )
        return found
    if not (run / STATE).exists() or (run / OWN).exists():
        return checkpoint.find(method, init, any_point=True)
    return _kept(run, kept)


def _kept(run: Path, folder: Path) -> Weights:
    """The averaged weights of a run so far, written with what they have seen."""
    record = read_json(run / NAME) if (run / NAME).exists() else {}
    if SEEN not in record:
        raise TesseraError(
            f"{run} has not ended and does not say which pictures it has seen: go on with it once, with its own "
            "command, and it will."
        )
    named = record["method"]
    method = make_method(named["method"], record["params"])
    if named["point"] is not None:
        method = method.at(named["point"])
    model, (average, step) = method.model(), _restored(run)
    try:
        model.load_state_dict(average)
    except RuntimeError as error:
        raise TesseraError(f"{run / STATE} is not of {method.name} ({str(error).splitlines()[0]}).") from None
    meta = {
        "method": method.name,
        "params": dict(method.variant),
        "point": None if method.variable_rate else method.point,
        "recipe": {**record["recipe"], **record["length"], "step": step},
        "data": {**record[SEEN], "fingerprints": sorted(fingerprints.read(record[SEEN], run))},
        "licence": "MIT (weights made by this project)",
        "branched": {"from": run.name, "step": step},
    }
    return checkpoint.save(folder, model, meta)


def _restored(run: Path) -> tuple[Mapping[str, Any], int]:
    """The averaged weights in a run's state, and how many steps they have had."""
    try:
        state: Mapping[str, Any] = torch.load(run / STATE, map_location="cpu", weights_only=True)
        return state["average"], int(state["step"])
    except Exception as error:  # torch and pickle have many for a damaged file
        raise TesseraError(f"{run / STATE} cannot be read ({type(error).__name__}): give another run.") from None
