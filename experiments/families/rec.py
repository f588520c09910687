"""The option names of the published scripts of relative entropy coding, and how each of its methods is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.codec import TesseraError
from core.registry import unknown
from experiments.family import Command, Offer

MODELS = {
    "resnet_vae": "rvae",
    "large_level_1_vae": "irec1",
    "large_level_2_vae": "irec2",
    "large_level_4_vae": "irec4",
}
# What published options are called here; those of a method's dataclass become params.NAME.
NAMES = {
    "iters": "steps",
    "batch_size": "batch",
    "learning_rate": "lr",
    "log_freq": "log_every",
    "tensorboard_log_freq": "log_every",
    "num_test_images": "limit",
    "save_reconstructions": "keep_images",
    "model_dir": "weights",
    "dataset_name": "dataset",
    "dataset_info.dataset_name": "dataset",
    "dataset.dataset_name": "dataset",
    "dataset_base_path": "data_root",
    "likelihood_function": "params.likelihood",
    "loss_fn": "params.target",
    "sampler": "params.coder",
}
PARAMETERS = ("num_res_blocks", "deterministic_filters", "stochastic_filters", "lamb", "beta", "coder", "n_beams",
    "extra_samples", "kl_per_partition", "block_size", "compression_seed", "target", "anneal_end")  # fmt: skip
DROPS = ("drop_learning_rate_after_iter", "learning_rate_drop_rate")
COMMON = {"scales": (1.0,), "clip": 1e9, "warmup": 0, "amp": False, "batch": 8}
PUBLISHED_LOSSLESS = COMMON | {"dataset": "cifar10", "crop": 32, "turns": False, "steps": 500_000, "lr": 1e-3,
    "schedule": "drop:50000:0.3", "optimizer": "adamax", "ema": 0.999}  # fmt: skip
PUBLISHED_LOSSY = COMMON | {"dataset": "clic", "crop": 256, "turns": False, "steps": 200_000, "lr": 1e-4,
    "schedule": "constant", "optimizer": "adam", "ema": 0.0}  # fmt: skip
SMALL_LOSSLESS = {"dataset": "cifar10", "scales": (1.0,), "crop": 32, "turns": True, "steps": 6000, "batch": 16,
    "lr": 4e-3, "optimizer": "adamax", "clip": 2.0, "ema": 0.998}  # fmt: skip
SMALL_CHAIN = SMALL_LOSSLESS | {"steps": 5000}
SMALL_LOSSY = {"dataset": "bsds500", "crop": 128, "steps": 3000, "batch": 8, "lr": 2e-3, "clip": 20.0, "ema": 0.998}
RECIPES = {
    "rvae": (PUBLISHED_LOSSLESS, PUBLISHED_LOSSLESS),
    "rvae_small": (SMALL_LOSSLESS, PUBLISHED_LOSSLESS),
    "bitswap_small": (SMALL_CHAIN, SMALL_CHAIN),
    **dict.fromkeys(("irec1", "irec2", "irec4"), (PUBLISHED_LOSSY, PUBLISHED_LOSSY)),
    "irec2_small": (SMALL_LOSSY, PUBLISHED_LOSSY),
}  # what a method is trained with, and what the named config 'paper' stands for
METHOD = "rvae_small"


def offer(words: Sequence[str]) -> Offer:
    """The command line of ``python -m rec``."""
    ours = translated(words)
    return Offer(ours, defaults(ours), commands(ours))


def translated(words: Sequence[str]) -> list[str]:
    """The command line with the published option names replaced by ours."""
    if "with" not in words:
        return list(words)
    start = list(words).index("with") + 1
    plain = [word for word in words[start:] if "=" not in word]
    given = dict(word.split("=", 1) for word in words[start:] if "=" in word)
    model, mode = given.pop("model", None), given.pop("mode", "compress")
    if model is not None and model not in MODELS:
        raise unknown("model", model, MODELS)
    if model is not None and "method" in given:
        raise TesseraError("model=... and method=... name the same thing: give one of them.")
    if mode != "compress":
        raise TesseraError(f"mode={mode} prepares the published coders; ours need none: leave it out.")
    options = {"method": MODELS[model]} if model else {}
    _annealing(given)
    if given.keys() & set(DROPS):
        options["schedule"] = f"drop:{given.pop(DROPS[0], '50000')}:{given.pop(DROPS[1], '0.3')}"
    for name, value in given.items():
        if name == "model_save_dir":
            name = "folder" if words[1:2] == ["train"] else "weights"
        name = NAMES.get(name, f"params.{name}" if name in PARAMETERS else name)
        options[name] = value.replace("-", "_") if name == "params.target" else value
    return [*words[:start], *plain, *(f"{name}={value}" for name, value in options.items())]


def _annealing(given: dict[str, str]) -> None:
    """anneal_kl=True with its anneal_end becomes the latter alone."""
    wanted, end = given.pop("anneal_kl", None), given.get("anneal_end", "60000")
    if wanted is not None and wanted.capitalize() not in ("True", "False"):
        raise TesseraError(f"anneal_kl={wanted} must be True or False.")
    if wanted is not None:
        given["anneal_end"] = end if wanted.capitalize() == "True" else "0"


def defaults(words: Sequence[str]) -> dict[str, Any]:
    """Configuration values for the method that a (translated) command line names."""
    method = _method(words)
    return {"method": METHOD, **(RECIPES[method][0] if words[1:2] == ["train"] and method in RECIPES else {})}


def commands(words: Sequence[str]) -> dict[str, Command]:
    """The training command, with the published recipe of the method as its named config ``paper``."""
    if words[1:2] != ["train"]:
        return {}
    from experiments import train as training

    paper: Mapping[str, Any] = RECIPES.get(_method(words), RECIPES[METHOD])[1]
    smoke = training.NAMED["smoke"] | {"crop": 64 if paper is PUBLISHED_LOSSY else 32}
    return {"train": Command("experiments.train", {"smoke": smoke, "paper": paper})}


def _method(words: Sequence[str]) -> str:
    return next((word.removeprefix("method=") for word in reversed(words) if word.startswith("method=")), METHOD)
