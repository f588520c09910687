"""Figures as data, their rendering on paper, BD-rates of all pairs, and the report as a whole."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import report
from benchmarks.curves import curve as rd
from benchmarks.curves.bd import BDResult, bd_rate
from benchmarks.curves.bd_pairs import all_pairs
from benchmarks.curves.curve import Curve
from benchmarks.figures import choice, comparisons, labels, looks, paper, style
from benchmarks.figures import figure as figures
from benchmarks.figures.rd import bd_figure, rd_figure
from benchmarks.store import listing as written
from benchmarks.tables import results
from core.codec import TesseraError
from tests.support.report_samples import sample_results, stored_figures


def make(label: str, source: str = "measured", dataset: str = "kodak", gain: float = 0.0, points: int = 4) -> Curve:
    bpp = 0.2 * 2.0 ** np.arange(points)
    psnr = 30 + gain + 3.0 * np.arange(points)
    frame = pd.DataFrame(
        {"point": range(points), "bpp": bpp, "psnr": psnr, "ms_ssim": 1 - 10 ** (-psnr / 20), "ms_ssim_db": psnr / 2}
    )
    cells = tuple(f"{label}-{i}" for i in range(points)) if source == "measured" else ()
    return Curve(label, label, dataset, f"{dataset}, first 3", source, "somewhere", frame, cells)


def test_rd_figure_has_units_title_and_the_rows_behind_its_points() -> None:
    figure = rd_figure([make("a"), make("b", "published")], "psnr")
    assert (figure.x.text, figure.y.text) == ("rate [bits per pixel]", "PSNR [dB]")
    assert figure.title == "Kodak, first 3: PSNR over rate"
    first, second = figure.series
    assert first.x == pytest.approx([0.2, 0.4, 0.8, 1.6]) and first.y == (30, 33, 36, 39)
    assert first.cells == ("a-0", "a-1", "a-2", "a-3") and first.names == ("0", "1", "2", "3")
    assert first.rows[1]["ms_ssim_db"] == 16.5
    assert (first.legend, second.legend, second.cells) == ("a", "b (published)", ("",) * 4)


def seen(figure: figures.Figure) -> dict[str, tuple[int, int]]:
    return {s.legend: figures.look(s.style)[:2] for s in figure.series}


def test_a_method_has_one_colour_and_marker_wherever_it_is_drawn() -> None:
    alone, among = rd_figure([make("jpeg")]), rd_figure([make("a"), make("avif"), make("jpeg"), make("b")])
    assert seen(alone)["JPEG"] == seen(among)["JPEG"] != seen(among)["AVIF"]
    assert seen(rd_figure([make("a")]))["a"] == seen(among)["a"]  # what nobody knows has its own by its name
    vtm = seen(rd_figure([make("vtm"), make("vtm18", "published")]))
    assert vtm["VTM"] == vtm["VTM 18 (published)"]
    drawn = [style.line_style(s)["color"] for s in rd_figure([make("vtm"), make("vtm18", "published")]).series]
    lightness = [sum(bytes.fromhex(color[1:])) for color in drawn]
    assert lightness[1] > lightness[0] + 100
    variants = [make("jpeg"), *(replace(make(f"jpeg(subsampling=4:{i}:0)"), method="jpeg") for i in (2, 4))]
    looks_of = {figures.look(s.style) for s in rd_figure(variants[::-1]).series}
    assert len(looks_of) == 3 and len({found[:2] for found in looks_of}) == 1


def test_methods_say_their_names() -> None:
    assert looks.readable("qres3m_vr(target=ms_ssim) [ours]") == "QRes 4M, MS-SSIM [ours]"
    assert looks.readable("mcquic_small(context=False) [ours]") == "McQuic small, no context [ours]"
    assert looks.readable("jpeg(subsampling=4:4:4, quality=3)") == "JPEG, subsampling 4:4:4, quality 3"
    assert looks.readable("somebody_elses(a=1)") == "somebody_elses(a=1)"
    twins = [make("vtm18", "published"), replace(make("x", "published"), label="VTM 18")]
    assert set(looks.names(twins).values()) == {"vtm18", "VTM 18"}  # two of one name keep their labels
    assert (
        looks.heading("fashion_mnist, first 3 test") == "Fashion-MNIST, first 3 test" and looks.heading("x y") == "x y"
    )


def test_every_published_curve_has_a_name() -> None:
    from benchmarks.curves.curve import PUBLISHED

    documents = [json.loads(path.read_text()) for path in PUBLISHED.glob("*.json")]
    known = looks._known()["published"]
    ours = {e["name"] for d in documents for e in d.get("curves", [])}
    assert len(ours & set(known)) > 50
    titles = [name for name, _ in known.values()]
    assert len(set(titles)) == len(titles) and all(like in looks._known()["methods"] for _, like in known.values())


def test_a_panel_shows_the_best_of_each_kind() -> None:
    classical = [make(name) for name in ("jpeg", "webp", "avif", "vvc")]
    ours = [make(n) for n in ("qres34m_vr", "qres3m_vr", "irec2_small", "mcquic_small", "fsq", "fsq [ours, seed 1]")]
    ours[-1] = replace(ours[-1], method="fsq")
    cited = [make(name, "published") for name in ("bpg444", "vtm18", "qarv-paper", "elic-paper")]
    rates = {c.label: float(i) for i, c in enumerate([*classical[::-1], *ours])}
    picked = [c.label for c in choice.chosen([*classical, *ours, *cited], rates, ("vtm18", "qarv-paper"))]
    assert picked == ["avif", "vvc", "qres34m_vr", "irec2_small", "mcquic_small", "bpg444", "vtm18", "qarv-paper"]
    assert [c.label for c in choice.chosen(ours, rates)] == [c.label for c in ours]
    few = choice.chosen([*ours, *classical], rates, most=6)
    assert len(few) == 6 and "fsq [ours, seed 1]" not in [c.label for c in few]


def test_names_stand_at_their_lines_where_there_is_room() -> None:
    apart = [make("low"), make("high", gain=20)]
    canvas = paper.draw(rd_figure(apart))
    axes = canvas.axes[0]
    assert axes.get_legend() is None and sorted(t.get_text() for t in axes.texts) == ["high", "low"]
    same = [make(f"m{i}") for i in range(4)]
    axes = paper.draw(rd_figure(same)).axes[0]
    assert len(axes.get_legend().get_texts()) == 4 and not [t for t in axes.texts if t.get_visible()]


def test_a_name_covers_nothing() -> None:
    line = np.array([[0.0, 10.0], [300.0, 10.0]])
    other = line + np.array([0, 60])
    box = (0.0, 0.0, 300.0, 100.0)
    first, second = labels.places([line, other], [(50, 10), (50, 10)], box)
    assert first and second and abs(first[1] - second[1]) > 10
    for (x, y), own in ((first, 10), (second, 70)):
        assert 0 <= x <= 250 and not (y < own < y + 10) and not (y < 80 - own < y + 10)
    assert labels.places([line, line + np.array([0, 8])], [(50, 30), None], (0, 0, 300, 40)) == [None, None]


def test_long_bars_are_cut_and_short_ranges_marked() -> None:
    good = BDResult(-5.0, 0.2, 30, 40, 4, 4, "pchip", (-6.0, -4.0), True)
    found = {"good": good, "long": replace(good, rate_percent=845.0, low=30, high=30.5, interval=None)}
    more = {**found, **{f"m{i}": replace(good, rate_percent=float(i), interval=None) for i in range(5)}}
    figure = bd_figure(more, "anchor", "psnr", "kodak", "kodak", {"good": "A", "anchor": "VTM"})
    assert figure.clip == 150 and figure.series[0].names[-1] == "long †" and figure.series[0].names[0] == "A"
    assert any("less than 1 dB" in n for n in figure.notes) and any("cut at +150 %" in n for n in figure.notes)
    bars = [bar.get_width() for bar in paper.draw(figure).axes[0].patches]
    assert max(bars) == 150 and min(bars) == -5
    assert "+845.0 %" in [text.get_text() for text in paper.draw(figure).axes[0].texts]
    assert figures.as_data(figure)["clip"] == 150
    assert results.range_text(more["long"], "psnr") == "30.00 to 30.50 †" and "†" not in results.range_text(
        good, "psnr"
    )


@pytest.mark.parametrize("width", ["page", "column"])
def test_a_figure_is_as_wide_as_it_will_be_printed(tmp_path: Path, width: str) -> None:
    figure = replace(rd_figure([make(f"m{i}", gain=i) for i in range(6)]), notes=("a note",))
    _, png, *_ = paper.render(figure, tmp_path, width=width)
    with Image.open(png) as picture:
        assert picture.width == pytest.approx(200 * style.WIDTHS[width], abs=1)
    with pytest.raises(TesseraError, match="page or column"):
        paper.render(figure, tmp_path, width="wide")


def test_one_figure_shows_one_data_set() -> None:
    with pytest.raises(ValueError, match="clic, kodak"):
        rd_figure([make("a"), make("b", dataset="clic")])


def test_points_without_the_metric_are_left_out_and_told() -> None:
    short, none = make("short"), make("none")
    short.points.loc[0, "psnr"] = math.inf
    short.points.loc[2, "psnr"] = math.nan
    none.points["psnr"] = math.nan
    figure = rd_figure([short, none, replace(make("exact"), lossless=True)])
    assert [(s.label, s.names, s.cells) for s in figure.series] == [("short", ("1", "3"), ("short-1", "short-3"))]
    assert figure.notes == ("without PSNR: none",)
    assert rd_figure([none]).window is None


def test_no_two_of_many_curves_look_alike() -> None:
    looks = [figures.look(style) for style in range(200)]
    assert len(set(looks)) == 200
    drawn = [style.line_style(figures.Series("s", (0.0,), (0.0,), "measured", i)) for i in range(200)]
    assert len({(d["color"], d["marker"], str(d["linestyle"])) for d in drawn}) == 200


def test_the_legend_reads_as_the_lines_lie() -> None:
    figure = rd_figure([make("low"), make("high", gain=2), make("middle", "published", gain=1)])
    figure = replace(figure, series=(*figure.series, *(replace(s, label=f"{s.label} 2") for s in figure.series * 2)))
    assert [figure.series[i].label for i in figure.order][::3] == ["high", "middle", "low"]
    handles = paper.draw(figure).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in handles][::3] == ["high", "middle (published)", "low"]


def test_the_figure_lies_beside_its_pictures(tmp_path: Path) -> None:
    figure = rd_figure([make("a"), make("b", "published")])
    data = json.loads(paper.render(figure, tmp_path)[-1].read_text())
    assert [s["legend"] for s in data["series"]] == ["a", "b (published)"] and data["order"] == [0, 1]
    assert data["series"][0]["x"] == pytest.approx([0.2, 0.4, 0.8, 1.6]) and data["series"][0]["cells"][0] == "a-0"
    assert data["x"] == {"label": "rate", "unit": "bits per pixel", "log": False} and len(data["window"]) == 4


def test_speed_and_single_images_as_figures(tmp_path: Path) -> None:
    store = sample_results(tmp_path, kept=False)
    curves = [c for c in rd.measured(store, "kodak") if not c.lossless]
    pairs = all_pairs(curves, "psnr", resamples=0)
    figure = comparisons.speed_figure([*curves, make("p", "published")], pairs, "alpha", "psnr", "decode_s", "kodak")
    assert [s.label for s in figure.series] == ["alpha", "beta", "gamma"] and not figure.x.log
    assert figure.series[0].y == (0.0,) and figure.series[1].y == (pairs["alpha", "beta"].rate_percent,)
    assert [s.x[0] for s in figure.series] == pytest.approx([0.1, 0.13, 0.169])
    dots = comparisons.images_figure(curves, "psnr", "kodak")
    assert dots.kind == "scatter" and [len(s.x) for s in dots.series] == [3, 3, 3]
    cell = store.read(dots.series[1].cells[0])
    assert dots.series[1].label == f"beta at {cell.cell.point}" and dots.series[1].names == tuple(cell.images["image"])
    assert dots.series[1].y == tuple(cell.images["psnr"])
    assert all(len(paper.render(f, tmp_path / "drawn")) == 3 for f in (figure, dots))


def test_lossless_bars_have_published_ones_between_them(tmp_path: Path) -> None:
    store = sample_results(tmp_path, kept=False)
    (second,) = comparisons.lossless_figures(results.lossless_table(store))  # of one bar there is no figure
    names = dict(zip(second.series[0].names, second.series[0].x, strict=True))
    assert names["exact"] == pytest.approx(store.cells(method="exact", dataset="kodak")[0].means["bpd"])
    assert second.name == "lossless_kodak_3_images" and {s.source for s in second.series} == {"measured", "published"}
    places = sorted((y, x) for s in second.series for x, y in zip(s.x, s.y, strict=True))
    assert [x for _, x in places] == sorted(x for _, x in places)
    assert second.title == "Kodak (3 images): lossless rate" and len(paper.render(second, tmp_path / "drawn")) == 3


def test_what_is_written_no_longer_goes_and_nothing_else(tmp_path: Path) -> None:
    listing, outside = tmp_path / "r" / "list.json", tmp_path / "outside.txt"
    files = [tmp_path / "r" / name for name in ("kept.csv", "old.csv", "changed.csv", "gone.csv", "foreign.csv")]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    outside.write_text("outside")
    assert written.replace(listing, files[:4], tmp_path / "r") == []
    files[2].write_text("another command wrote this")
    files[3].unlink()
    known = json.loads(listing.read_text())
    listing.write_text(json.dumps(known | {"../outside.txt": written._digest(outside), str(outside): "x"}))
    assert written.replace(listing, files[:1], tmp_path / "r") == [files[1]]
    assert [p.exists() for p in (*files, outside)] == [True, False, True, False, True, True]
    listing.write_text("damaged")
    assert written.replace(listing, [], tmp_path / "r") == [] and files[0].exists()


def test_the_report_removes_its_files_of_old_names_only(tmp_path: Path) -> None:
    store = sample_results(tmp_path, methods=("alpha",), datasets=(("kodak", "kodak", 2),), points=2, kept=False)
    report.build_report(store.root, published=())
    theirs = tmp_path / "figures" / "rd_kodak_alpha_psnr.pdf"
    theirs.write_bytes(b"of another command")
    old = sorted(p for p in (tmp_path / "tables").glob("*") if "kodak" in p.name)
    assert old and (tmp_path / "figures" / "rd_kodak_psnr.json").is_file()
    for result in store.cells(dataset="kodak"):
        shutil.rmtree(store.path(result.key))
    report.build_report(store.root, published=())
    assert [p for p in old if p.exists()] == [] and list((tmp_path / "figures").iterdir()) == [theirs]


def test_the_window_follows_the_measured_curves() -> None:
    left, right, bottom, top = rd_figure([make("a"), make("p", "published", points=8)]).window or (0,) * 4
    assert (left, right) == (0, pytest.approx(1.6 * 1.04)) and bottom < 30 and 39 < top < 42


def test_a_curve_beyond_uncompressed_images_hides_no_other() -> None:
    far = make("dense")
    far = replace(far, points=far.points.assign(bpp=far.points["bpp"] + 288))
    figure = rd_figure([make("near"), far])
    assert [s.label for s in figure.series] == ["near"] and "dense at 288 bits per pixel" in figure.notes[-1]
    assert [s.label for s in rd_figure([far]).series] == ["dense"], "alone it is shown"


def test_bd_figure_sorts_and_names_what_has_no_overlap() -> None:
    good = BDResult(-5.0, 0.2, 30, 40, 4, 4, "pchip", (-6.0, -4.0), True)
    found = {"worse": replace(good, rate_percent=7.0, interval=None), "good": good, "far": replace(good, overlap=False)}
    figure = bd_figure(found, "anchor", "psnr", "kodak", "kodak")
    bars = figure.series[0]
    assert (bars.names, bars.x, bars.low, bars.high) == (("good", "worse"), (-5.0, 7.0), (-6.0, 7.0), (-4.0, 7.0))
    assert figure.notes == ("no overlap with anchor: far",) and figure.kind == "bar"


@pytest.mark.parametrize("kind", ["line", "bar"])
def test_paper_writes_the_same_bytes_again(tmp_path: Path, kind: str) -> None:
    result = BDResult(-5.0, 0.2, 30, 40, 4, 4, "pchip", (-6.0, -4.0), True)
    line = rd_figure([make("a"), make("b", "published", gain=1)])
    figure = line if kind == "line" else bd_figure({"x": result}, "y", "psnr", "kodak", "kodak")
    first, second = paper.render(figure, tmp_path / "1"), paper.render(figure, tmp_path / "2")
    assert [p.suffix for p in first] == [".pdf", ".png", ".json"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    pdf = first[0].read_bytes()
    assert b"/FontFile2" in pdf and b"CreationDate" not in pdf  # TrueType is embedded, no date
    with Image.open(first[1]) as picture:
        assert picture.width > 900 and 50 < len(picture.convert("RGB").getcolors(1 << 24) or []) <= 256
        assert picture.mode == "P" and picture.info["dpi"] == pytest.approx((200, 200), abs=0.1)


def test_a_palette_keeps_what_a_drawing_shows() -> None:
    from io import BytesIO

    from PIL.PngImagePlugin import PngInfo

    ramp = np.linspace(0, 255, 64)[:, None, None] * np.ones((1, 64, 3))
    ramp[..., 1] = ramp[..., 1].T
    drawing = np.concatenate([np.full((64, 64, 3), 255.0), ramp]).astype(np.uint8)  # white, and thousands of colours
    file, text = BytesIO(), PngInfo()
    text.add_text("Comment", "digest")
    Image.fromarray(drawing).save(file, "PNG", pnginfo=text, dpi=(200, 200))
    few = paper.palette_png(file)
    with Image.open(BytesIO(few)) as picture:
        shown = np.array(picture.convert("RGB"), int)
        assert picture.mode == "P" and picture.info["Comment"] == "digest"
    assert (shown[:64] == 255).all() and np.abs(shown - drawing).max() <= 24
    assert few == paper.palette_png(file)


def test_paper_draws_again_only_what_changed(tmp_path: Path) -> None:
    figure = rd_figure([make("a")])
    paths = paper.render(figure, tmp_path)
    before = [p.stat().st_mtime_ns for p in paths]
    paper.render(figure, tmp_path)
    assert [p.stat().st_mtime_ns for p in paths] == before
    old = paths[1].read_bytes()
    paper.render(replace(figure, title="another"), tmp_path)
    assert paths[1].read_bytes() != old
    paths[0].write_bytes(b"damaged")
    paper.render(replace(figure, title="another"), tmp_path)
    assert paths[0].read_bytes().startswith(b"%PDF")


def test_paper_skips_an_empty_figure_and_leaves_the_users_settings(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert paper.render(rd_figure([]), tmp_path) == []
    paper.render(rd_figure([make("a")]), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_all_pairs_are_what_bd_rate_says(tmp_path: Path) -> None:
    store = sample_results(tmp_path, kept=False)
    curves = [c for c in rd.measured(store, "kodak") if not c.lossless]
    known = rd.published("kodak")
    curves += [c for c in known if "ms_ssim_db" in c.points][:6]
    curves += [c for c in known if "ms_ssim_db" not in c.points][:1]  # takes part in PSNR alone
    curves += [replace(make("two", points=2)), replace(make("far", gain=60))]
    for metric in ("psnr", "ms_ssim_db"):
        found = all_pairs(curves, metric, resamples=50)
        by_label = {c.label: c for c in curves}
        assert ("alpha", "beta") in found and len(found) > 40
        for (anchor, test), result in found.items():
            expected = bd_rate(by_label[anchor], by_label[test], metric, bootstrap=50)
            for name in ("rate_percent", "psnr_db", "low", "high"):
                assert getattr(result, name) == pytest.approx(getattr(expected, name), 1e-6, 1e-6, nan_ok=True)
            for name in ("points_anchor", "points_test", "overlap"):
                assert getattr(result, name) == getattr(expected, name)
            assert (result.interval is None) == (expected.interval is None)
            if result.interval and expected.interval:
                assert result.interval == pytest.approx(expected.interval, abs=0.2)


def test_report_is_complete_and_the_same_again(tmp_path: Path) -> None:
    store = sample_results(tmp_path)
    stored_figures(store.root)
    paths = report.build_report(store.root)
    names = {p.relative_to(tmp_path).as_posix() for p in paths}
    assert {"report/index.html", "figures/rd_kodak_psnr.pdf", "figures/rd_kodak_ms_ssim_db.png"} <= names
    assert {"tables/bd_kodak_psnr_vtm18.tex", "tables/lossless.md", "curves/kodak.csv"} <= names
    assert not any("first" in n and "ms_ssim" in n for n in names)  # small images have no MS-SSIM
    assert len(names) == len(paths)
    before = {p: p.read_bytes() for p in paths}
    for path in paths:
        path.unlink()
    assert {p: p.read_bytes() for p in report.build_report(store.root)} == before


def test_report_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample_results(tmp_path, methods=("alpha",), kept=False)
    assert report.main(["with", f"results={tmp_path}"]) == 0
    assert str(tmp_path / "report" / "index.html") in capsys.readouterr().out
    assert report.main(["with", "result=x"]) == 2
    assert "did you mean results" in capsys.readouterr().err
    assert report.main(["with", f"results={tmp_path / 'none'}"]) == 2
    assert "no results folder" in capsys.readouterr().err


def test_unwritable_results_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample_results(tmp_path, methods=("alpha",), kept=False)
    (tmp_path / "figures").write_text("a file in the way")
    assert report.main([f"results={tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_report_imports_no_torch() -> None:
    heavy = ("torch", "sacred", "tensorflow", "matplotlib")
    code = f"import benchmarks.report, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
