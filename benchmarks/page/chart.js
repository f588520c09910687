// Rate-distortion charts: the same figures as on paper, with hover, a legend of check boxes and the points as a table.
function layoutOf(figure, more = {}) {
  const axis = { gridcolor: css("--rule"), linecolor: css("--soft"), zeroline: false, ticks: "outside", tickcolor: css("--rule"), automargin: true };
  const [left, right, bottom, top] = figure.window || [0, 1, 0, 1];
  const most = Math.floor(window.innerWidth / 10.5);  // characters of a title that fit on a phone
  const scale = (one, range) => ({ ...axis, title: { text: wrapped(axisText(one), most), standoff: 8 }, type: one.log ? "log" : "-", ...(figure.window ? { range } : { autorange: true }) });
  return { xaxis: scale(figure.x, [left, right]), yaxis: scale(figure.y, [bottom, top]),
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

function traceOf(figure, series, text = hoverText) {
  const thin = series.source !== "measured", color = paintOf(series), dash = dashOf(series);
  const mode = figure.kind === "scatter" ? "markers" : series.source === "bound" ? "lines" : "lines+markers";
  return { type: "scatter", mode, name: escapeText(legendOf(series)), x: series.x, y: series.y,
    line: { color, width: thin ? 1.5 : 2.4, dash: dash.length ? dash.map((d) => `${d}px`).join(",") : "solid" },
    marker: { color: thin ? css("--card") : color, size: thin ? 6 : 8.5, symbol: SYMBOLS[series.look[1]], line: { color: thin ? color : css("--card"), width: 1.2 }, maxdisplayed: series.x.length > 40 ? 12 : 0 },
    text: series.x.map((_, i) => text(figure, series, i)), hovertemplate: "%{text}<extra></extra>" };
}

// Measured curves first, each kind from the highest line to the lowest: the list reads as the chart looks.
const inOrder = (figure) => figure.order.map((i) => figure.series[i]).sort((a, b) => (a.source !== "measured") - (b.source !== "measured"));

// Fade all lines but one while the reader points at its name.
function spotlight(box, drawn, series) {
  if (!box.data || !drawn.length) return;
  const opacity = drawn.map((s) => (!series || s === series ? 1 : 0.12)), extra = box.data.length - drawn.length;
  Plotly.restyle(box, { opacity: [...opacity, ...Array(extra).fill(1)] });
}

function legendItem(series, visible, toggle, light) {
  const box = el("input", { type: "checkbox", checked: visible, onchange: () => toggle(box.checked) });
  const on = () => box.checked && light(series), off = () => light(null);
  return el("li", { onmouseenter: on, onmouseleave: off, onfocusin: on, onfocusout: off }, el("label", { title: series.reference || null }, box, swatch(series),
    el("span", {}, breakable(shownOf(series)), series.source === "published" ? el("small", {}, " published") : null)));
}

const currentFigure = () => state.group.figures[state.metric] || { series: [], order: [], notes: [], title: state.group.title, x: {}, y: {} };
const chosenNow = () => state.ticked.get(state.group.name) || new Set(state.group.chosen[state.metric] || []);
const isVisible = (series) => chosenNow().has(identity(series));
function tick(change) {
  const kept = new Set(chosenNow());
  change(kept);
  state.ticked.set(state.group.name, kept);
  remember();
}
const drawnSeries = () => currentFigure().series.filter(isVisible);

function drawChart() {
  const figure = currentFigure(), box = byId("rd-chart"), drawn = drawnSeries();
  box.hidden = !figure.series.length;
  if (box.hidden) return;
  Plotly.react(box, drawn.map((s) => traceOf(figure, s)), layoutOf(figure), CONFIG);
  box.removeAllListeners?.("plotly_click");
  box.on("plotly_click", ({ points: [point] }) => pick(drawn[point.curveNumber], point.pointNumber));
}

// The curves chosen for this figure stand in the legend, the others below in a fold, so that nothing must be scrolled.
function drawLegend() {
  const item = (series) => legendItem(series, isVisible(series), (checked) => {
    tick((kept) => (checked ? kept.add(identity(series)) : kept.delete(identity(series))));
    drawChart();
  }, (one) => spotlight(byId("rd-chart"), drawnSeries(), one));
  const every = inOrder(currentFigure()), first = every.filter(isVisible), rest = every.filter((s) => !first.includes(s));
  byId("rd-legend").replaceChildren(...first.map(item));
  byId("rd-rest").replaceChildren(...rest.map(item));
  byId("rd-more").hidden = !rest.length;
  byId("rd-more").querySelector("summary").textContent = `${rest.length} more curve${rest.length === 1 ? "" : "s"}`;
}

// Arrow keys walk over the chart: left and right along a curve, up and down from curve to curve.
const cursor = { curve: 0, point: 0 };
function walk(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key], drawn = drawnSeries();
  if (!step || !drawn.length) return;
  event.preventDefault();
  cursor.curve = (Math.min(cursor.curve, drawn.length - 1) + step[0] + drawn.length) % drawn.length;
  const series = drawn[cursor.curve];
  cursor.point = Math.max(0, Math.min(series.x.length - 1, cursor.point + step[1]));
  Plotly.Fx.hover(byId("rd-chart"), [{ curveNumber: cursor.curve, pointNumber: cursor.point }]);
  pick(series, cursor.point);
}

function showCurves(which) {
  if (which === "chosen") state.ticked.delete(state.group.name);
  else tick((kept) => { kept.clear(); for (const s of currentFigure().series) if (which === "all" || s.source === which) kept.add(identity(s)); });
  remember();
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

function csvOf(figure) {
  const columns = [...new Set(figure.series.flatMap((s) => s.rows.flatMap((row) => Object.keys(row))))], origin = ["checkpoint", "commit", "command"];
  const lines = figure.series.flatMap((s) => s.rows.map((row, i) => [state.group.title, s.label, s.source, s.cells[i], s.reference,
    ...columns.map((c) => row[c]), ...origin.map((fact) => (DATA.cells[s.cells[i]] || {})[fact])]));
  return [["data_set", "curve", "source", "cell", "reference", ...columns, ...origin], ...lines];
}

function drawCurves() {
  const figure = currentFigure();
  byId("rd-title").textContent = `${state.group.title}${state.group.subset ? " (a subset)" : ""}. ${state.group.note}`;
  byId("rd-notes").textContent = figure.series.length ? figure.notes.join("; ") : [`No ${DATA.columns[state.metric]} for this data set`, ...figure.notes].join("; ");
  offer(byId("rd-csv"), figure.name || "points", csvOf(figure));
  byId("picked").replaceChildren();
  drawLegend(); drawChart(); drawPoints();
}
