"""Who may import whom (DESIGN section 2), read from the syntax trees; and what an import may drag in, by doing it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from core.registry import method_packages

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {*method_packages()} - {"benchmarks"}
OURS = {"core", "benchmarks", "experiments", "tessera", *FAMILIES}
RULER = {"core", "benchmarks"}
# By place, the innermost that is named: a folder with what is below it, or the files of a folder (``/*``).
MAY = {
    "core": {"core"},
    "benchmarks": RULER,
    "benchmarks/*": RULER | {"experiments"},  # what one types
    **{family: {"core", family} for family in FAMILIES},
    **{f"{family}/__main__.py": {"core", family, "experiments"} for family in FAMILIES},
    "experiments": RULER | {"experiments"},
    "experiments/families": OURS,
    "experiments/studies": OURS,
    "tessera": OURS,
}
# Rooms of the ruler, each called as the folder of results that it fills, and those that fill none.
ROOMS = {"store", "curves", "tables", "figures", "page"} | {"classical", "datasets", "measure"}
HEAVY = {"tensorflow", "pandas", "matplotlib", "seaborn", "plotly", "sacred", "sqlalchemy"}  # never in core
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "shared_code", "tools"}


@cache
def modules() -> dict[Path, ast.Module]:
    files = (path for package in sorted(OURS) for path in sorted((ROOT / package).rglob("*.py")))
    return {path: ast.parse(path.read_text(), str(path)) for path in files}


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Dotted names a module imports anywhere in it, also inside functions and by ``import_module("...")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((a.value, node.lineno) for a in node.args if isinstance(a, ast.Constant))


def allowed(path: Path) -> set[str]:
    """Packages that a file may import, by where it lies."""
    place = path.relative_to(ROOT)
    known = (str(place), f"{place.parent}/*", *map(str, place.parents))
    return MAY[next(name for name in known if name in MAY)]


def is_typed(path: Path) -> bool:
    """Whether a file of the ruler is a script, something that a user types."""
    return path.parent == ROOT / "benchmarks"


def offences(path: Path, tree: ast.Module) -> list[str]:
    """The imports of a module that its place does not allow."""
    package = path.relative_to(ROOT).parts[0]
    found = []
    for name, line in imported(tree):
        top = name.partition(".")[0]
        wrong = top in OURS and top not in allowed(path)
        sacred = top == "sacred" and package != "experiments"
        heavy = package == "core" and top in HEAVY
        if wrong or sacred or heavy:
            found.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return found


def test_import_directions() -> None:
    assert len(modules()) > 40
    assert not [line for path, tree in modules().items() for line in offences(path, tree)]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("core/x.py", "import benchmarks.store"),
        ("core/x.py", "def f():\n    import pandas"),
        ("qres/x.py", "from vq import layers"),
        ("qres/x.py", "from benchmarks.measure.metrics import psnr"),
        ("qres/x.py", "from experiments import train"),
        ("vq/x.py", "import importlib\nimportlib.import_module('qres.codec')"),
        ("benchmarks/x.py", "from qres.methods import QRes34M"),
        ("benchmarks/x.py", "from sacred import Experiment"),
        ("benchmarks/store/x.py", "from experiments.wiring import run"),
        ("benchmarks/store/__main__.py", "from experiments.wiring import run\nif __name__ == '__main__':\n    run()"),
        ("experiments/x.py", "from qres import official"),
        ("experiments/plan/x.py", "from vq.toy.methods import TOY"),
    ],
)
def test_the_checker_sees_wrong_imports(file: str, line: str) -> None:
    assert offences(ROOT / file, ast.parse(line))


def test_scripts_studies_and_families_may_know_more() -> None:
    assert not offences(ROOT / "benchmarks/x.py", ast.parse("from experiments.wiring import run"))
    assert not offences(ROOT / "qres/__main__.py", ast.parse("from experiments.family import main"))
    assert not offences(ROOT / "experiments/studies/x.py", ast.parse("from qres import official"))


def test_the_ruler_has_the_rooms_that_results_have() -> None:
    packages = {path.parent.name for path in (ROOT / "benchmarks").glob("*/__init__.py")}
    assert packages == ROOMS


def test_only_what_one_types_runs_by_itself() -> None:
    """A library module has no ``__main__`` guard: a package that can be run has a ``__main__.py``."""
    guarded = {
        path.relative_to(ROOT).as_posix()
        for path, tree in modules().items()
        if any(isinstance(n, ast.If) and "__name__" in ast.unparse(n.test) for n in tree.body)
    }
    typed = {path for path in guarded if path.endswith("/__main__.py") or is_typed(ROOT / path)}
    assert guarded == typed
    scripts = {p.relative_to(ROOT).as_posix() for p in modules() if is_typed(p) and p.stem != "__init__"}
    assert scripts <= guarded, "a file directly in benchmarks/ is a script"


def test_benchmarks_know_no_method_by_name() -> None:
    """Learned methods are reached through the registry; entry scripts may have one as their default."""
    from core.registry import METHODS, discover

    discover()
    learned = {name for name, method in METHODS.items() if not method.__module__.startswith("benchmarks.")}
    assert "qres34m" in learned
    found = []
    for path, tree in modules().items():
        if path.relative_to(ROOT).parts[0] == "benchmarks" and not is_typed(path):
            words = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in learned]
            found += [f"{path.relative_to(ROOT)}:{n.lineno} names {n.value}" for n in words]
    assert not found


def probes(tree: ast.Module) -> Iterator[int]:
    """Lines that ask an object for a name which its type does not declare."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            named = len(node.args) > 2 and isinstance(node.args[1], ast.Constant)
            if node.func.id == "hasattr" or (node.func.id == "getattr" and named):
                yield node.lineno


