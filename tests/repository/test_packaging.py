"""The installed package: what it declares, what goes into it, and that the pinned versions are among the declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repository.test_imports import OURS, modules

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"])}
EXTRA = {
    canonicalize_name(r.name): r for group in PROJECT["optional-dependencies"].values() for r in map(Requirement, group)
}


# Extras that requirements.txt leaves out: piq brings a torchvision that replaces the pinned torch by another one.
APART = {canonicalize_name(Requirement(r).name) for r in PROJECT["optional-dependencies"]["metrics"]}


def third_party(tree: ast.AST, inside: bool) -> Iterator[str]:
    """Top-level modules that are imported, at the top (always) or inside functions; those of ours left out."""
    for node in ast.walk(tree) if inside else ast.iter_child_nodes(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from {name.partition(".")[0] for name in names} - OURS - sys.stdlib_module_names


@cache
def installed() -> Mapping[str, list[str]]:
    """The distributions of each top-level module: a walk through all of site-packages, so done once."""
    return packages_distributions()


@cache
def distributions(module: str) -> set[str]:
    found = installed().get(module, [])
    if not found and canonicalize_name(module) in APART:
        return {canonicalize_name(module)}
    if not found:
        pytest.fail(f"{module} is imported and belongs to nothing that is installed")
    return {canonicalize_name(name) for name in found}


def test_every_import_is_declared():
    known, undeclared = {**NEEDED, **EXTRA}, []
    for path, tree in modules().items():
        undeclared += [f"{path}: {m}" for m in third_party(tree, False) if not distributions(m) & NEEDED.keys()]
        undeclared += [f"{path}: {m}" for m in third_party(tree, True) if not distributions(m) & known.keys()]
    assert not undeclared


def test_the_checker_sees_what_is_not_declared():
    tree = ast.parse("import pytest\ndef f():\n    import torch")
    assert set(third_party(tree, False)) == {"pytest"} and set(third_party(tree, True)) == {"pytest", "torch"}
    assert not distributions("pytest") & NEEDED.keys() and distributions("torch") & NEEDED.keys()


def test_pinned_versions_are_among_the_declared_ones():
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    pins = {canonicalize_name(r.name): r for r in map(Requirement, (x for x in lines if x and not x.startswith("-")))}
    assert not APART & pins.keys() and not APART & NEEDED.keys()
    for name, wanted in {**NEEDED, **EXTRA}.items():
        if name in APART:
            continue
        assert name in pins, f"{name} has no pin in requirements.txt"
        for pin in pins[name].specifier:
            if pin.operator == "==":
                assert wanted.specifier.contains(pin.version), f"{name} is pinned outside of what pyproject declares"


@pytest.fixture(scope="module")
def files() -> set[str]:
    """What a wheel holds, as setuptools counts it without building one."""
    from setuptools import Distribution

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        distribution = Distribution({"script_name": "setup.py"})
        distribution.parse_config_files()
        command = distribution.get_command_obj("build_py")
        command.ensure_finalized()
        built = command.get_outputs(include_bytecode=False)
    return {Path(path).relative_to(Path(command.build_lib)).as_posix() for path in built}


def test_a_wheel_has_every_module_and_what_they_read(files):
    mine = {path.relative_to(ROOT).as_posix() for path in modules()}
    assert mine <= files
    read = [p for package in OURS for p in (ROOT / package).rglob("*") if p.suffix in {".cpp", ".js", ".css", ".html"}]
    wanted = {path.relative_to(ROOT).as_posix() for path in read}
    wanted |= {f"results/published/{path.name}" for path in (ROOT / "results" / "published").glob("*.json")}
    assert len(wanted) > 10 and wanted | {"qres/qarv_tables.txt", "checkpoints/manifest.json"} <= files


def test_a_wheel_has_the_weights_that_the_manifest_ships_but_for_the_large_ones(files):
    from core import checkpoint

    shipped = {f"checkpoints/{entry['path']}" for entry in checkpoint.manifest() if entry.get("path")}
    shipped = {path if path.endswith(".safetensors") else f"{path}/weights.safetensors" for path in shipped}
    small = {path for path in shipped if not re.match(r"checkpoints/qres34m", path)}
    assert small and small <= files and {str(Path(p).with_name("meta.json")) for p in small} <= files
    large = [path for path in files if (ROOT / path).is_file() and (ROOT / path).stat().st_size > 16e6]
    assert not large


def test_a_wheel_has_nothing_else(files):
    places = {path.split("/")[0] for path in files}
    assert places == {*OURS, "checkpoints", "results"}
    assert not [path for path in files if path.startswith("results/") and not path.startswith("results/published/")]
    assert not [path for path in files if path.endswith((".png", ".csv", ".md"))]
