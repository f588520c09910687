"""Figures from records that commands stored, figures in parts, drawing by several processes, tables of subsets."""

from __future__ import annotations

import itertools
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bd_table, report
from benchmarks.curves import curve as rd
from benchmarks.curves.bd_pairs import all_pairs
from benchmarks.curves.curve import Curve
from benchmarks.figures import comparisons, drawing, paper, stored
from benchmarks.figures.figure import from_data
from benchmarks.figures.rd import Part, rd_figure
from benchmarks.store import StoreError
from core.codec import TesseraError
from core.images import save_image
from core.registry import UnknownName
from experiments.studies import qres_pictures
from tests.benchmarks.test_figures import make
from tests.support.report_samples import sample_results, write_cell

ROOT = Path(__file__).resolve().parents[2]


def picture_record(root: Path, kind: str = "progressive", level: int = 90) -> Path:
    """A record of two rows, three pictures in the first and one in the second."""
    folder, rows = root / "qres_pictures", []
    for i, count in enumerate((3, 1)):
        cells = []
        for j in range(count):
            file = f"{kind}-00000000-{i}-{j}.webp"
            save_image(folder / file, np.full((16, 24, 3), level + 20 * i + 5 * j, np.uint8))
            cells.append({"file": file, "caption": f"{j} levels\n0.{j} bpp", "bpp": 0.1 * j})
        rows.append({"name": f"row {i}", "pictures": cells})
    path = folder / f"{kind}-00000000.json"
    path.write_text(json.dumps({"kind": kind, "method": "qres3m_vr", "title": f"a {kind}", "rows": rows}))
    return path


def size_record(root: Path, quantizer: str, distinct: int, dataset: str = "fashion_mnist") -> None:
    record = {"dataset": dataset, "quantizer": quantizer, "distinct": distinct, "vectors": 11760000}
    path = root / "llvq" / f"{dataset}_{quantizer}_00000000.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | {"counted": f"{dataset} train"}))


def test_pictures_are_drawn_the_same_again_and_only_when_they_changed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        picture_record(tmp_path / name)
    first, second = (stored.picture_figures(tmp_path / name) for name in ("one", "two"))
    assert [p.name for p in first] == [f"pictures_qres3m_vr_progressive_00000000.{end}" for end in ("pdf", "png")]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    before = [p.stat().st_mtime_ns for p in first]
    assert stored.picture_figures(tmp_path / "one") == first
    assert [p.stat().st_mtime_ns for p in first] == before
    picture_record(tmp_path / "one", level=10)
    stored.picture_figures(tmp_path / "one")
    assert all(p.read_bytes() != q.read_bytes() for p, q in zip(first, second, strict=True))


def test_a_record_that_is_damaged_or_lacks_a_picture_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture_record(tmp_path, "samples")
    (tmp_path / "qres_pictures" / "samples-00000000-0-1.webp").unlink()
    picture_record(tmp_path, "inpainting").write_text("{")
    picture_record(tmp_path, "interpolation").write_text("{}")
    assert stored.picture_figures(tmp_path) == []
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 3 and "cannot be read" in said[0] and "lacks fields" in said[1]
    assert "no picture samples-00000000-0-1.webp" in said[2]


def test_codebook_sizes_stand_beside_the_published_ones(tmp_path: Path) -> None:
    size_record(tmp_path, "sparse", 455)
    size_record(tmp_path, "vq", 16)
    size_record(tmp_path, "vq", 8, "another")
    (ours,) = stored.codebook_size_figures(tmp_path)  # the other data set has one bar
    measured, published = ours.series
    assert measured.names == ("vq, of 11,760,000", "sparse, of 11,760,000") and ours.x.log
    assert measured.x == (16.0, 455.0) and "vq, published, of 11,760,000" in published.names
    assert "dense, asserted, of 11,760,000" in published.names
    places = dict(zip(measured.names + published.names, measured.y + published.y, strict=True))
    assert places["vq, published, of 11,760,000"] == places["vq, of 11,760,000"] + 1
    assert sorted(places.values()) == [float(i) for i in range(6)]
    assert len(paper.render(ours, tmp_path)) == 3


def test_the_report_draws_them_and_drops_what_is_gone(tmp_path: Path) -> None:
    sample_results(tmp_path, methods=("alpha",), datasets=(("kodak", "kodak", 2),), points=2, kept=False)
    record = picture_record(tmp_path)
    size_record(tmp_path, "vq", 16)
    paths = report.build_report(tmp_path, published=())
    drawn = {p.name for p in paths if p.stem.startswith(("pictures_", "codebook_sizes_"))}
    assert len(drawn) == 5
    page = paths[-1].read_text(encoding="utf-8")
    assert "pictures_qres3m_vr_progressive_00000000.png" in page and "codebook_sizes_llvq_fashion_mnist" in page
    record.unlink()
    report.build_report(tmp_path, published=())
    assert not list((tmp_path / "figures").glob("pictures_*"))
    assert list((tmp_path / "figures").glob("codebook_sizes_*"))


