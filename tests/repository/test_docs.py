"""The documentation: it builds without a warning, every link leads somewhere, citation and notice fit the rest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from core import checkpoint

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "checkpoints", "notebooks")
PAGES = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
FENCE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(
        r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """The links of a page's text that lead nowhere inside the repository."""
    found = []
    for target in LINK.findall(FENCE.sub("", text)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        there = path.exists() and path.is_relative_to(ROOT)
        if not there or (anchor and path.suffix == ".md" and anchor not in anchors(path.read_text())):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert not broken(page, page.read_text())


def test_the_checker_sees_broken_links():
    page = ROOT / "docs" / "extending.md"
    text = "[a](nowhere.md) [b](protocol.md#no-such-heading) [c](../../outside) [d](#a-method) `[e](code.md)`"
    assert broken(page, text) == ["nowhere.md", "protocol.md#no-such-heading", "../../outside"]
    assert not broken(page, "[a](protocol.md#published-curves) ![b](../README.md) [c](https://example.org/x)")


def build(folder: Path, config: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(target)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_site_builds_without_a_warning(tmp_path):
    done = build(ROOT, ROOT / "mkdocs.yml", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        assert (tmp_path / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    vq = (tmp_path / "methods" / "vqvae.html").read_text()
    (picture, *_) = re.findall(r'<img[^>]* src="([^"]+)"', vq)
    assert (tmp_path / "methods" / picture).is_file()
    api = (tmp_path / "api" / "core.html").read_text()
    assert "core.bitstream.unpack" in api and "What every method gives" in api
    page = (tmp_path / "index.html").read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?:', page)


def test_a_broken_link_stops_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[b](nowhere.md)\n")
    text = yaml.safe_dump({"site_name": "x", "validation": {"links": {"not_found": "warn"}}})
    (tmp_path / "mkdocs.yml").write_text(text)
    done = build(tmp_path, tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0 and "nowhere.md" in done.stdout + done.stderr


def test_every_method_page_is_reached_from_the_readme_or_another_page():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text())
    }
    assert not [page.name for page in (ROOT / "docs").rglob("*.md") if page not in linked and page.stem != "index"]


def test_the_citation_is_that_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["cff-version"] == "1.2.0" and citation["authors"] and citation["message"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= set(reference)


def test_the_notice_names_every_source_of_official_weights():
    notice = (ROOT / "NOTICE").read_text()
    official = [entry for entry in checkpoint.manifest() if entry["origin"] == "official"]
    sources = {re.match(r"github\.com/[\w-]+/[\w-]+", entry["source"])[0] for entry in official}
    assert len(sources) >= 3 and not [source for source in sources if source not in notice]
