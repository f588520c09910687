"""The house rules that a program can check: small units, public docstrings, nothing of the machine it was made on."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "benchmarks", "experiments", "qres", "vq", "rec", "lattice", "overfit", "tessera")
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


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _public(tree: ast.Module) -> list[tuple[ast.ClassDef | None, ast.stmt]]:
    """Public functions and classes of a module, and the public methods of its public classes, each with its class."""
    top = [n for n in tree.body if isinstance(n, Function | ast.ClassDef) and not n.name.startswith("_")]
    inner = [(c, n) for c in top if isinstance(c, ast.ClassDef) for n in c.body if isinstance(n, Function)]
    return [*((None, n) for n in top), *((c, n) for c, n in inner if not n.name.startswith("_"))]


@dataclass(frozen=True)
class Tree:
    """The classes of some modules, by their full names, and what each module calls by which name."""

    classes: Mapping[str, ast.ClassDef]
    names: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, modules: Mapping[str, ast.Module]) -> Tree:
        """The classes of parsed modules, by the modules' names."""
        classes, names = {}, {}
        for module, tree in modules.items():
            names[module] = mine = {n.name: f"{module}.{n.name}" for n in tree.body if isinstance(n, ast.ClassDef)}
            classes |= {f"{module}.{n.name}": n for n in tree.body if isinstance(n, ast.ClassDef)}
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and not node.level:
                    mine |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        return cls(classes, names)

    def bases(self, module: str, cls: ast.ClassDef) -> Iterator[ast.ClassDef]:
        """The classes here that one is derived from, however far up."""
        for expression in cls.bases:
            full = self._full(module, expression)
            while full not in self.classes and full.rpartition(".")[2] in self.names.get(full.rpartition(".")[0], {}):
                full = self.names[full.rpartition(".")[0]][full.rpartition(".")[2]]  # imported there, too
            if full in self.classes and self.classes[full] is not cls:
                yield self.classes[full]
                yield from self.bases(full.rpartition(".")[0], self.classes[full])

    def _full(self, module: str, expression: ast.expr) -> str:
        if isinstance(expression, ast.Subscript):
            return self._full(module, expression.value)
        if isinstance(expression, ast.Attribute):
            return f"{self._full(module, expression.value)}.{expression.attr}"
        return self.names[module].get(expression.id, "") if isinstance(expression, ast.Name) else ""

    def described(self, module: str, cls: ast.ClassDef) -> set[str]:
        """Names of methods that a base documents; those of a codec are documented by the protocols of codecs."""
        bases = [*self.bases(module, cls)]
        if {"compress", "decompress"} <= {n.name for n in cls.body if isinstance(n, Function)}:
            bases += [c for name, c in self.classes.items() if re.match(r"core\.codec\.(Codec|Has)", name)]
        return {n.name for base in bases for n in base.body if isinstance(n, Function) and ast.get_docstring(n)}


@cache
def packages() -> tuple[dict[str, ast.Module], Tree]:
    """The parsed modules of the packages by name, and their classes."""
    parts = {path: path.relative_to(ROOT).with_suffix("").parts for path in sources()}
    modules = {
        ".".join(p[:-1] if p[-1] == "__init__" else p): ast.parse(path.read_text())
        for path, p in parts.items()
        if p[0] in PACKAGES
    }
    return modules, Tree.of(modules)


def bare(modules: Mapping[str, ast.Module], tree: Tree) -> list[str]:
    """What is public and has no docstring; a method that overrides a documented one needs none."""
    found = []
    for name, module in modules.items():
        first = (ast.get_docstring(module) or "").partition(" ")[0]
        riddle = first in ("What", "How", "Where", "Which")  # it begins with the noun that the module is
        found += [] if first and not riddle else [f"{name}: the module"]
        for cls, node in _public(module):
            if not ast.get_docstring(node) and (cls is None or node.name not in tree.described(name, cls)):
                found.append(f"{name}:{node.lineno} {node.name}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_have_docstrings(package: str) -> None:
    modules, tree = packages()
    mine = {name: module for name, module in modules.items() if name.partition(".")[0] == package}
    if not mine:
        pytest.skip(f"there is no {package}/ yet")
    assert not bare(mine, tree)


def test_an_override_of_a_documented_method_needs_no_docstring() -> None:
    base = "'Base.'\nclass A:\n    'd'\n    def f(self):\n        'd'\n    def g(self):\n        return 1"
    again = "'Again.'\nfrom p.base import A as Renamed"
    derived = (
        "'Derived.'\nfrom p import again\nfrom p.again import Renamed\n"
        "class B(Renamed):\n    'd'\n    def f(self): return 2\n    def g(self): return 2\n"
        "class C(again.Renamed[int]):\n    'd'\n    def f(self): return 3\n"
        "class D(Elsewhere):\n    'd'\n    def f(self): return 4"
    )
    modules = {name: ast.parse(text) for name, text in (("p.base", base), ("p.again", again), ("p.derived", derived))}
    assert bare(modules, Tree.of(modules)) == ["p.base:6 g", "p.derived:7 g", "p.derived:13 f"]


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
    assert [node.name for _, node in _public(tree)] == ["A", "f"]
