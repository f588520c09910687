"""Metrics of other people's programs: libvmaf and XPSNR inside ffmpeg, FSIM and IW-SSIM of piq, SSIMULACRA 2.

None is measured unless it is asked for (``metrics=vmaf,ciede2000``). ffmpeg gets both pictures as YCbCr of 8 bits,
BT.709 in limited range without subsampling of colour, a grey one as equal channels; all its scores come from one run.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure.metrics import METRICS, Better, Metric, MetricError
from core.codec import Image

LIMIT_S = 300.0  # a hang ends; a picture of 2 megapixels takes seconds
LEAST = 32  # pixels: on sides of 16 libvmaf crashes
IW_LEAST = 161  # five scales of 11x11 windows, as MS-SSIM
_YCBCR = (
    "scale=out_color_matrix=bt709:in_range=full:out_range=limited:"
    "flags=accurate_rnd+full_chroma_int+full_chroma_inp+bitexact,format=yuv444p,split"
)
_MODELS = r"version=vmaf_v0.6.1\:name=vmaf|version=vmaf_v0.6.1neg\:name=vmaf_neg"
_FEATURES = r"name=psnr_hvs|name=ciede|name=float_vif\:debug=true"
_GRAPH = (
    f"[0:v]{_YCBCR}[a][b];[1:v]{_YCBCR}[c][d];"
    f"[a][c]libvmaf=model='{_MODELS}':feature='{_FEATURES}':log_fmt=json:log_path=vmaf.json[v];"
    "[b][d]xpsnr=stats_file=xpsnr.txt[x]"
)


def _add(
    name: str,
    unit: str,
    better: Better,
    least: int,
    function: Callable[[Image, Image], float],
    missing: Callable[[], str | None],
) -> None:
    METRICS.register(name)(Metric(name, unit, better, least, function, default=False, missing=missing))


# -- ffmpeg ---------------------------------------------------------------------------------------------------------


def _of_ffmpeg(name: str, reference: Image, decoded: Image) -> float:
    return _scores(reference.shape, reference.tobytes(), decoded.tobytes())[name]


@lru_cache(maxsize=1)  # the metrics of one picture are asked for one after the other
def _scores(shape: tuple[int, int, int], reference: bytes, decoded: bytes) -> Mapping[str, float]:
    """All scores of ffmpeg for two pictures, uint8 (H, W, 1|3), as bytes. Raises ``MetricError``."""
    from benchmarks.classical.video import executable

    with tempfile.TemporaryDirectory(prefix="tessera-") as place:
        folder = Path(place)
        for name, data in (("decoded.ppm", decoded), ("reference.ppm", reference)):
            (folder / name).write_bytes(_ppm(np.frombuffer(data, np.uint8).reshape(shape)))
        command = [executable(), "-hide_banner", "-loglevel", "error", "-i", "decoded.ppm", "-i", "reference.ppm"]
        command += ["-filter_complex", _GRAPH, "-map", "[v]", "-f", "null", "-", "-map", "[x]", "-f", "null", "-"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, timeout=LIMIT_S, check=False, stdin=subprocess.DEVNULL
            )
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().splitlines()
                raise MetricError(f"ffmpeg could not compare two pictures: {said[0] if said else done.returncode}")
            found = json.loads((folder / "vmaf.json").read_text())["frames"][0]["metrics"]
            luma = re.search(r"XPSNR y:\s*(\S+)", (folder / "xpsnr.txt").read_text())
            return _named(found, math.nan if luma is None else float(luma[1]))
        except subprocess.TimeoutExpired:
            raise MetricError(f"ffmpeg took more than {LIMIT_S:g} s to compare two pictures.") from None
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise MetricError(f"ffmpeg gave no scores of two pictures ({type(error).__name__}: {error}).") from error


def _named(found: Mapping[str, float | None], xpsnr: float) -> dict[str, float]:
    """Our metrics from libvmaf's log, in which null stands for inf."""
    value = {k: math.inf if v is None else float(v) for k, v in found.items()}
    return {
        "vmaf": value["vmaf"],
        "vmaf_neg": value["vmaf_neg"],
        "psnr_hvs": value["psnr_hvs_y"],
        "ciede2000": 10 ** ((45 - value["ciede2000"]) / 20),  # libvmaf says 45 - 20 log10 of the mean difference
        "vif": value["vif"],
        "xpsnr": xpsnr,
    }


