"""The house rules that a program can check: small units, public docstrings, nothing of the machine it was made on."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "benchmarks", "experiments", "qres", "vq", "rec", "lattice", "tessera")
# Places of one machine; /home/me is made up.
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|Users|mnt|home(?!/me\b))/[.\w]")


@cache
def committed() -> list[Path]:
    """Files under version control, or, where there is no git, those of the packages and tests."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    return [path for folder in (*PACKAGES, "tests", "docs") for path in sorted((ROOT / folder).rglob("*.*"))]


def sources() -> list[Path]:
    return [path for path in committed() if path.suffix == ".py"]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    limit = 420 if path.is_relative_to(ROOT / "tests") else 350
    assert len(text.splitlines()) <= limit, "split this file"
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno + 1 > 60}
    assert not long, "split these functions"


def _public(tree: ast.Module) -> list[ast.stmt]:
    """Public functions and classes of a module, and the public methods of its public classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    top = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]
    inner = [n for c in top if isinstance(c, ast.ClassDef) for n in c.body if isinstance(n, kinds[:2])]
    return [*top, *(n for n in inner if not n.name.startswith("_"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_docstrings(package: str) -> None:
    files = [path for path in sources() if path.relative_to(ROOT).parts[0] == package]
    if not files:
        pytest.skip(f"there is no {package}/ yet")
    bare = []
    for path in files:
        tree = ast.parse(path.read_text())
        first = (ast.get_docstring(tree) or "").partition(" ")[0]
        riddle = first in ("What", "How", "Where", "Which")  # it begins with the noun that the module is
        bare += [] if first and not riddle else [f"{path}: the module"]
        bare += [f"{path}:{node.lineno} {node.name}" for node in _public(tree) if not ast.get_docstring(node)]
    assert not bare


def test_nothing_names_the_machine_it_was_made_on() -> None:
    binary = {".png", ".webp", ".pdf", ".safetensors", ".npz", ".woff2"}
    found = []
    for path in committed():
        if path.suffix in binary or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number} {m[0]}" for m in MACHINE.finditer(line)]
    assert not found


def test_the_checker_sees_what_it_should() -> None:
    assert MACHINE.search("open('/work/main/x')") and MACHINE.search("/home/ann/x") and MACHINE.search("/root/.cache")
    assert not MACHINE.search("https://example.org/work/x") and not MACHINE.search("a/b")
    tree = ast.parse("class A:\n    'd'\n    def f(self): pass\n    def _g(self): pass\ndef _h(): pass")
    assert [node.name for node in _public(tree)] == ["A", "f"]
