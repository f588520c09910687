"""Curves and tables: nothing is mixed, nothing is unlabelled, and the same results give the same bytes."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pandas as pd
import pytest

from benchmarks.curves.curve import find, measured, of_cells, published, published_lossless
from benchmarks.curves.tidy import export
from benchmarks.store import Cell, Store, StoreError
from benchmarks.tables import files, results
from core.codec import TesseraError
from core.registry import UnknownName

NAMES = [f"{i:02d}" for i in range(6)]


def add(
    store: Store,
    point: object,
    bpp: float = 1.0,
    psnr: float = 30.0,
    about: dict | None = None,
    started: str = "2026-01-01",
    names: list[str] = NAMES,
    **cell: object,
) -> Cell:
    """One cell with images around the given means."""
    facts = {"title": "toy", "subset": False, "defaults": {"mode": "a"}, "data_fingerprint": "f" * 64} | (about or {})
    values = {"method": "zip", "variant": {"mode": "a"}, "dataset": "toy", "split": "test"} | cell
    which = Cell(point=point, **values)
    offset = np.linspace(-1, 1, len(names))
    frame = pd.DataFrame({"image": names, "bpp": bpp * (1 + offset / 4), "bpd": bpp / 3, "psnr": psnr - offset})
    store.write(which, frame, facts, {"started": started})
    return which


def add_curve(store: Store, factor: float = 1.0, **options: object) -> None:
    for point, (bpp, psnr) in enumerate([(0.25, 30), (0.5, 33), (1.0, 36), (2.0, 39.5)]):
        add(store, point, factor * bpp, psnr, **options)


def labels(store: Store, **options: object) -> list[str]:
    return [c.label for c in measured(store, **options)]


# ---- curves


def test_a_curve_is_sorted_and_carries_its_images(tmp_path):
    store = Store(tmp_path)
    keys = {p: add(store, p, bpp, psnr).key for p, bpp, psnr in [(1, 2.0, 40), (2, 0.5, 30), (3, 1.0, 35)]}
    (curve,) = measured(store)
    assert list(curve.points["bpp"]) == pytest.approx([0.5, 1.0, 2.0]) and list(curve.points["point"]) == [2, 3, 1]
    assert curve.cells == (keys[2], keys[3], keys[1])
    assert (curve.label, curve.title, curve.source, curve.subset) == ("zip", "toy", "measured", False)
    means = curve.images.groupby("point")[["bpp", "psnr"]].mean()
    assert means.loc[1, "psnr"] == pytest.approx(40) and len(curve.images) == 18
    assert list(curve.images.columns) == ["image", "point", "bpp", "psnr"]


@pytest.mark.parametrize(
    "change, label",
    [
        ({"rate": "estimate"}, "zip [rate estimate]"),
        ({"device": "cuda"}, "zip [device cuda]"),
        ({"seed": 3}, "zip [seed 3]"),
        ({"variant": {"mode": "b"}}, "zip(mode=b)"),
        ({"method": "zap"}, "zap"),
        ({"about": {"legend": "official"}}, "zip [official]"),
        ({"limit": 4, "about": {"title": "toy, first 4", "subset": True}}, "zip [toy, first 4]"),
    ],
)
def test_curves_never_mix(tmp_path, change, label):
    store = Store(tmp_path)
    add(store, 1)
    add(store, 2)
    add(store, 3, **change)
    curves = {c.label: c for c in measured(store)}
    assert set(curves) == {"zip", label}
    assert list(curves["zip"].points["point"]) == [1, 2] and list(curves[label].points["point"]) == [3]


def test_other_images_or_another_default_are_told_apart(tmp_path):
    store = Store(tmp_path)
    add(store, 1)
    add(store, 2, split="valid", about={"data_fingerprint": "e" * 64})
    assert sorted(labels(store)) == ["zip [data eeeeee, split valid]", "zip [data ffffff, split test]"]
    other = Store(tmp_path / "b")
    add(other, 1)
    add(other, 1, variant={"mode": "b"}, about={"defaults": {"mode": "b"}})  # the default changed meanwhile
    assert sorted(labels(other)) == ["zip [mode a]", "zip [mode b]"]


def test_curves_of_one_name_are_always_told_apart(tmp_path):
    store = Store(tmp_path)
    add(store, 1)
    add(store, 1, limit=6)  # the same images, asked for in another way
    assert sorted(labels(store)) == ["zip [limit 6]", "zip [limit None]"]
    other = Store(tmp_path / "b")
    for point, title in enumerate(("first", "second")):  # two whole sets of one name
        add(other, point, about={"title": title, "data_fingerprint": title})
    assert len(set(labels(other))) == 2
    assert [c.label for c in of_cells(other.cells(), by_title=True)] == ["zip", "zip"]
    third = Store(tmp_path / "c")
    for place in (0, 1):  # nothing that a reader knows tells them apart
        add(third, place, about={"data_fingerprint": "f" * 63 + str(place)})
    assert len(set(labels(third))) == 2 and all("[cell " in label for label in labels(third))


def test_a_damaged_file_of_images_is_one_sentence(tmp_path):
    store = Store(tmp_path)
    path = store.path(add(store, 1)) / "images.csv"
    path.write_text(path.read_text() + "07,1\n")
    with pytest.raises(StoreError, match=r"images\.csv cannot be read"):
        measured(store)


def test_of_two_checkpoints_of_a_point_the_later_measured_counts(tmp_path):
    store = Store(tmp_path)
    add(store, 1, 1.0, checkpoint="old", started="2026-01-01")
    add(store, 1, 2.0, checkpoint="new", started="2026-02-01")
    add(store, 2, 4.0, checkpoint="other")
    (curve,) = measured(store)
    assert list(curve.points["bpp"]) == pytest.approx([2.0, 4.0])
    assert curve.reference == "checkpoint new, other (1 older cells left out)"


def test_selection(tmp_path):
    store = Store(tmp_path)
    add(store, 1)
    add(store, 1, method="zap")
    add(store, 1, dataset="other")
    add(store, 1, limit=2, about={"title": "toy, first 2", "subset": True})
    assert len(measured(store, "toy")) == 3 and len(measured(store, methods=["zap"])) == 1
    assert [c.title for c in measured(store, "toy", limit=2)] == ["toy, first 2"]
    assert labels(store, dataset="toy", limit=None) == ["zap", "zip"]
    assert measured(Store(tmp_path / "none")) == []


def test_published_curves_by_name():
    two = published("kodak", ["hm", "vtm18"])
    assert [c.label for c in two] == ["hm", "vtm18"] and two[1].source == "published"
    assert "lossy-vae" in two[1].reference and "CompressAI" in two[0].reference
    assert published("toy") == []
    with pytest.raises(UnknownName, match="vtm18"):
        published("kodak", ["vtm19"])
    for dataset in ("kodak", "tecnick", "clic22", "clic2020-professional"):
        curves = published(dataset)
        assert len({c.label for c in curves}) == len(curves) > 2
        assert all(c.points["bpp"].is_monotonic_increasing and len(c.reference) > 40 for c in curves)


def test_published_ms_ssim_in_db():
    points = find(published("kodak"), "hm").points
    assert points["ms_ssim_db"].to_numpy() == pytest.approx(-10 * np.log10(1 - points["ms_ssim"]))


def test_broken_published_file_is_one_sentence(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(StoreError, match=r"x\.json"):
        published("kodak", folder=tmp_path)


def test_export_is_tidy_and_repeats(tmp_path):
    store = Store(tmp_path)
    add_curve(store)
    curves = [*measured(store), *published("kodak", ["vtm18", "hm"])]
    paths = export(curves, tmp_path / "curves")
    assert [p.name for p in paths] == ["kodak.csv", "toy.csv"]
    frame = pd.read_csv(paths[0])
    assert len(frame) == 44 and {"label", "source", "reference", "point", "bpp", "psnr"} <= set(frame)
    toy = pd.read_csv(paths[1])
    assert list(toy["cell"]) == list(measured(store)[0].cells)
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in export(curves, tmp_path / "curves")] == before


# ---- tables


def test_bd_table(tmp_path):
    store = Store(tmp_path)
    add_curve(store)
    add_curve(store, 0.9, method="better")
    add_curve(store, 1.2, method="worse")
    add(store, 1, 50.0, 80.0, method="far")
    add(store, 2, 60.0, 90.0, method="far")
    curves = measured(store)
    frame = results.bd_table(curves, find(curves, "zip"))
    assert list(frame["curve"]) == ["better", "worse", "far"]
    assert frame["BD-rate (%)"][0] == pytest.approx(-10) and frame["BD-rate (%)"][1] == pytest.approx(20)
    assert frame["BD-rate (%)"][2] == "no overlap" and frame["range, PSNR (dB)"][2] == ""
    assert frame["95 % interval"][0] == "[-10.00, -10.00]" and frame["range, PSNR (dB)"][0] == "30.00 to 39.50"
    assert frame["points (anchor/test)"][0] == "4/4" and set(frame["interpolation"]) == {"pchip"}
    assert set(frame["source"]) == {"measured"} and frame["BD-PSNR (dB)"][1] < 0


def test_bd_table_of_published_curves_matches_the_protocol():
    curves = published("kodak")
    frame = results.bd_table(curves, find(curves, "vtm18")).set_index("curve")
    assert "vtm18" not in frame.index and len(frame) == len(curves) - 1
    shown = dict(zip(frame.index, [row[1] for row in files.formatted(frame.reset_index())], strict=True))
    assert shown["qres34m-paper"] == "-4.03" and shown["qarv-paper"] == "-5.89"
    assert shown["bmshj2018-hyperprior"] == "+31.24"


def test_bd_table_of_the_anchor_alone_has_its_columns():
    (anchor,) = published("kodak", ["vtm18"])
    frame = results.bd_table([anchor], anchor)
    assert len(frame) == 0 and "BD-rate (%)" in frame and "note" in frame


def test_rd_table(tmp_path):
    store = Store(tmp_path)
    add_curve(store)
    frame = results.rd_table([*measured(store), *published("kodak", ["hm"])])
    assert len(frame) == 12 and list(frame["data set"].unique()) == ["toy", "kodak (24 images)"]
    assert frame["bpp"][0] == pytest.approx(0.25) and frame["source"].iloc[-1] == "published"
    assert math.isnan(frame["MS-SSIM (dB)"][0]) and frame["MS-SSIM (dB)"].iloc[-1] > 10
    assert list(results.rd_table([])) == ["curve", "data set", "point", "bpp", "source"]


def test_lossless_table(tmp_path):
    store, lossless = Store(tmp_path), {"lossless": True}
    add(store, None, 9.0, about=lossless, method="png", dataset="kodak")
    add(store, None, 12.0, about=lossless | {"title": "cifar10, first 4 test", "subset": True}, method="png", limit=4)
    add(store, 7, 6.0, about=lossless | {"curve": "effort"}, method="jpegxl", dataset="kodak")
    add(store, 1, 1.0, dataset="kodak")  # lossy
    frame = results.lossless_table(store).set_index("method")
    assert frame.loc["png", "toy (6 images)"] == pytest.approx(3.0)
    assert frame.loc["png", "cifar10, first 4 test (6 images)"] == pytest.approx(4.0)
    assert frame.loc["jpegxl [effort 7]", "toy (6 images)"] == pytest.approx(2.0)
    assert "zip" not in frame.index
    assert frame.loc["irec", "cifar10, published"] == 4.18 and frame.loc["irec", "source"] == "published"
    assert frame.loc["flif-irec", "kodak, published"] == 2.90
    ours = results.lossless_table(store, ["kodak"], folder=None)
    assert list(ours) == ["method", "toy (6 images)", "source", "note"] and len(ours) == 2


def test_lossless_rates(tmp_path):
    """Bits that are counted in other ways stand beside the files, and are never taken for them."""
    store, lossless = Store(tmp_path), {"lossless": True}
    add(store, None, 12.0, about=lossless, method="rvae")
    add(store, None, 9.0, about=lossless, method="rvae", rate="ideal")
    add(store, None, 9.0, about=lossless, method="png")
    (row,) = results.lossless_rates(store).to_dict("records")
    assert (row["method"], row["images"]) == ("rvae", "toy (6 images)")
    assert row["file"] == pytest.approx(4) and row["ideal"] == pytest.approx(3) and math.isnan(row["asymptotic"])
    assert row["over ideal (%)"] == pytest.approx(100 / 3)
    frame = results.lossless_table(store, folder=None).set_index("method")
    assert frame.loc["rvae", "note"] == "files, bit exact" and "not a file" in frame.loc["rvae [rate ideal]", "note"]


def test_published_lossless_says_what_it_counts():
    entries = {e["name"]: e for e in published_lossless()}
    assert "bound" in entries["rvae-elbo"]["kind"] or "not a file" in entries["rvae-elbo"]["kind"]
    assert entries["hilloc-asymptotic"]["bpd"]["kodak"] == 3.0 and entries["hilloc"]["bpd"]["kodak"] == 17.5
    assert all(e["source"].endswith(".") and e["kind"] for e in entries.values())


# ---- files

FRAME = pd.DataFrame(
    {
        "curve": ["a|b", "50% & more_#1 {x}"],
        "BD-rate (%)": [-4.0301, "no overlap"],
        "bpp": [0.12345678, math.nan],
        "points": [3, 4],
        "psnr": [math.inf, 31.23456],
    }
)


def test_files_hold_the_same_cells(tmp_path):
    paths = files.to_files(FRAME, tmp_path / "t.v1", "100 % of_it")
    assert [p.name for p in paths] == ["t.v1.csv", "t.v1.md", "t.v1.tex"]
    comma, mark, latex = (p.read_text() for p in paths)
    assert list(csv.reader(io.StringIO(comma)))[1:] == [
        ["a|b", "-4.0301", "0.12345678", "3", "inf"],
        ["50% & more_#1 {x}", "no overlap", "", "4", "31.23456"],
    ]
    assert mark.splitlines()[4:] == [
        r"| a\|b | -4.03 | 0.1235 | 3 | inf |",
        "| 50% & more_#1 {x} | no overlap | – | 4 | 31.235 |",
    ]
    assert mark.startswith("**100 % of_it**") and "|---|---:|---:|---:|---:|" in mark
    assert r"50\% \& more\_\#1 \{x\} & no overlap & -- & 4 & 31.235 \\" in latex
    assert r"\caption{100 \% of\_it}" in latex and r"\begin{tabular}{lrrrr}" in latex and r"\toprule" in latex


def test_latex_fits_a_column_with_real_minus_and_no_empty_column():
    rows = [("a", -4.03, "[-5.00, -3.00]", "30.02 to 44.35", "", "pchip"), ("b_c" * 20, 12.5, "", "", "", "pchip")]
    names = ["curve", "BD-rate (%)", "95 % interval", "range, PSNR (dB)", "note", "interpolation"]
    frame = pd.DataFrame(rows, columns=names)
    latex = files.to_latex(frame, "c", "l")
    assert r"\begin{table}[tb]" in latex and r"\begin{tabular}{p{" in latex and "note" not in latex
    assert "interpolation" not in latex  # the first to go, and the caption says it
    assert r"$-$4.03" in latex and r"b\_\allowbreak{}c" in latex and r"30.02 to 44.35 \\" in latex
    page = files.to_latex(frame, "c", "l", "page")
    assert r"\begin{table*}[tb]" in page and "pchip" in page and r"[$-$5.00, $-$3.00]" in page
    assert "pchip" in files.to_latex(frame, "c", "l", "column", whole=True)  # as it was asked for
    with pytest.raises(TesseraError, match="width=poster of a table must be auto, column or page"):
        files.to_latex(frame, "c", "l", "poster")


def test_columns_are_chosen_by_the_beginning_of_their_names():
    frame = pd.DataFrame([["a", 1.0, "x", "y"]], columns=["curve", "BD-rate (%)", "95 % interval", "range, PSNR (dB)"])
    assert list(files.chosen(frame, ["range", "Curve", "bd-rate"])) == ["range, PSNR (dB)", "curve", "BD-rate (%)"]
    assert list(files.chosen(frame, ["interval"])) == ["95 % interval"] and files.chosen(frame, []) is frame
    with pytest.raises(UnknownName, match="unknown column 'speed'"):
        files.chosen(frame, ["speed"])


def test_escaping_keeps_every_character_literal():
    assert files.escape("a\\b~c^d_e") == r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d\_e"


def test_files_repeat(tmp_path):
    store = Store(tmp_path)
    add_curve(store)
    add_curve(store, 0.8, method="other")

    def write(stem: str) -> list[bytes]:
        curves = measured(Store(tmp_path))
        frame = results.bd_table(curves, find(curves, "zip"))
        return [p.read_bytes() for p in files.to_files(frame, tmp_path / stem / "bd", "c")]

    assert write("one") == write("two")


def test_a_table_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TesseraError, match="cannot write"):
        files.to_files(FRAME, tmp_path / "file" / "t", "c")
