"""Weights that do not fit a method, named for what they are: whose tensors they hold, by names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.codec import Method
from core.registry import METHODS

if TYPE_CHECKING:
    from torch import Tensor, nn

SHOWN = 3  # names of tensors in a sentence
Shapes = Mapping[str, tuple[int, ...]]


def sentence(method: Method, model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What stored tensors are that are not those of the method's model, as the rest of a sentence about their file."""
    there, wanted = _shapes(state), _shapes(model.state_dict())
    if owner := _owner(method, there, state):
        return f"holds weights of {owner}, not of {method.name}: ask for method={owner}."
    missing = [name for name in wanted if name not in there]
    other = [name for name in wanted if name in there and there[name] != wanted[name]]
    unknown = [name for name in there if name not in wanted]
    facts = [
        f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
        for names, what in ((missing, "are missing"), (other, "have other shapes"), (unknown, "are unknown to it"))
        if names
    ]
    said = f"of its {len(wanted)} tensors {'; '.join(facts)}" if facts else "its layout is another one"
    return f"does not hold the weights of {method.name}: {said}; no method here has such weights by default."


def _owner(asked: Method, there: Shapes, state: Mapping[str, Tensor]) -> str:
    """The method, with its default parameters, that has most of these tensors and lacks none; '' for none."""
    fits: dict[str, int] = {}
    family = type(asked).__module__.partition(".")[0]
    for name, cls in sorted(METHODS.items(), key=lambda pair: not pair[1].__module__.startswith(f"{family}.")):
        if cls.trains_on and name != asked.name and (wanted := _wanted(cls)) and _holds(cls, wanted, there, state):
            fits[name] = len(wanted)
            if wanted == there:  # no other can have more of them
                return name
    return max(fits, key=lambda name: fits[name], default="")


def _wanted(cls: type[Method]) -> Shapes:
    """Names and shapes of a method's tensors; none where its model cannot be made without memory for them."""
    import torch

    try:
        with torch.device("meta"):
            model: Any = cls().model()
        return _shapes(model.state_dict())
    except Exception:  # of any method, a plug-in's too: it only helps to word a sentence
        return {}


def _holds(cls: type[Method], wanted: Shapes, there: Shapes, state: Mapping[str, Tensor]) -> bool:
    if all(there.get(name) == shape for name, shape in wanted.items()):
        return True
    if cls.takes:  # reads other methods' weights, so what it reads is not its own
        return False
    try:
        return _shapes(cls().read_state(state)) == wanted
    except Exception:  # layouts that a method does not know
        return False


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in state.items()}