def test_the_report_draws_what_commands_stored_the_data_of(tmp_path: Path) -> None:
    """Data of a figure are enough: its pictures are made, the data stay, and a second run finds all as it is."""
    sample_results(tmp_path, methods=("alpha",), datasets=(("kodak", "kodak", 2),), points=2, kept=False)
    figure = replace(rd_figure([make("a"), make("b", "published", gain=1)]), name="toy_lines", notes=("a note",))
    data = paper.render(figure, tmp_path / "elsewhere")[-1]
    again = from_data(json.loads(data.read_text()))
    assert [s.y for s in again.series] == [pytest.approx(s.y, rel=1e-6) for s in figure.series]
    assert replace(again, series=(), x=figure.x, y=figure.y) == replace(figure, series=())
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / data.name).write_bytes(data.read_bytes())
    (folder / "toy_other.json").write_text('{"name": "toy_other", "title": "", "kind": "line", "series": [{}]}')
    first = report.build_report(tmp_path, published=())
    assert {p.name for p in first if p.stem.startswith("toy_")} == {"toy_lines.png", "toy_lines.pdf"}
    pictures = {p: p.read_bytes() for p in first}
    assert report.build_report(tmp_path, published=()) == first and {p: p.read_bytes() for p in first} == pictures
    assert (folder / data.name).read_bytes() == data.read_bytes()
    (folder / data.name).unlink()
    report.build_report(tmp_path, published=())
    assert not list(folder.glob("toy_lines*"))


def test_several_processes_write_the_same_bytes(tmp_path: Path) -> None:
    drawn = [rd_figure([make("a", gain=i)], name=f"set{i}") for i in range(3)]
    one, two = tmp_path / "one", tmp_path / "two"
    first, second = drawing.render_all(drawn, one), drawing.render_all(drawn, two, processes=2)
    assert [p.relative_to(one) for p in first] == [p.relative_to(two) for p in second] and len(first) == 9
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write"):
        drawing.render_all(drawn, tmp_path / "file", processes=2)


def crowd() -> list[Curve]:
    names = [f"vq{i}" for i in range(8)] + [f"vq{i}(prior=True)" for i in range(5)] + [f"lattice_{i}" for i in range(4)]
    curves = [make(name, gain=i / 10) for i, name in enumerate([*names, "llvq_dense"])]
    return [*(replace(c, method=c.label.partition("(")[0]) for c in curves), make("paper", "published")]


def test_a_crowded_figure_is_drawn_in_parts_that_look_alike() -> None:
    curves = crowd()
    assert report.parts(curves[: report.CROWDED]) == [None] and report.parts(curves[:8] * 3) == [None]
    found = [part for part in report.parts(curves) if part is not None]
    assert [part.name for part in found] == ["lattices", "other settings", "default settings"]
    assert [len(part.labels) for part in found] == [5, 5, 9] and "paper" in found[2].labels
    whole = rd_figure(curves)
    looks = {s.label: s.style for s in whole.series}
    drawn = [rd_figure(curves, part=part) for part in found]
    assert [f.name for f in drawn] == [
        f"{whole.name}_{end}" for end in ("lattices", "other_settings", "default_settings")
    ]
    assert {s.label: s.style for f in drawn for s in f.series} == looks and sum(len(f.series) for f in drawn) == len(
        looks
    )
    assert drawn[0].title.endswith(", lattices")


def test_single_images_leave_out_what_is_beyond_uncompressed_ones(tmp_path: Path) -> None:
    store = sample_results(tmp_path, methods=("alpha", "beta"), datasets=(("kodak", "kodak", 3),), kept=False)
    write_cell(store, "huge", 0, "kodak", "kodak", 3, 2000.0)
    curves = [c for c in rd.measured(store, "kodak") if not c.lossless]
    figure = comparisons.images_figure(curves, "psnr", "kodak")
    assert [s.label.split()[0] for s in figure.series] == ["alpha", "beta"]
    assert figure.notes == ("beyond the figure: huge",)
    part = Part("few", frozenset({"beta"}))
    (only,) = comparisons.images_figure(curves, "psnr", "kodak", part).series
    assert only == figure.series[1]


def test_a_narrow_range_of_seconds_has_a_linear_axis(tmp_path: Path) -> None:
    curves = [replace(c, points=c.points.assign(decode_s=s)) for c, s in ((make("a"), 0.1), (make("b"), 0.3))]
    pairs = all_pairs(curves, "psnr", resamples=0)
    narrow = comparisons.speed_figure(curves, pairs, "a", "psnr", "decode_s", "kodak")
    curves[1].points["decode_s"] = 3.0
    assert not narrow.x.log and comparisons.speed_figure(curves, pairs, "a", "psnr", "decode_s", "kodak").x.log


