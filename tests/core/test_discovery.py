"""Discovery: files and packages that add methods, and ones that fail, which take nobody else's methods with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import registry
from core.registry import METHODS, UnknownName, Unusable, discover, make_method, method_packages

ROOT = Path(__file__).resolve().parents[2]
METHOD = """
from dataclasses import dataclass
{imports}
from core.codec import Method
from core.registry import METHODS


@METHODS.register("{name}")
@dataclass(frozen=True)
class Added(Method):
    pass
{end}
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in the place of the one that the packages lie in; the registry is as before afterwards."""
    before = {*sys.modules}
    discover()
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    monkeypatch.setattr(METHODS, "_items", dict(METHODS))
    monkeypatch.setattr(METHODS, "refused", {})
    monkeypatch.syspath_prepend(tmp_path)
    method_packages.cache_clear()
    yield tmp_path
    method_packages.cache_clear()
    for name in {*sys.modules} - before:
        if name.partition(".")[0].endswith("_family"):
            del sys.modules[name]


def package(tree: Path, name: str, marked: bool = True) -> Path:
    (tree / name).mkdir()
    (tree / name / "__init__.py").write_text('"""A family."""\n' + "TESSERA_METHODS = True\n" * marked)
    return tree / name


def method(path: Path, name: str, imports: str = "", end: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(METHOD.format(name=name, imports=imports, end=end))


def test_the_families_of_the_suite_are_found() -> None:
    assert {"lattice", "overfit", "qres", "rec", "vq", "benchmarks"} <= {*method_packages()}
    assert {"qres.methods", "vq.mcquic.methods", "benchmarks.classical.methods"} <= {*discover()}
    assert not [m for m in discover() if m.startswith(("core.", "experiments."))]


def test_a_dropped_file_adds_a_method_and_other_files_are_not_imported(tree: Path) -> None:
    family = package(tree, "new_family")
    method(family / "deep" / "added.py", "added_method")
    (family / "deep" / "network.py").write_text("raise SystemExit('imported without need')\n")
    method(family / "_private.py", "private_method")
    method(package(tree, "other_family", marked=False) / "methods.py", "unmarked_method")
    assert "new_family.deep.added" in discover.__wrapped__()
    assert METHODS["added_method"].__module__ == "new_family.deep.added"
    assert not {"private_method", "unmarked_method"} & {*METHODS} and not METHODS.refused


@pytest.mark.parametrize(
    ("imports", "end", "words"),
    [
        ("import msgpack_absent.sub", "", "the package msgpack_absent is not installed: pip install msgpack_absent"),
        ("from core.codec import Nothing", "", "ImportError: cannot import name"),
        ("def f(:", "", "SyntaxError"),
        ("", "1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "", "SystemExit: 3"),
    ],
)
def test_a_broken_file_is_left_out_with_its_reason(tree: Path, imports: str, end: str, words: str) -> None:
    family = package(tree, "some_family")
    method(family / "bad.py", "bad_method", imports, end)
    method(family / "good.py", "good_method")
    assert "some_family.good" in discover.__wrapped__()
    assert "good_method" in METHODS and "bad_method" not in METHODS and "jpeg" in METHODS
    with pytest.raises(Unusable, match=r"method 'bad_method' cannot be used: some_family.bad cannot be imp") as error:
        make_method("bad_method")
    assert words in str(error.value)
    with pytest.raises(UnknownName, match=r"unknown method 'good_methd': did you mean .*good_method.*some_family.bad"):
        make_method("good_methd")


def test_a_second_method_of_a_name_is_left_out_and_said_where_it_is_asked_for(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = package(tree, "copy_family")
    method(family / "methods.py", "first_of_copies")
    with (family / "methods.py").open("a") as file:
        file.write('\n\n@METHODS.register("jpeg")\nclass Mine(Method):\n    pass\n')
    discover.__wrapped__()
    assert METHODS["jpeg"].__module__ == "benchmarks.classical.methods" and "first_of_copies" not in METHODS
    for _ in range(2):
        make_method("webp")
        make_method("jpeg")
    said = capsys.readouterr().err
    assert said == (
        "note: copy_family.methods cannot be imported here (Taken: method 'jpeg' is registered twice, by "
        "benchmarks.classical.methods and by copy_family.methods); jpeg is the one of benchmarks.classical.methods.\n"
    )


ENTRY = """
import sys
from core.registry import METHODS, discover

discover()
print(len(METHODS) > 40, *METHODS.refused.values(), sep="\\n")
"""


def test_a_broken_entry_point_is_a_sentence(tmp_path: Path) -> None:
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tessera.methods]\ndct = broken_plugin\nlost = json:nothing\n")
    (tmp_path / "broken_plugin.py").write_text("import package_that_is_absent\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + ENTRY
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    first, broken, lost = done.stdout.splitlines()
    assert first == "True"
    assert "broken_plugin cannot be imported here (the package package_that_is_absent is not installed" in broken
    assert lost.startswith("json:nothing cannot be imported here (AttributeError")


def test_commands_say_what_is_left_out(tmp_path: Path) -> None:
    """A broken file beside the families of a copy of the suite: help, an evaluation of several, and of it alone."""
    for name in ("core", "qres", "benchmarks", "experiments", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    family = package(tmp_path, "vq")
    (family / "__main__.py").write_text("from experiments.family import main\nmain('vq')\n")
    method(family / "broken.py", "broken_method", "import package_that_is_absent")
    start = f"import pathlib, runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); import core.registry; "
    start += f"core.registry.ROOT = pathlib.Path({str(tmp_path)!r}); "

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        text = f"{start}sys.argv[:] = {list(words)}; runpy.run_module(sys.argv[0], run_name='__main__')"
        return subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)

    shown = run("vq", "help")
    assert shown.returncode == 0, shown.stderr
    assert (
        "left out: broken_method vq.broken cannot be imported here (the package package_that_is_absent is not"
        in " ".join(shown.stdout.split())
    )
    options = ("with", "limit=1", "keep_images=False", f"results={tmp_path / 'results'}")
    several = run("vq", "evaluate", *options, "methods=broken_method,png")
    assert several.returncode == 0, several.stderr
    assert "png" in several.stdout and "skipped: method 'broken_method' cannot be used: vq.broken" in several.stdout
    alone = run("vq", "evaluate", *options, "method=broken_method")
    assert alone.returncode == 2 and "Traceback" not in alone.stderr
    assert "skipped: method 'broken_method' cannot be used: vq.broken cannot be imported here" in alone.stdout
    lazy = METHOD.replace("    pass", "    def codec(self, model=None):\n        import package_that_is_absent.part")
    (family / "lazy.py").write_text(lazy.format(name="lazy_method", imports="", end=""))
    used = run("vq", "evaluate", *options, "methods=lazy_method,png")
    assert used.returncode == 1 and "png" in used.stdout and "Traceback" not in used.stderr
    assert "failed: lazy_method" in used.stderr and "pip install package_that_is_absent" in used.stderr