def _ppm(image: Image) -> bytes:
    height, width, channels = image.shape
    colour = np.repeat(image, 3, 2) if channels == 1 else image
    return b"P6\n%d %d\n255\n" % (width, height) + colour.tobytes()


@cache
def _no_ffmpeg() -> str | None:
    """What ffmpeg lacks, or None."""
    from benchmarks.classical.video import DECODE_LIMIT_S, executable, run
    from core.codec import TesseraError

    try:
        listing = run(("-filters",), b"", DECODE_LIMIT_S).decode(errors="replace")
    except TesseraError as error:
        return str(error)
    lost = [name for name in ("libvmaf", "xpsnr") if not re.search(rf"^ \S+ {name}\s", listing, re.MULTILINE)]
    return f"the ffmpeg at {executable()} has no {' and no '.join(lost)}: pip install imageio-ffmpeg" if lost else None


OF_FFMPEG: dict[str, tuple[str, Better]] = {
    "vmaf": ("", "higher"),  # model vmaf_v0.6.1; equal pictures have about 97, not 100, as nothing moves
    "vmaf_neg": ("", "higher"),  # model vmaf_v0.6.1neg, which enhancement does not please
    "psnr_hvs": ("dB", "higher"),  # of luma, with contrast masking
    "ciede2000": ("ΔE", "lower"),  # mean over pixels of the CIEDE2000 colour difference
    "vif": ("", "higher"),  # pixel domain, four scales, of luma
    "xpsnr": ("dB", "higher"),  # of luma
}
for _name, (_unit, _better) in OF_FFMPEG.items():
    _add(_name, _unit, _better, LEAST, partial(_of_ffmpeg, _name), _no_ffmpeg)


# -- packages -------------------------------------------------------------------------------------------------------


def _of_piq(name: str, reference: Image, decoded: Image) -> float:
    import piq
    import torch

    pair = [torch.from_numpy(np.repeat(x, 4 - x.shape[2], 2)[..., :3].copy()) for x in (reference, decoded)]
    first, second = (x.permute(2, 0, 1)[None].double() / 255 for x in pair)
    with torch.inference_mode():
        return float(getattr(piq, name)(second, first, data_range=1.0))


def _ssimulacra2(reference: Image, decoded: Image) -> float:
    from PIL import Image as pillow
    from ssimulacra2 import compute_ssimulacra2

    with tempfile.TemporaryDirectory(prefix="tessera-") as place:  # the package takes files
        paths = [str(Path(place) / name) for name in ("reference.png", "decoded.png")]
        for path, image in zip(paths, (reference, decoded), strict=True):
            colour = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
            pillow.fromarray(colour).save(path, compress_level=0)
        return float(compute_ssimulacra2(*paths))


@cache
def _absent(package: str) -> str | None:
    """Why a package cannot be used, or None. It is imported, for one may not fit the torch that is here."""
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed; run pip install 'tessera-bench[metrics]'"
    except Exception as error:  # whatever an extension library says of another version
        return f"{package} cannot be imported ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
    return None


_add("fsim", "", "higher", LEAST, partial(_of_piq, "fsim"), partial(_absent, "piq"))
_add("iw_ssim", "", "higher", IW_LEAST, partial(_of_piq, "information_weighted_ssim"), partial(_absent, "piq"))
_add("ssimulacra2", "", "higher", LEAST, _ssimulacra2, partial(_absent, "ssimulacra2"))


def versions(names: tuple[str, ...]) -> dict[str, Any]:
    """Versions of the programs and packages that these metrics are of; empty for those of our own."""
    found: dict[str, Any] = {}
    if set(names) & set(OF_FFMPEG):
        found["ffmpeg"] = _ffmpeg_version()
    for package, mine in (("piq", {"fsim", "iw_ssim"}), ("ssimulacra2", {"ssimulacra2"})):
        if mine & set(names):
            found[package] = metadata.version(package)
    return found


@cache
def _ffmpeg_version() -> str:
    from benchmarks.classical.video import DECODE_LIMIT_S, run

    said = re.search(r"^ffmpeg version (\S+)", run(("-version",), b"", DECODE_LIMIT_S).decode(), re.MULTILINE)
    return said[1] if said else ""