def run_table(root: Path, *words: str) -> None:
    options = bd_table.DEFAULTS | {"results": str(root), "bootstrap": "20"}
    bd_table.bd_table(options | dict(word.split("=", 1) for word in words))


def test_a_table_of_a_subset_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = sample_results(tmp_path, methods=("alpha", "beta"), datasets=(("kodak", "kodak", 3),), kept=False)
    for result in store.cells(dataset="kodak"):
        if result.cell.point is not None:
            cell = replace(result.cell, limit=2)
            about = {**result.about, "title": "kodak, first 2", "subset": True}
            store.write(cell, result.images[:2], about, result.provenance)
    run_table(tmp_path, "anchor=alpha")
    run_table(tmp_path, "anchor=alpha", "limit=2")
    whole, part = (tmp_path / "tables" / f"bd_kodak{end}_psnr_vs_alpha_pchip.md" for end in ("", "_first_2"))
    assert whole.read_text().startswith("**kodak: BD-rate") and "| vtm18 |" in whole.read_text()
    assert part.read_text().startswith("**first 2 images of kodak: BD-rate") and "published" not in part.read_text()
    assert "| beta |" in part.read_text() and "first 2" not in whole.read_text()
    with pytest.raises(TesseraError, match="kodak with limit=9: measured is kodak, kodak, first 2"):
        run_table(tmp_path, "anchor=alpha", "limit=9")
    with pytest.raises(TesseraError, match="limit=x must be"):
        run_table(tmp_path, "limit=x")
    with pytest.raises(TesseraError, match="measure some"):
        run_table(tmp_path, "dataset=nowhere")


def config(results: Path, **more: object) -> dict[str, object]:
    base: dict[str, object] = {"method": "qres3m_vr", "params": {}, "weights": "ours", "device": "cpu", "seed": 0}
    return base | {"kinds": "progressive,inpainting", "results": str(results)} | more


def test_pictures_of_a_model_have_numbers_and_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(qres_pictures, "REPAIRS", 1)
    assert qres_pictures.pictures(config(tmp_path), None) == 0
    progressive, inpainting = (Path(line) for line in capsys.readouterr().out.splitlines())
    record = json.loads(progressive.read_text())
    assert record["weights"].startswith("qres3m_vr-") and record["provenance"]["versions"]["torch"]
    shown = [cell for row in record["rows"] for cell in row["pictures"]]
    assert [cell["levels"] for cell in shown[:-1]] == list(range(8)) and shown[-1]["caption"].startswith("original")
    assert all(a["bytes"] <= b["bytes"] for a, b in itertools.pairwise(shown[:-1]))
    assert shown[-2]["psnr"] > 30 > shown[0]["psnr"] and shown[-2]["bpp"] == 8 * shown[-2]["bytes"] / (160 * 240)
    files = {p.name for p in inpainting.parent.glob("*.webp")}
    named = [json.loads(path.read_text())["rows"] for path in (progressive, inpainting)]
    assert files == {cell["file"] for rows in named for row in rows for cell in row["pictures"]}
    before = progressive.stat().st_mtime_ns
    assert qres_pictures.pictures(config(tmp_path, kinds="progressive"), None) == 0
    assert progressive.stat().st_mtime_ns == before, "what is there is not made again"
    assert len(stored.picture_figures(tmp_path)) == 4


def test_mistakes_about_pictures_are_answered(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean samples"):
        qres_pictures.pictures(config(tmp_path, kinds="sample"), None)
    with pytest.raises(TesseraError, match="no hierarchy of latents"):
        qres_pictures.pictures(config(tmp_path, method="jpeg", weights="auto"), None)
    assert not list(tmp_path.iterdir())


def test_pictures_in_the_repository_are_small_and_free() -> None:
    """Others than these photographs must not be redistributed (benchmarks/datasets/sample.py)."""
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("no git checkout: nothing says which pictures are in the repository")
    free = {name for name, _ in (qres_pictures.FACE, qres_pictures.CAT, qres_pictures.CUP)}
    kept = [ROOT / line for line in listed.stdout.splitlines() if line.startswith("results/images/")]
    assert {path.stem for path in kept} <= free
    made = [ROOT / line for line in listed.stdout.splitlines() if line.startswith("results/qres_pictures/")]
    sizes = [sum(path.stat().st_size for path in paths if path.is_file()) for paths in (kept, made)]
    assert sizes[0] <= 1e6 and sizes[1] <= 1.5e6


def test_without_figures_the_page_is_the_same(tmp_path: Path) -> None:
    sample_results(tmp_path, methods=("alpha",), datasets=(("kodak", "kodak", 2),), points=2, kept=False)
    page = report.build_report(tmp_path)[-1].read_bytes()
    figures = {path: path.stat().st_mtime_ns for path in (tmp_path / "figures").iterdir()}
    again = report.build_report(tmp_path, draw=False)
    assert again[-1].read_bytes() == page and figures
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "figures").iterdir()} == figures
    assert not set(again) & set(figures)
