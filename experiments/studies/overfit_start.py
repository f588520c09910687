"""The weights that the overfitted codec starts from, fitted to one crop of photographs after another.

python -m overfit start with dataset=photos n=200 output=start.txt    # on one CPU thread about half an hour
python -m overfit start with init=overfit/start.txt output=start.txt  # goes on from other weights

After each crop the weights move a part of the way to what they were fitted to (Reptile, Nichol et al., 2018, arXiv
1803.02999). What comes out is a part of the format: streams hold differences from ``overfit/start.txt``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import training_set
from core import atomic
from core.codec import TesseraError
from overfit import fit, layout, weights

SHARE = 0.2  # of the way, in the first half; half of that after
LAMBDAS = (3e-4, 5e-3)  # drawn from, evenly in the logarithm


def start_config() -> None:
    """Options of fitting the start (a Sacred config scope: each variable is one)."""
    dataset = "photos"  # with a split to train on
    data_root = None
    init = None  # weights to go on from, a file of whole numbers of 1/256; default: fresh ones
    n = 200  # crops
    steps = 200  # of gradient descent for each
    size = 128  # pixels, side of a crop
    seed = 0
    output = "start.txt"


def start(config: Mapping[str, Any], run: Any) -> int:
    """Fit, and write the weights as whole numbers of 1/256."""
    if config["steps"] < 1:
        raise TesseraError(f"steps={config['steps']} must be at least 1.")
    images = training_set(config["dataset"], config["data_root"]).images
    draw, size = np.random.default_rng(config["seed"]), int(config["size"])
    now = fit.fresh(config["seed"]) if config["init"] is None else _read(config["init"])
    done = 0
    for place in draw.permutation(len(images)).tolist():
        image = images[place].read()
        if image.shape[2] != 3 or min(image.shape[:2]) < size:
            continue
        y, x = (int(draw.integers(side - size + 1)) for side in image.shape[:2])
        target = image[y : y + size, x : x + size].transpose(2, 0, 1) / np.float32(255)
        lmb = math.exp(draw.uniform(*np.log(LAMBDAS)))
        with fit.one_thread():
            latents, found = fit.fit(target.astype(np.float32), lmb, fit.Recipe(config["steps"]), now)
            loss = fit.loss_of(target, lmb)(latents, found, 0.0, fit.noise_table(1.0), 0, fit.BOTH)
        if not math.isfinite(loss.bits + loss.error) or not torch.isfinite(found).all():
            continue
        now = now + (found - now) * (SHARE if 2 * done < config["n"] else SHARE / 2)
        done += 1
        psnr = -10 * math.log10(loss.error)
        print(f"{done} lambda {lmb:.5f}: {loss.bits / size**2:.3f} bits per pixel, {psnr:.2f} dB", flush=True)
        text = "".join(f"{v}\n" for v in np.rint(now.numpy() * weights.UNIT).astype(int))
        atomic.write_text(Path(config["output"]), text)
        if done == config["n"]:
            break
    return 0


def _read(path: str) -> torch.Tensor:
    try:
        values = np.loadtxt(path, dtype=np.int64)
    except (OSError, ValueError) as error:
        raise TesseraError(f"init={path} cannot be read as whole numbers ({error}); give a start.txt.") from None
    if values.shape != (layout.WEIGHTS,):
        raise TesseraError(f"init={path} must hold {layout.WEIGHTS} whole numbers, not {values.size}.")
    return torch.from_numpy(values / weights.UNIT).float()


COMMANDS = {"start": (start_config, start, {"smoke": {"n": 1, "steps": 5}})}
