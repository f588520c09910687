"""The report page, in a real browser: every switch works, nothing is loaded from anywhere, hostile text stays text."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from benchmarks.store import Store
from tests.support.chromium import Chromium
from tests.support.report_page import embedded, needs_chromium
from tests.support.report_samples import COMMIT, HOSTILE, image_name


@needs_chromium
def test_hostile_names_stay_text(opened: Chromium) -> None:
    assert opened.run("window.hacked") is None
    assert opened.run("document.querySelectorAll('img[src=x]').length") == 0
    assert HOSTILE in opened.run("document.getElementById('rd-legend').textContent")
    assert HOSTILE in opened.run("document.getElementById('provenance-table').textContent")


@needs_chromium
def test_the_legend_hides_and_shows_a_curve(opened: Chromium) -> None:
    count = "document.querySelectorAll('#rd-chart .scatterlayer .trace').length"
    before = opened.run(count)
    opened.click("#rd-legend li:nth-child(2) input")
    assert opened.run(count) == before - 1
    opened.click("#rd-legend li:nth-child(2) input")
    assert opened.run(count) == before
    opened.click("[data-show=measured]")
    assert opened.run(count) == 4
    line = "#rd-chart .scatterlayer .trace:nth-child(2) .js-line"
    opened.hover("#rd-legend li:nth-child(1) input")
    opened.until(f"getComputedStyle(document.querySelector('{line}').closest('.trace')).opacity < 0.5")
    opened.click("[data-show=none]")
    assert opened.run(count) == 0
    opened.click("[data-show=all]")
    assert opened.run(count) > 40


@needs_chromium
def test_hover_and_click_tell_what_is_behind_a_point(opened: Chromium) -> None:
    opened.click("[data-show=measured]")
    opened.hover("#rd-chart .scatterlayer .trace:nth-child(1) .point:nth-child(3)")
    opened.until("document.querySelector('#rd-chart .hoverlayer').textContent.includes('alpha')")
    text = opened.run("document.querySelector('#rd-chart .hoverlayer').textContent")
    for part in ("point 2", "PSNR [dB]", "MS-SSIM [dB]", "checkpoint alpha-ckpt", "method=alpha dataset=kodak"):
        assert part in text
    opened.click("#rd-points summary")
    opened.click("#rd-points tbody tr:nth-child(2) button")
    picked = opened.run("document.getElementById('picked').textContent")
    assert "alpha-ckpt" in picked and "with uncommitted changes" not in picked and "0123456789abcdef" in picked


@needs_chromium
def test_metric_and_data_set_switch(opened: Chromium) -> None:
    axis = "document.querySelector('#rd-chart .ytitle').textContent"
    assert opened.run(axis) == "PSNR [dB]"
    opened.click("#metric label:nth-child(2)")
    assert opened.run(axis) == "MS-SSIM [dB]"
    opened.choose("#dataset", "CIFAR-10")
    assert opened.run("document.getElementById('rd-chart').hidden")
    assert "No MS-SSIM" in opened.run("document.getElementById('rd-notes').textContent")
    opened.click("#metric label:nth-child(1)")
    assert opened.run("document.querySelectorAll('#rd-legend li').length") == 4
    assert "a subset" in opened.run("document.getElementById('rd-title').textContent")
    opened.run("document.querySelector('#metric input:checked').focus()")
    opened.key("ArrowRight")
    assert "No MS-SSIM" in opened.run("document.getElementById('rd-notes').textContent")


@needs_chromium
def test_the_anchor_switch_shows_what_python_computed(opened: Chromium, page: Path) -> None:
    bd = embedded(page)["groups"][0]["bd"]["psnr"]
    for anchor in ("alpha", "gamma"):
        opened.choose("#anchor", anchor)
        index, test = bd["names"].index(anchor), bd["names"].index("beta")
        row = next(r for r in bd["rows"] if r[0] == index and r[1] == test)
        cells = opened.run(
            "[...document.querySelectorAll('#bd-rates tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
            ".find((r) => r[0] === 'beta')"
        )
        assert float(cells[1].replace("−", "-")) == pytest.approx(row[2], abs=0.006)
        assert [float(v.replace("−", "-")) for v in cells[2].split(" to ")] == pytest.approx(row[8:10], abs=0.006)
        assert cells[5] == "5 / 5" and "–" in cells[4]
        assert opened.run("document.querySelectorAll('#bd-chart .bars .point').length") > 5


@needs_chromium
def test_the_matrix_chooses_an_anchor_and_speed_follows(opened: Chromium, page: Path) -> None:
    opened.click("#bd-matrix summary")
    opened.until("document.querySelectorAll('#matrix tbody tr').length > 3")
    opened.run("[...document.querySelectorAll('#matrix thead button')].find((b) => b.textContent === 'beta').click()")
    assert opened.run("document.getElementById('anchor').selectedOptions[0].text") == "beta"
    rows = (
        "[...document.querySelectorAll('#speeds tbody tr')].map((r) => [...r.cells].map((c) => c.textContent.trim()))"
    )
    bd = embedded(page)["groups"][0]["bd"]["psnr"]
    pair = [bd["names"].index("beta"), bd["names"].index("gamma")]
    expected = next(r[2] for r in bd["rows"] if r[:2] == pair)
    found = {row[0]: row[1:] for row in opened.run(rows)}
    assert float(found["gamma"][2]) == pytest.approx(expected, abs=0.006) and found["beta"][2] == "0.00"
    assert list(found)[:2] == ["alpha", "beta"] and found["alpha"][:2] == ["0.500", "0.100"]
    opened.click("#speed-of label:nth-child(1)")
    assert opened.run(rows)[-1][0] == "alpha"  # the slowest to encode
    opened.until("document.querySelector('#speed-chart .xtitle').textContent.startsWith('encoding')")


@needs_chromium
def test_arrow_keys_walk_over_the_chart(opened: Chromium) -> None:
    opened.click("[data-show=measured]")
    opened.run("document.getElementById('rd-chart').focus()")
    opened.key("ArrowRight")
    picked = "document.getElementById('picked').textContent"
    assert "alpha" in opened.run(picked) and "point1" in opened.run(picked)
    opened.key("ArrowDown")
    assert "beta" in opened.run(picked) and "with uncommitted changes" in opened.run(picked)


@needs_chromium
@pytest.mark.parametrize("box", ["usage-box", "toy-stored", "overhead-stored"])
def test_a_stored_figure_is_drawn_hidden_and_saved(opened: Chromium, box: str) -> None:
    traces = f"document.querySelectorAll('#{box} .scatterlayer .trace').length"
    opened.run(f"document.getElementById('{box}').scrollIntoView()")
    opened.until(f"{traces} > 0")
    before = opened.run(traces)
    checked = f"document.querySelector('#{box} .legend li:nth-child(1) input')"
    opened.run(f"{checked}.focus()")
    opened.key(" ")
    assert not opened.run(f"{checked}.checked") and opened.run(traces) == before - 1
    lines = unquote(opened.run(f"document.querySelector('#{box} .actions a').href").partition(",")[2]).splitlines()
    assert lines[0].startswith("figure,curve,source,point,") and len(lines) > before
    if box == "overhead-stored":
        opened.run(f"document.querySelector('#{box} details summary').focus()")
        opened.key(" ")  # a click could miss: charts above are still being drawn
        opened.until(f"document.querySelectorAll('#{box} details tbody tr').length === 2")
    if box == "toy-stored":
        opened.until(f"document.querySelector('#{box} .picture img').naturalWidth === 40")


@needs_chromium
def test_sections_without_results_are_not_shown(opened: Chromium) -> None:
    assert opened.run("document.getElementById('other').hidden && document.querySelector('a[href=\"#other\"]').hidden")
    assert not opened.run("document.getElementById('overhead').hidden")


@needs_chromium
def test_images_with_slider_difference_and_numbers(opened: Chromium, results: Store) -> None:
    opened.until("[...document.querySelectorAll('#stage img')].map((i) => i.naturalWidth).join() === '32,32'")
    at = "document.getElementById('stage').style.getPropertyValue('--at')"
    assert opened.run(at) == "50%"
    opened.run("document.getElementById('divider').focus()")
    opened.key("ArrowRight")
    assert opened.run(at) == "50.5%"
    opened.drag("#stage .stack", 0.25)
    assert float(opened.run(at).rstrip("%")) == pytest.approx(25, abs=1)
    opened.click("#view label:nth-child(3)")
    assert opened.run("getComputedStyle(document.querySelector('#stage .diff img + img')).mixBlendMode") == "difference"
    opened.choose("#method-a", "beta")
    assert opened.run("document.querySelectorAll('#stage img').length") == 0
    assert "method=beta dataset=kodak" in opened.run("document.getElementById('missing').textContent")
    opened.choose("#image", image_name(1))
    key = opened.run("document.getElementById('point-a').value")
    bpp = results.read(key).images.set_index("image").loc[image_name(1), "bpp"]
    assert opened.run("document.querySelector('#image-numbers tbody .num').firstChild.data") == f"{bpp:.4f}"


@needs_chromium
def test_a_data_set_without_pictures_leads_to_one_that_has_them(opened: Chromium) -> None:
    opened.choose("#dataset", "CIFAR-10")
    assert opened.run("document.querySelectorAll('#stage img').length") == 0
    assert opened.run("document.querySelector('#missing button').textContent") == "Kodak"
    opened.click("#missing button")
    assert opened.run("document.getElementById('dataset').selectedOptions[0].text") == "Kodak"
    opened.until("document.querySelectorAll('#stage img').length === 2")


@needs_chromium
def test_no_name_in_the_speed_chart_covers_another(opened: Chromium) -> None:
    opened.run("document.getElementById('speed-chart').scrollIntoView()")
    opened.until("document.querySelectorAll('#speed-chart .textpoint text').length > 1")
    boxes = opened.run(
        "[...document.querySelectorAll('#speed-chart .textpoint text')].map((t) => t.getBoundingClientRect())"
        ".map((b) => [b.left, b.top, b.right, b.bottom])"
    )
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert all(a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for a, b in pairs)


@needs_chromium
def test_the_csv_holds_the_points_of_the_figure(opened: Chromium, page: Path) -> None:
    link = opened.run("document.getElementById('rd-csv').href")
    lines = unquote(link.partition(",")[2]).splitlines()
    series = embedded(page)["groups"][0]["figures"]["psnr"]["series"]
    assert len(lines) == 1 + sum(len(s["x"]) for s in series)
    assert lines[0].startswith("data_set,curve,source,cell,reference,point,") and lines[1].startswith(
        "Kodak,alpha,measured,"
    )
    assert lines[0].endswith(",checkpoint,commit,command") and f"alpha-ckpt,{COMMIT},python benchmarks/" in lines[1]
    for link in ("bd-csv", "speed-csv", "lossless-csv"):
        assert opened.run(f"document.getElementById('{link}').href").count("%0A") > 2


@needs_chromium
def test_provenance_is_filtered_and_opened(opened: Chromium) -> None:
    opened.run(
        "(() => { const f = document.getElementById('filter'); f.value = 'beta cifar10';"
        "f.dispatchEvent(new Event('input')); })()"
    )
    assert opened.run("document.getElementById('filter-count').textContent").startswith("5 of ")
    opened.click("#cells tbody tr:nth-child(1) button")
    text = opened.run("document.querySelector('#cells tr.detail').textContent")
    assert "method=beta dataset=cifar10" in text and "with uncommitted changes" in text and "numpy 2.4.6" in text


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_with_enough_contrast(opened: Chromium, page: Path, dark: bool) -> None:
    opened.size(360, 740, dark=dark, mobile=True)
    opened.open(page)
    opened.until("document.querySelectorAll('#rd-chart .scatterlayer .trace').length > 0")
    assert opened.run("document.documentElement.scrollWidth") <= 360
    shade = "getComputedStyle(document.body).getPropertyValue"
    ratios = [
        _contrast(opened.run(f"{shade}('--{a}')"), opened.run(f"{shade}('--card')"))
        for a in ("ink", "soft", "accent", "bad")
    ]
    assert min(ratios) >= 4.5
    opened.run("document.getElementById('usage-box').scrollIntoView()")
    opened.until("document.querySelector('#usage-box .xtitle')")  # the longest title of all axes
    left, right = opened.run(
        "(() => { const b = document.querySelector('#usage-box .xtitle').getBoundingClientRect();"
        "const c = document.querySelector('#usage-box .chart').getBoundingClientRect();"
        "return [b.left - c.left, c.right - b.right]; })()"
    )
    assert left >= 0 and right >= 0


def _contrast(first: str, second: str) -> float:
    """WCAG contrast of two '#rrggbb' colours."""

    def luminance(color: str) -> float:
        parts = [int(color.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)