def test_experiments_ask_for_declared_capabilities_alone() -> None:
    """Protocols and fields with defaults (docs/extending.md), so that a method can see what it may offer."""
    trees = {path: tree for path, tree in modules().items() if path.relative_to(ROOT).parts[0] == "experiments"}
    assert not [f"{path.relative_to(ROOT)}:{line}" for path, tree in trees.items() for line in probes(tree)]
    assert len([*probes(ast.parse("hasattr(x, 'a')\ngetattr(x, 'b', 1)\ngetattr(x, name)"))]) == 2


def test_file_names() -> None:
    files = [path for path in modules() if "site-packages" not in path.parts]
    hidden = [path for path in files if path.stem in sys.stdlib_module_names and path.stem != "__main__"]
    assert not hidden, "these hide the standard library when a script of their folder runs"
    assert not [path for path in files if path.stem.strip("_") in VAGUE], "a name that says what is inside, please"


def after(imports: str) -> set[str]:
    """Top-level modules that are loaded after some imports in a fresh interpreter."""
    code = f"{imports}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_report_needs_no_torch() -> None:
    rooms = ("store", "curves", "tables", "figures", "page")
    here = sorted(f"{room}.{p.stem}" for room in rooms for p in (ROOT / "benchmarks" / room).glob("[a-z]*.py"))
    here = [*here, "report", "bd_table"]
    assert len(here) > 20
    loaded = after("import " + ", ".join(f"benchmarks.{name}" for name in here))
    assert not loaded & {"torch", "tensorflow", "sacred", "constriction", *FAMILIES}


def test_core_is_light_and_compiles_nothing() -> None:
    names = sorted(path.stem for path in (ROOT / "core").glob("*.py") if path.stem != "__init__")
    watch = (
        "import os, subprocess, sys\n"
        "def stop(event, arguments):\n"
        "    if event in ('subprocess.Popen', 'os.system', 'os.posix_spawn', 'socket.connect'):\n"
        "        raise SystemExit(f'{event} {arguments}')\n"
        "import torch  # asks the machine for its processor when imported\n"
        "sys.addaudithook(stop)\n"
    )
    loaded = after(watch + "import core\nimport " + ", ".join(f"core.{name}" for name in names))
    assert not loaded & {*HEAVY, "torchac", "benchmarks", "experiments", *FAMILIES}


def test_discovery_imports_neither_tensorflow_nor_plots() -> None:
    loaded = after("from core.registry import discover; discover()\nfrom benchmarks import datasets")
    assert "qres" in loaded
    assert not loaded & {"tensorflow", "tensorflow_datasets", "keras", "torch", "pandas", "matplotlib", "sacred"}


RUN = """
import runpy, sys
sys.argv = {words}
sys.path.insert(0, "benchmarks")
try:
    runpy.{run}(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_help_of_a_family_imports_nothing_that_takes_long(family: str) -> None:
    loaded = after(RUN.format(words=[family, "help"], run="run_module"))
    assert family in loaded
    assert not loaded & {"torch", "pandas", "matplotlib", "scipy", "sacred", "requests", "constriction"}


@pytest.mark.parametrize("script", ["rd_curve", "match_rate", "lossless_table", "codebook_usage", "speed", "verify"])
def test_help_of_a_script_imports_no_networks(script: str) -> None:
    loaded = after(RUN.format(words=[f"benchmarks/{script}.py", "help"], run="run_path"))
    assert "sacred" in loaded
    assert not loaded & {"torch", "matplotlib", "seaborn", "scipy"}


def test_a_curve_that_is_there_needs_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    words = ["with", "method=qres3m_vr", "points=16", "limit=1", "keep_images=False", f"results={tmp_path}"]
    command = [sys.executable, "benchmarks/rd_curve.py", *words]
    first = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    loaded = after(RUN.format(words=["benchmarks/rd_curve.py", *words], run="run_path"))
    assert "sacred" in loaded
    assert not loaded & {"torch", "matplotlib", "seaborn", "scipy", "constriction", "sqlalchemy"}
