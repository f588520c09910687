"""Additions to MkDocs: pages and pictures from elsewhere in the repository, and API pages from docstrings.

In the site every file lies where it lies in the repository, those of docs/ at the top, so a link that works in the
repository works in the site once its target is written relative to that place.
"""

from __future__ import annotations

import posixpath
import re
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
    return sorted(_site(path) for path in found)


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
    for package in (path.parent for path in sorted(ROOT.glob("*/__init__.py")) if path.parent.name != "tests"):
        files.append(File.generated(config, f"api/{package.name}.md", content=_api(package)))
    return files


def _targets(page: Path) -> set[Path]:
    """The files of the repository that a page links to."""
    return {(page.parent / match[2]).resolve() for match in LINK.finditer(page.read_text())}


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
