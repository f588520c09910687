// Rate-distortion charts: the same figures as on paper, with hover, a legend of check boxes and the points as a table.
function layoutOf(figure, more = {}) {
  const axis = { gridcolor: css("--rule"), linecolor: css("--soft"), zeroline: false, ticks: "outside", tickcolor: css("--rule"), automargin: true };
  const [left, right, bottom, top] = figure.window || [0, 1, 0, 1];
  return { xaxis: { ...axis, title: { text: escapeText(axisText(figure.x)), standoff: 8 }, range: [left, right] },
    yaxis: { ...axis, title: { text: escapeText(axisText(figure.y)), standoff: 8 }, range: [bottom, top] },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, DejaVu Sans, sans-serif", size: 13, color: css("--ink") },
    hoverlabel: { bgcolor: css("--card"), bordercolor: css("--soft"), font: { color: css("--ink"), size: 12.5 }, align: "left" },
    margin: { l: 52, r: 10, t: COARSE ? 8 : 30, b: 46 }, autosize: true, showlegend: false, modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--accent") }, hovermode: "closest", dragmode: COARSE ? false : "zoom", ...more };
}
// Named buttons only: others of Plotly's would send the data to its makers.
const COARSE = window.matchMedia("(pointer: coarse)").matches;
const CONFIG = { displaylogo: false, responsive: true, displayModeBar: COARSE ? false : "hover", plotlyServerURL: "", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

function hoverText(figure, series, i) {
  const row = series.rows[i] || {}, cell = DATA.cells[series.cells[i]], lines = [`<b>${escapeText(legendOf(series))}</b>`];
  if (series.names[i]) lines.push(`point ${escapeText(series.names[i])}`);
  for (const column of ["bpp", ...DATA.metrics]) if (row[column] !== null && row[column] !== undefined)
    lines.push(`${escapeText(DATA.columns[column])}: ${show(column, row[column])}`);
  if (cell) {
    if (cell.checkpoint) lines.push(`checkpoint ${escapeText(cell.checkpoint)}`);
    lines.push(...(shortened(cell.command || "", 190).match(/.{1,64}(\s|$)|.{1,64}/g) || []).map((part) => `<span style="font-size:11px">${escapeText(part)}</span>`));
  } else if (series.reference) lines.push(escapeText(shortened(series.reference, 90)));
  return lines.join("<br>");
}

function traceOf(figure, series) {
  const published = series.source === "published", color = css(colorOf(series.style));
  return { type: "scatter", mode: "lines+markers", name: escapeText(legendOf(series)), x: series.x, y: series.y,
    line: { color, width: published ? 1.5 : 2.4, dash: published ? "6px,4px" : "solid" },
    marker: { color: published ? css("--card") : color, size: published ? 6 : 8.5, symbol: SYMBOLS[series.style % SYMBOLS.length], line: { color: published ? color : css("--card"), width: 1.2 } },
    text: series.x.map((_, i) => hoverText(figure, series, i)), hovertemplate: "%{text}<extra></extra>" };
}

const currentFigure = () => state.group.figures[state.metric] || { series: [], notes: [], title: state.group.title, x: {}, y: {} };
const isVisible = (series) => !state.hidden.has(identity(series));

function drawChart() {
  const figure = currentFigure(), box = byId("rd-chart"), drawn = figure.series.filter(isVisible);
  box.hidden = !figure.series.length;
  if (box.hidden) return;
  Plotly.react(box, drawn.map((s) => traceOf(figure, s)), layoutOf(figure), CONFIG);
  box.removeAllListeners?.("plotly_click");
  box.on("plotly_click", ({ points: [point] }) => pick(drawn[point.curveNumber], point.pointNumber));
}

function drawLegend() {
  const figure = currentFigure();
  byId("rd-legend").replaceChildren(...figure.series.map((series) => {
    const box = el("input", { type: "checkbox", checked: isVisible(series), onchange: () => {
      box.checked ? state.hidden.delete(identity(series)) : state.hidden.add(identity(series));
      drawChart();
    } });
    return el("li", {}, el("label", { title: series.reference || null }, box, swatch(series),
      el("span", {}, series.label, series.source === "published" ? el("small", {}, " published") : null)));
  }));
}

function showCurves(which) {
  for (const series of currentFigure().series) {
    const visible = which === "all" || (which === "measured" && series.source === "measured");
    visible ? state.hidden.delete(identity(series)) : state.hidden.add(identity(series));
  }
  drawLegend(); drawChart();
}

// What stands behind one point, as a list that stays while one reads it.
function pick(series, i) {
  const row = series.rows[i], key = series.cells[i], parts = [["curve", legendOf(series)], ["point", series.names[i]]];
  for (const column of ["bpp", ...DATA.metrics]) parts.push([DATA.columns[column], show(column, row[column])]);
  if (DATA.cells[key]) parts.push(...details(key)); else parts.push(["source", series.reference]);
  byId("picked").replaceChildren(pairs(parts),
    el("button", { type: "button", onclick: () => byId("picked").replaceChildren() }, "Close"));
}
const pairs = (entries) => el("dl", {}, entries.filter(([, value]) => value !== "" && value !== null && value !== undefined)
  .map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));

function drawPoints() {
  const figure = currentFigure(), columns = ["bpp", ...DATA.metrics];
  const head = [{ text: "curve" }, { text: "point" }, ...columns.map((c) => ({ text: DATA.columns[c], class: "num" })), { text: "behind it" }];
  const rows = figure.series.flatMap((series) => series.rows.map((row, i) => el("tr", {}, el("th", { scope: "row" }, legendOf(series)), el("td", {}, series.names[i]),
    columns.map((c) => el("td", { class: "num" }, show(c, row[c]))),
    el("td", {}, el("button", { type: "button", onclick: () => { pick(series, i); byId("picked").scrollIntoView({ block: "center" }); } }, "details")))));
  byId("rd-points").querySelector(".scroll").replaceChildren(table("points", head, rows));
}

const csvCell = (value) => (/[",\n\r]/.test(value) ? `"${value.replace(/"/g, '""')}"` : value);
function csvOf(figure) {
  const columns = [...new Set(figure.series.flatMap((s) => s.rows.flatMap((row) => Object.keys(row))))];
  const lines = figure.series.flatMap((s) => s.rows.map((row, i) => [state.group.title, s.label, s.source, s.cells[i], s.reference,
    ...columns.map((c) => row[c] ?? "")]));
  return [["data_set", "curve", "source", "cell", "reference", ...columns], ...lines].map((line) => line.map((v) => csvCell(String(v))).join(",")).join("\n") + "\n";
}

function drawCurves() {
  const figure = currentFigure();
  byId("rd-title").textContent = `${state.group.title}${state.group.subset ? " (a subset)" : ""}. ${state.group.note}`;
  byId("rd-notes").textContent = figure.series.length ? figure.notes.join("; ") : [`No ${DATA.columns[state.metric]} for this data set`, ...figure.notes].join("; ");
  Object.assign(byId("rd-csv"), { href: `data:text/csv;charset=utf-8,${encodeURIComponent(csvOf(figure))}`, download: `${figure.name || "points"}.csv` });
  byId("picked").replaceChildren();
  drawLegend(); drawChart(); drawPoints();
}
