"""Additions to MkDocs: pages, notebooks and pictures from elsewhere, and API pages from docstrings.

In the site every file lies where it lies in the repository, those of docs/ at the top, so a link that works in the
repository works in the site once its target is written relative to that place. Notebooks are kept without outputs; with
``TESSERA_NOTEBOOKS=1`` they are run, and their pictures and texts shown.
"""

from __future__ import annotations

import base64
import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "checkpoints/*/README.md")
LINK = re.compile(r"(\]\()([\w./+-]+)(#[\w-]*)?(\))")


def on_config(config: Any) -> Any:
    """Replace patterns in the navigation by the files they match, in alphabetical order."""
    config.nav = [_filled(entry) for entry in config.nav]
    return config


def _filled(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {
        title: _matches(value) if isinstance(value, str) and "*" in value else value for title, value in entry.items()
    }


def _matches(pattern: str) -> list[str]:
    found = {path for folder in (ROOT / "docs", ROOT) for path in folder.glob(pattern)}
    return sorted(_site(path.with_suffix(".md") if path.suffix == ".ipynb" else path) for path in found)


def _site(path: Path) -> str:
    """The place in the site of a file of the repository."""
    return path.relative_to(ROOT).as_posix().removeprefix("docs/")


def on_files(files: Files, *, config: Any) -> Files:
    """Add pages and linked files from outside docs/, and a page of API documentation for each package."""
    outside = [path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern))]
    pages = [*outside, *sorted((ROOT / "docs").rglob("*.md"))]
    linked = {target for page in pages for target in _targets(page) if target.is_file()}
    for path in [*outside, *sorted(linked)]:
        if files.get_file_from_path(_site(path)) is None:
            files.append(File.generated(config, _site(path), abs_src_path=str(path)))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for name, content in _notebook(path):
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for package in (path.parent for path in sorted(ROOT.glob("*/__init__.py")) if path.parent.name != "tests"):
        files.append(File.generated(config, f"api/{package.name}.md", content=_api(package)))
    return files


def _targets(page: Path) -> set[Path]:
    """The files of the repository that a page links to."""
    return {(page.parent / match[2]).resolve() for match in LINK.finditer(page.read_text())}


def _notebook(path: Path) -> Iterator[tuple[str, str | bytes]]:
    """Files of the site for a notebook: its pictures, if it is run, and its page."""
    cells = _run(path) if os.environ.get("TESSERA_NOTEBOOKS") else json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts, count = [], 0
    for cell in cells:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                count += 1
                name = f"{path.stem}_{count}.png"
                yield name, base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Picture {count} of this notebook]({name})")
            elif said := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text\n{said}\n```")
    first, *rest = parts
    note = f"*This page is the notebook `notebooks/{path.name}`: `pip install jupyterlab`, `jupyter lab notebooks`.*"
    yield f"{path.stem}.md", "\n\n".join([first, note, *rest]) + "\n"


def _run(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook with what they print and draw, run in a folder that is thrown away."""
    import tempfile

    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return list(notebook.cells)


def _api(package: Path) -> str:
    """Directives for every public module of a package, after the package's own docstring."""
    names = [package.name]
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        public = not any(part.startswith("_") for part in parts) and "vendor" not in parts
        if public and (path.parent / "__init__.py").is_file():
            names.append(".".join(parts))
    whole = "    options: {members: false, show_root_heading: false}\n"
    directives = [f"::: {name}\n" + (whole if name == package.name else "") for name in names]
    return f"# {package.name}\n\n" + "\n".join(directives)


def on_page_markdown(markdown: str, *, page: Page, config: Any, files: Files) -> str:
    """Write links between files of the repository relative to their places in the site."""
    source = Path(str(page.file.abs_src_path)) if page.file.abs_src_path else None
    if source is None or not source.is_relative_to(ROOT):
        return markdown
    here = posixpath.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match[2]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            return match[0]  # MkDocs says what is wrong with it
        return f"{match[1]}{posixpath.relpath(_site(target), here or '.')}{match[3] or ''}{match[4]}"

    return LINK.sub(moved, markdown)
