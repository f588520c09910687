"""Count the symbols of training images with weights that have no counts (official ones), and store both together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import checkpoint
from core.codec import TesseraError
from core.places import default_results
from core.trainable import CountsCodes
from experiments.train import training_data
from experiments.wiring import configured, default_params


def calibrate_config() -> None:
    """Options (a Sacred config scope: each variable is one)."""
    method = "llvq_sparse"  # whose entropy coder gets its counts; params.NAME=VALUE sets its hyper-parameters
    params = default_params(method)
    dataset = "fashion_mnist"  # training images; the splits of evaluation sets are refused
    weights = "official"  # official, ours, or a path
    folder = None  # where weights.safetensors and meta.json go; default: runs/<method>-calibrated
    crop = 1
    scales = (1.0,)
    results = default_results()
    data_root = None


def calibrate(config: Mapping[str, Any], run: Any) -> int:
    """Write the weights with their counts; returns the exit code 0."""
    method = configured(config)
    weights = checkpoint.find(method, config["weights"])
    model = None if weights is None else checkpoint.load(method, weights)
    if weights is None or not isinstance(model, CountsCodes):
        raise TesseraError(f"{method.name} has no counts to make: choose a method whose coder is made of counts.")
    images, data = training_data(config, method.channels)
    model.calibrate(images)
    known = {k: v for k, v in weights.meta.items() if k in ("licence", "source", "url")}
    point = None if method.variable_rate else method.point
    data = checkpoint.inherited(data, weights)
    meta = {"method": method.name, "params": dict(method.variant), "point": point, "data": data, **known}
    folder = Path(config["folder"] or f"runs/{method.name}-calibrated")
    stored = checkpoint.save(folder, model, {**meta, "weights": weights.id})
    print(f"{stored.id}: {stored.path} ({stored.meta['bytes'] / 1e6:.1f} MB)")
    return 0


COMMANDS = {"calibrate": (calibrate_config, calibrate, None)}
