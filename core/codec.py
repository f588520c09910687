"""The vocabulary every method speaks: what a method declares and what a codec can do.

A *method* is a frozen dataclass of hyper-parameters; a *codec* turns images into streams and back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, C), C = 1 (grey) or 3 (RGB)
Point = int | float | str  # a setting that moves along a rate-distortion curve
MOST_SEARCH = 100_000  # steps or candidates of a search at the encoder


class TesseraError(Exception):
    """A failure a user can act on: its text is one sentence saying what, where and what to do."""


class MissingWeights(TesseraError):
    """A method needs weights that are not here; the text says where they come from and what to run, ``why`` the cause
    alone ('' where the text is all there is to say).
    """

    def __init__(self, text: str, why: str = "") -> None:
        super().__init__(text)
        self.why = why


@runtime_checkable
class Codec(Protocol):
    """What every method gives: an image becomes a stream, and the stream alone becomes the image."""

    def compress(self, image: Image) -> bytes:
        """Code a uint8 image (H, W, C), H and W at least 1, into a self-contained stream."""

    def decompress(self, stream: bytes) -> Image:
        """Decode a stream; raises ``core.bitstream.BitstreamError`` on a damaged or foreign one."""


@runtime_checkable
class HasEstimate(Protocol):
    """A codec whose model can say how many bits an image should take."""

    def bits(self, image: Image) -> float:
        """The model's own estimate of the stream's payload, in bits."""


@runtime_checkable
class HasPayload(Protocol):
    """A codec that can tell the coded payload from its own headers."""

    def payload_bits(self, stream: bytes) -> int:
        """Bits of the stream that carry coded symbols (headers, checksums and lengths excluded)."""


@runtime_checkable
class HasCodes(Protocol):
    """A codec with discrete codes whose usage can be counted."""

    codebook_sizes: Sequence[int]  # one per level

    def codes(self, image: Image) -> list[NDArray[np.integer[Any]]]:
        """The codes of an image: one integer array per level, values in [0, codebook_sizes[level])."""


@runtime_checkable
class HasRates(Protocol):
    """A codec whose rate can be counted in other ways than by the bytes of a file, to be compared with those."""

    rates: Sequence[str]  # names of these ways, such as 'ideal'; 'file' is not among them

    def rated(self, rate: str, image: Image) -> tuple[float, Image]:
        """The bits of an image counted in the way ``rate``, and the decoded image that they stand for."""


@runtime_checkable
class HasSearch(Protocol):
    """A codec whose encoder can look for better streams of an image, which the plain decoder reads."""

    def searching(self, effort: int) -> Codec:
        """The codec of the same weights whose ``compress`` spends ``effort`` (at least 1, in ``Method.searches``).

        The same image and effort give the same stream, which is never worse than the plain one in what the method
        minimises, counted from the two streams. Raises ``TesseraError`` where the model has no search.
        """


@runtime_checkable
class HasBatches(Protocol):
    """A codec that codes several images of one padded size at once, each into the stream it has alone."""

    def compress_batch(self, images: Sequence[Image]) -> list[bytes]:
        """A stream for each image."""

    def decompress_batch(self, streams: Sequence[bytes]) -> list[Image]:
        """An image for each stream; raises ``BitstreamError`` when one of them is damaged."""


@runtime_checkable
class HasFingerprint(Protocol):
    """A codec whose streams are containers of ``core.bitstream`` that name its method and checkpoint."""

    fingerprint: bytes  # 4 bytes


@runtime_checkable
class HasPortable(Protocol):
    """A codec that can leave out what makes its streams decode on other machines."""

    portable: bool  # True unless set


@runtime_checkable
class Adopts(Protocol):
    """A method that starts training from weights of another point or shape."""

    def adopt(self, state: Mapping[str, Any]) -> Any:
        """A network that takes of a stored state dict what fits."""


def check_effort(effort: int, least: int = 0) -> int:
    """The effort of a search; ``TesseraError`` unless it is a whole number from ``least`` to ``MOST_SEARCH``."""
    if isinstance(effort, bool) or not isinstance(effort, int) or not least <= effort <= MOST_SEARCH:
        raise TesseraError(f"search={effort} must be a whole number from {least} to {MOST_SEARCH}.")
    return effort


class Parameters:
    """Base of frozen dataclasses of hyper-parameters; ``curve`` names the one that moves along a curve, if one does."""

    curve: ClassVar[str | None] = None

    def at(self, point: Point | None) -> Self:
        """The same variant at another point of its curve."""
        return self if self.curve is None else replace(self, **{self.curve: point})  # type: ignore[type-var]

    @property
    def variant(self) -> Mapping[str, Any]:
        """The parameters except the one that moves along the curve, sorted by name."""
        values = asdict(self)  # type: ignore[call-overload]
        return {name: values[name] for name in sorted(values) if name != self.curve}

    @classmethod
    def parameters(cls) -> dict[str, Any]:
        """Names and defaults of the hyper-parameters."""
        return {f.name: getattr(cls(), f.name) for f in fields(cls)}  # type: ignore[arg-type]


class Method(Parameters):
    """Base of every method: subclass as a frozen dataclass and register with ``@METHODS.register(name)``.

    Fields are hyper-parameters. ``curve`` names the field that moves along the rate-distortion curve and ``points``
    lists its published or shipped settings. A method without weights leaves ``trains_on`` empty.
    """

    name: ClassVar[str] = ""  # set by the registry
    title: ClassVar[str] = ""  # what figures call it, such as 'VQ-VAE, EMA'; empty: its name
    paper: ClassVar[str] = ""
    points: ClassVar[tuple[Point, ...]] = ()
    trains_on: ClassVar[tuple[str, ...]] = ()
    lossless: ClassVar[bool] = False
    variable_rate: ClassVar[bool] = False  # one set of weights serves every point
    takes: ClassVar[tuple[str, ...]] = ()  # other methods whose weights ``read_state`` turns into this one's
    unbound: ClassVar[
        tuple[str, ...]
    ] = ()  # parameters that any weights serve: how streams are made, how training began
    published: ClassVar[tuple[str, ...]] = ()  # published curves of the method, drawn beside its own
    searches: ClassVar[str] = ""  # what search=N counts, such as 'gradient steps'; empty: no search at the encoder
    suffix: ClassVar[str] = ".tsr"  # of the files that its streams are
    note: ClassVar[str] = ""  # what the rate counts, versions of binaries; stored in every cell

    @property
    def channels(self) -> int:
        """Channels of the images a model trains on: 3, or 1, where each colour is a grey image of its own."""
        return 3

    def model(self) -> Any:
        """A freshly initialised ``torch.nn.Module``, or None for a method without weights."""
        return None

    def codec(self, model: Any) -> Codec:
        """A codec ready to compress and decompress with the given model (in eval mode)."""
        raise NotImplementedError(f"{type(self).__name__} defines no codec")

    def check_search(self, effort: int) -> None:
        """Raise ``TesseraError`` unless the encoder can search with this effort (0: it does not)."""
        if check_effort(effort) and not self.searches:
            raise TesseraError(f"{self.name} has no search at the encoder: leave search={effort} out.")

    def warming(self, codec: Codec) -> Codec:
        """What runs once before a measurement: the codec itself, or one that runs the same code in less time."""
        return codec

    def searching(self, codec: Codec, effort: int) -> Codec:
        """The codec itself (0), or the one whose ``compress`` spends ``effort`` on a search."""
        self.check_search(effort)
        if not effort:
            return codec
        assert isinstance(codec, HasSearch), f"{self.name} names what it searches, its codec must"
        return codec.searching(effort)

    def read_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The entries of a stored state dict under the model's own names (official layouts may differ)."""
        return state

    def skip(self, dataset: str) -> str | None:
        """A sentence saying why the method cannot run on a data set (or at all here), or None."""
        return None

    @property
    def point(self) -> Point | None:
        """The setting of the field that moves along the curve."""
        return None if self.curve is None else getattr(self, self.curve)

    def stream_point(self, stream: bytes) -> Point | None:
        """The point that one of its streams was made at; None where neither the weights nor the stream say."""
        return None if self.variable_rate else self.point

    @property
    def trained_range(self) -> tuple[float, float] | None:
        """The lowest and highest point that weights of a variable-rate method are trained for; None: all its points."""
        return None

    def check_point(self) -> None:
        """Raise ``TesseraError`` for a point outside of the trained range."""
        if self.trained_range is None:
            return
        low, high = self.trained_range
        if isinstance(self.point, str) or self.point is None or not low <= self.point <= high:
            raise TesseraError(
                f"{self.curve}={self.point} is outside of what {self.name} is trained for: use {low} to {high}."
            )
