"""Curves that a user gives, the choice of curves by bare names, figures of them, and export to CompressAI's JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bd_table, export, plot
from benchmarks.curves import compressai, given
from benchmarks.curves.curve import find, listed, measured, published
from benchmarks.curves.given import GivenError
from benchmarks.curves.groups import group_curves
from benchmarks.store import Store
from core.codec import TesseraError
from core.registry import UnknownName
from tests.benchmarks.test_tables import add, add_curve
from tests.support.shared import shared

TEXT = "curve,bpp,psnr,ms_ssim\nmine,1.0,36,0.98\nmine,0.25,30,0.9\nmine,0.5,33.5,0.95\nother,0.3,31,\n"


def write(folder: Path, text: str | dict | list, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


# ---- files


def test_a_csv_file(tmp_path):
    mine, other = given.read([write(tmp_path, TEXT)], "toy", "toy, first 4", subset=True)
    assert (mine.label, mine.source, mine.dataset, mine.title, mine.subset) == (
        "mine [given]",
        "given",
        "toy",
        "toy, first 4",
        True,
    )
    assert list(mine.points["bpp"]) == [0.25, 0.5, 1.0] and "mine.csv" in mine.reference
    assert mine.points["ms_ssim_db"].to_numpy() == pytest.approx(-10 * np.log10(1 - mine.points["ms_ssim"]))
    assert len(other.points) == 1 and other.points["ms_ssim"].isna().all()


@pytest.mark.parametrize(
    ("text", "psnr"),
    [
        ("bpp;PSNR (dB)\n0.5;30\n1;33\n", [30, 33]),  # other dividers, other spelling, the file's name as the curve's
        ("\ufeffBPP,psnr,PSNR-RGB,note\n0.5,1,30,x\n\n1,1,33,y\n", [30, 33]),
        ("label,dataset,bpp,psnr\nmine,toy,0.5,30\nmine,kodak,0.6,1\nmine,toy,1,33\n", [30, 33]),  # our own export
    ],
)
def test_spellings(tmp_path, text, psnr):
    (curve,) = given.read([write(tmp_path, text)], "toy")
    assert curve.label == "mine [given]" and list(curve.points["psnr"]) == psnr


def test_rows_per_image(tmp_path):
    text = "point,image,bpp,psnr,ms_ssim\n" + "".join(
        f"{p},{i},{p + i / 10},{30 + p + i},{0.9 + i / 100}\n" for p in (1, 2) for i in (0, 1)
    )
    (curve,) = given.read([write(tmp_path, text)], "toy")
    assert list(curve.points["bpp"]) == pytest.approx([1.05, 2.05]) and len(curve.images) == 4
    db = -10 * np.log10(1 - np.array([0.9, 0.91]))
    assert curve.points["ms_ssim_db"][0] == pytest.approx(db.mean())  # the mean over images, as measured curves have it


def test_json_of_compressai(tmp_path):
    results = {"bpp": [1.0, 0.5], "psnr-rgb": [36.0, 33.0], "psnr": [1, 1], "ms-ssim-rgb": [0.98, 0.95]}
    results |= {"encoding_time": [1.0, 2.0]}
    (curve,) = given.read([write(tmp_path, {"name": "net", "description": "d", "results": results}, "a.json")], "toy")
    assert curve.label == "net [given]" and list(curve.points["psnr"]) == [33, 36]
    assert list(curve.points["encode_s"]) == [2, 1] and curve.reference.endswith("; d")
    lists = {"bpp": [[1.0, 2.0], [3.0, 4.0]], "psnr": [[30, 31], [33, 34]]}
    (curve,) = given.read([write(tmp_path, {"results": lists}, "b.json")], "toy")
    assert list(curve.points["bpp"]) == [1.5, 3.5] and list(curve.images["psnr"]) == [30, 31, 33, 34]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", "curve,psnr\nx,1\n", "no column bpp"),
        ("a.csv", "bpp,psnr\n1,thirty\n", "line 2: psnr is 'thirty', which is no number"),
        ("a.csv", "bpp,psnr\n1\n", "line 2, has 1 cells: it needs 2"),
        ("a.csv", "bpp,psnr\n0,30\n", "every bpp must be a number above 0"),
        ("a.csv", "bpp,psnr\n,30\n", "every bpp must be a number above 0"),
        ("a.csv", "bpp,ms_ssim\n1,12.5\n", "decibels belong in a column ms_ssim_db"),
        ("a.csv", "bpp,nice\n1,2\n", "it has no metric"),
        ("a.csv", "bpp,psnr\n1,inf\n", "infinite"),
        ("a.csv", "bpp,psnr\n", "has no points of toy"),
        ("a.csv", "dataset,bpp,psnr\nkodak,1,30\n", "has no points of toy"),
        ("a.csv", "image,bpp,psnr\n1,1,30\n", "need a column point"),
        ("a.csv", "image,point,bpp,psnr\n1,1,1,30\n1,1,1,30\n", "an image stands twice"),
        ("a.json", "{", "is not JSON"),
        ("a.json", {"bpp": [1]}, 'no "results"'),
        ("a.json", {"results": {"bpp": 1}}, "must be a list"),
        ("a.json", {"results": {"bpp": [1, 2], "psnr": [30]}}, "different lengths"),
        ("a.json", {"results": {"bpp": [1, 2], "psnr": [[30], [31]]}}, "different lengths"),
        ("a.json", {"results": {"bpp": [1], "psnr": ["x"]}}, 'psnr holds "x", which is no number'),
        ("a.json", {"results": {"bpp": [None], "psnr": [1]}}, "bpp holds null"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, text, sentence):
    with pytest.raises(GivenError, match=r"a\.(csv|json)") as caught:
        given.read([write(tmp_path, text, name)], "toy")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_repeated_files_are_one_sentence(tmp_path):
    with pytest.raises(GivenError, match="cannot be read"):
        given.read([tmp_path / "no.csv"], "toy")
    with pytest.raises(GivenError, match="and so has another file"):
        given.read([write(tmp_path, TEXT), write(tmp_path, TEXT, "b.csv")], "toy")


# ---- names


def test_bare_names(tmp_path):
    store = Store(tmp_path)
    add_curve(store, about={"legend": "ours"})
    add_curve(store, about={"legend": "ours"}, rate="ideal")
    add_curve(store, about={"legend": "weights/a"}, method="zap")
    curves = measured(store)
    assert find(curves, "zip").label == "zip [ours]" and find(curves, "zap").label == "zap [weights/a]"
    assert find(curves, "zip [ours, rate ideal]").label == "zip [ours, rate ideal]"
    add_curve(store, about={"legend": "official"}, checkpoint="theirs")
    with pytest.raises(TesseraError, match=r"several curves are called zip: write one of .*zip \[official\]"):
        find(measured(store), "zip")
    with pytest.raises(UnknownName, match="zap"):
        find(curves, "zapp")


def test_commas_in_brackets_do_not_divide():
    assert listed("a(x=1, y=2), b [ours, rate ideal],mine.csv,") == ["a(x=1, y=2)", "b [ours, rate ideal]", "mine.csv"]
    assert given.asked("vtm18,a/mine.CSV") == (["vtm18"], [Path("a/mine.CSV")])


# ---- tables, figures, the page


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    add_curve(store, about={"legend": "ours"})
    return store


def options(store: Store, module, **more: str) -> dict[str, str]:
    return module.DEFAULTS | {"dataset": "toy", "results": str(store.root)} | more


def test_a_table_of_own_curves_is_kept_apart(store, tmp_path, capsys):
    path = write(tmp_path, TEXT)
    more = {"anchor": "zip", "curves": str(path), "names": "mine:Ours", "columns": "curve,bd-rate,range"}
    bd_table.bd_table(options(store, bd_table, **more))
    out = capsys.readouterr().out
    assert "| Ours | " in out and "other [given]" in out and "95 %" not in out and "user's own numbers" in out
    written = sorted(p.relative_to(store.root).parts[0] for p in store.root.rglob("*.tex"))
    assert written == ["given"] and not (store.root / "tables").exists()


def test_a_table_by_bare_names(store, capsys):
    add_curve(store, 0.9, method="zap", about={"legend": "ours"})
    bd_table.bd_table(options(store, bd_table, anchor="zip", curves="zap"))
    assert "| zap [ours] | -10.00 |" in capsys.readouterr().out
    with pytest.raises(UnknownName, match="unknown column 'speed'"):
        bd_table.bd_table(options(store, bd_table, anchor="zip", columns="speed"))
    with pytest.raises(TesseraError, match="must be written LABEL:NAME"):
        bd_table.bd_table(options(store, bd_table, anchor="zip", names="zap"))


def test_a_figure_of_chosen_curves(store, tmp_path, capsys):
    path, target = write(tmp_path, TEXT), tmp_path / "paper" / "rd"
    more = {"curves": f"zip,{path}", "names": "zip:Baseline", "title": "Toy", "output": str(target)}
    plot.plot(options(store, plot, **more))
    data = json.loads(target.with_suffix(".json").read_text())
    assert data["title"] == "Toy" and [s["legend"] for s in data["series"]] == [
        "Baseline",
        "mine [given]",
        "other [given]",
    ]
    assert [s["source"] for s in data["series"]] == ["measured", "given", "given"]
    assert str(target.with_suffix(".pdf")) in capsys.readouterr().out and target.with_suffix(".png").is_file()
    with pytest.raises(TesseraError, match=r"zip \[ours\] has no ms_ssim_db: .* ask for one of bpd, psnr"):
        plot.make(options(store, plot, curves="zip", metric="ms_ssim_db"))


def test_the_page_takes_own_curves_where_something_was_measured(store, tmp_path):
    own = given.read([write(tmp_path, TEXT)], "toy")
    (group,) = group_curves(store.cells(), own=own)
    assert ("zip [ours]", "mine [given]") in group.bd["psnr"].results
    with pytest.raises(TesseraError, match="nothing was measured on the whole of kodak"):
        group_curves(store.cells(), own=given.read([write(tmp_path, TEXT)], "kodak"))


# ---- CompressAI's JSON


def plotted(document: dict, metric: str) -> list[float]:
    """What ``compressai.utils.plot`` draws of a file, by its rules: bpp and the metric in results, MS-SSIM in dB."""
    assert isinstance(document["name"], str) and "bpp" in document["results"]
    values = np.array(document["results"][metric])
    assert len(values) == len(document["results"]["bpp"]) and values.dtype == float
    return list(-10 * np.log10(1 - values) if metric.startswith("ms-ssim") else values)


def test_export_is_what_compressai_reads_and_comes_back(store, tmp_path, capsys):
    for name in ("hm", "irec-paper"):
        (curve,) = published("kodak", [name])
        document = compressai.document(curve)
        assert "published" in document["description"] and curve.reference in document["description"]
        assert plotted(document, "psnr-rgb") == plotted(document, "psnr") == list(curve.points["psnr"])
        assert plotted(document, "ms-ssim-rgb") == pytest.approx(list(curve.points["ms_ssim_db"]), rel=2e-3)
        (again,) = given.read([write(tmp_path, document, "a.json")], "kodak")
        assert again.points["bpp"].to_numpy() == pytest.approx(curve.points["bpp"].to_numpy())
        assert again.points["psnr"].to_numpy() == pytest.approx(curve.points["psnr"].to_numpy())
    export.export(options(store, export, folder=str(tmp_path / "points")))
    (path,) = (tmp_path / "points" / "toy").iterdir()
    assert path.name == "zip_ours.json" and json.loads(path.read_text())["tessera"]["source"] == "measured"
    with pytest.raises(TesseraError, match="must be compressai or csv"):
        export.export(options(store, export, format="xml"))


def test_a_column_with_a_gap_is_left_out(tmp_path):
    store = Store(tmp_path)
    add(store, 1)
    add(store, 2, psnr=float("inf"))
    results = compressai.document(measured(store)[0])["results"]
    assert "psnr-rgb" not in results and len(results["bpp"]) == 2


# ---- what C3 collected


def test_published_curves_of_c3_are_those_of_the_collection():
    theirs = json.loads(shared("published/c3_baselines.json").read_text())["datasets"]
    for dataset, curves in theirs.items():
        ours = [c for c in published(dataset) if "collected by C3" in c.reference]
        assert len(ours) == len(curves) == {"kodak": 27}.get(dataset, 10)
        for entry, curve in zip(curves.values(), ours, strict=True):
            order = np.argsort(entry["bpp"], kind="stable")
            for name in ("bpp", "psnr", "psnr_of_mean_mse"):
                assert (name in entry) == (name in curve.points)
                if name in entry:
                    assert list(curve.points[name]) == [entry[name][i] for i in order]
            macs = entry["meta"].get("macs_per_pixel")
            assert curve.macs == ((macs["min"], macs["max"]) if macs else None)
