"""The report page as its reader uses it: first view, legend, address, menu, bars, print, words in menus."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.page.sections import picture_title
from benchmarks.store import Store
from tests.support.chromium import Chromium
from tests.support.report_page import embedded, needs_chromium
from tests.support.report_samples import sample_results, write_cell


@needs_chromium
def test_the_first_view_has_pictures_that_lead_to_the_viewer(opened: Chromium) -> None:
    opened.until("[...document.querySelectorAll('#strip img')].every((i) => i.naturalWidth === 32)")
    assert opened.run("[...document.querySelectorAll('#strip span')].map((s) => s.textContent)")[1].startswith(
        "alpha, "
    )
    assert opened.run("document.getElementById('strip').getBoundingClientRect().bottom") < 900
    opened.click("#strip .card:nth-child(2)")
    opened.until("Math.abs(document.getElementById('images').getBoundingClientRect().top) < 200")
    assert opened.run("document.getElementById('method-a').selectedOptions[0].text") == "alpha"


@needs_chromium
def test_at_most_eight_curves_are_drawn_at_first_and_the_rest_is_in_a_fold(opened: Chromium, page: Path) -> None:
    group = embedded(page)["groups"][0]
    legend = "[...document.querySelectorAll('#rd-legend li')].length"
    assert opened.run(legend) == 8 == len(group["chosen"]["psnr"])
    rest = opened.run("document.querySelectorAll('#rd-rest li').length")
    assert rest + 8 == len(group["figures"]["psnr"]["series"])
    assert opened.run("document.querySelector('#rd-more summary').textContent") == f"{rest} more curves"
    assert (
        opened.run(
            "(() => { const u = document.getElementById('rd-legend'); return u.scrollHeight - u.clientHeight; })()"
        )
        <= 0
    )
    opened.click("#rd-more summary")
    opened.click("#rd-rest li:nth-child(1) input")
    assert opened.run("document.querySelectorAll('#rd-chart .scatterlayer .trace').length") == 9
    opened.click("[data-show=chosen]")
    assert opened.run(legend) == 8


@needs_chromium
def test_the_address_holds_the_state(browser: Chromium, page: Path, opened: Chromium) -> None:
    assert opened.run("location.hash") in ("", "#")
    opened.choose("#dataset", "CIFAR-10")
    opened.choose("#anchor", "gamma")
    opened.click("#rd-legend li:nth-child(1) input")
    hidden = opened.run("document.querySelector('#rd-legend li:nth-child(1)').textContent")
    opened.choose("#method-a", "beta")
    address = opened.run("location.hash")
    assert "set=cifar10" in address and "anchor=gamma" in address and "image=" in address
    browser.open(page, address)
    browser.until("document.readyState === 'complete' && document.querySelectorAll('#rd-chart .trace').length > 0")
    text = "document.getElementById('{}').selectedOptions[0].text"
    assert opened.run(text.format("dataset")).startswith("CIFAR-10") and opened.run(text.format("anchor")) == "gamma"
    assert opened.run(text.format("method-a")) == "beta"
    assert hidden not in opened.run("document.getElementById('rd-legend').textContent")
    browser.open(page, "#bd;set=nowhere;metric=x;curves=a;image=b")
    browser.until("document.readyState === 'complete' && document.getElementById('dataset').options.length > 1")
    assert opened.run(text.format("dataset")) == "Kodak"


@needs_chromium
@pytest.mark.parametrize("section", ["lossless", "toy"])
def test_the_menu_lands_on_its_section_of_a_fresh_page(opened: Chromium, section: str) -> None:
    opened.run(f"document.querySelector('nav a[href=\"#{section}\"]').click()")
    bar = "document.getElementById('controls').getBoundingClientRect().bottom"
    place = f"document.getElementById('{section}').getBoundingClientRect().top - {bar}"
    opened.until(f"Math.abs({place}) < 12")
    time.sleep(1)  # while charts above are drawn
    assert abs(opened.run(place)) < 12 and opened.run("location.hash").startswith(f"#{section}")


@needs_chromium
def test_bars_have_their_numbers(opened: Chromium) -> None:
    opened.choose("#anchor", "alpha")
    text = "[...document.querySelectorAll('#bd-chart .bartext')].map((t) => t.textContent)"
    opened.until(f"{text}.length > 2")
    numbers = opened.run(text)
    assert all(n.endswith(" %") for n in numbers) and any(n.startswith("+") for n in numbers)


@needs_chromium
def test_lossless_rates_are_sorted_one_set_at_a_time(opened: Chromium) -> None:
    rates = "[...document.querySelectorAll('#lossless-rates tbody .num')].map((c) => Number(c.textContent))"
    sets = opened.run("[...document.getElementById('lossless-set').options].map((o) => o.text)")
    assert "kodak (3 images)" in sets and len(sets) > 2
    for name in sets:
        opened.choose("#lossless-set", name)
        found = opened.run(rates)
        assert found and found == sorted(found)
    opened.choose("#lossless-set", "kodak (3 images)")
    said = opened.run("document.getElementById('lossless-rates').textContent")
    assert "exact" in said and "published" in said


@needs_chromium
def test_print_leaves_the_controls_out(opened: Chromium) -> None:
    shown = "['.bar', '.actions', '#rd-chart'].map((s) => getComputedStyle(document.querySelector(s)).display)"
    assert "none" not in opened.run(shown)
    opened.call("Emulation.setEmulatedMedia", {"media": "print"})
    assert opened.run(shown)[:2] == ["none", "none"] and opened.run(shown)[2] != "none"
    opened.call("Emulation.setEmulatedMedia", {"media": ""})


def test_methods_are_counted_as_methods(page: Path, results: Store) -> None:
    methods, variants = {c.cell.method for c in results.cells()}, {c.label for c in results.cells()}
    assert embedded(page)["stats"].startswith(f"{len(methods)} methods")
    assert len(variants) >= len(methods) and "measured up to 2026-11-21" in embedded(page)["stats"]


def test_menus_of_pictures_have_words(page: Path, tmp_path: Path) -> None:
    (picture,) = embedded(page)["stored"]["toy"]["pictures"]
    assert picture["title"] == "banana partitions"
    record = tmp_path / "qres_pictures" / "progressive-abcdef01.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"kind": "progressive", "title": "QRes 4M: level by level"}))
    assert picture_title(tmp_path, Path("pictures_qres3m_vr_progressive_abcdef01.png")) == "QRes 4M: level by level"
    assert (
        picture_title(tmp_path, Path("toy_banana_vecvq_high.gif")) == "banana VECVQ high rate: training as an animation"
    )


def test_a_page_that_is_older_than_the_results_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = sample_results(tmp_path, methods=("alpha",), datasets=(("kodak", "kodak", 2),), points=2, kept=False)
    words = ["with", f"results={tmp_path}", "figures=False"]
    assert report.main([*words, "check=True"]) == 2 and "there is no page" in capsys.readouterr().err
    assert report.main(words) == 0 and report.main([*words, "check=True"]) == 0
    assert "shows all results" in capsys.readouterr().out
    write_cell(store, "beta", 0, "kodak", "kodak", 2, 1.0)
    assert report.main([*words, "check=True"]) == 2
    assert "is older than the results: it lacks 1 of 4 results" in capsys.readouterr().err
    assert report.main(words) == 0 and "lacks 1 of 4 results: made again" in capsys.readouterr().out
    assert report.main([*words, "check=True"]) == 0
