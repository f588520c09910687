"""Typed views of modules: what containers hold and layers have, which the annotations of PyTorch leave open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from torch import Tensor, nn

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """A ``ModuleList`` of modules of one type, under the same names in state dicts."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M]) -> None: ...

        @overload
        def __getitem__(self, idx: slice) -> Modules[M]: ...

        @overload
        def __getitem__(self, idx: int) -> M: ...

        def __getitem__(self, idx: int | slice) -> M | Modules[M]: ...

        def __iter__(self) -> Iterator[M]: ...


def of_kind(module: object, kind: type[T]) -> T:
    """The module, such as a part of a ``Sequential``, known to be of a kind; ``TypeError`` when it is not."""
    if not isinstance(module, kind):
        raise TypeError(f"a {kind.__name__} is wanted here, not a {type(module).__name__}")
    return module


def bias_of(layer: nn.Module) -> Tensor:
    """The bias of a layer that has one; ``TypeError`` when it does not."""
    return of_kind(layer.bias, Tensor)


def padding_of(conv: nn.Conv2d) -> tuple[int, ...]:
    """The padding (height, width) of a convolution that was given numbers; ``TypeError`` when it was given a word."""
    return of_kind(conv.padding, tuple)
