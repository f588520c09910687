// BD-rates against a chosen anchor (all pairs were computed in Python) and the lossless table.
const BD_COLUMNS = ["anchor", "test", "rate_percent", "db", "low", "high", "points_anchor", "points_test", "lo", "hi", "overlap", "note"];
const bdOf = () => state.group.bd[state.metric] || { names: [], rows: [], anchor: 0, method: "" };

function bdRows(anchor) {
  const { names, rows } = bdOf();
  const mine = rows.filter((row) => row[0] === anchor).map((row) => Object.fromEntries(BD_COLUMNS.map((c, i) => [c, row[i]])));
  for (const row of mine) row.name = names[row.test];
  const off = new Set(DATA.hidden), shown = mine.filter((row) => byId("bd-all").checked || !off.has(`published:${row.name}`));
  byId("bd-all-label").hidden = !names.some((name) => off.has(`published:${name}`));
  return shown.sort((a, b) => (a.rate_percent ?? Infinity) - (b.rate_percent ?? Infinity) || a.name.localeCompare(b.name));
}

function drawBdTable(rows) {
  const unit = DATA.columns[state.metric];
  const head = [{ text: "curve" }, { text: "BD-rate %", class: "num" }, { text: "95 % interval", class: "num" }, { text: `BD-quality dB`, class: "num" },
    { text: `range, ${unit}`, class: "num" }, { text: "points", class: "num" }, { text: "note" }];
  byId("bd-table").replaceChildren(table("bd-rates", head, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name),
    el("td", { class: `num ${row.rate_percent < 0 ? "good" : row.rate_percent > 0 ? "bad" : ""}` }, row.overlap ? signed(row.rate_percent) : "no overlap"),
    el("td", { class: "num" }, row.lo === null ? "–" : `${signed(row.lo)} to ${signed(row.hi)}`), el("td", { class: "num" }, signed(row.db)),
    el("td", { class: "num" }, row.low === null ? "–" : `${number(row.low)} – ${number(row.high)}`), el("td", { class: "num" }, `${row.points_anchor} / ${row.points_test}`),
    el("td", { class: "wrap" }, row.note)))));
}

function drawBdChart(rows) {
  const found = rows.filter((row) => row.rate_percent !== null).reverse(), box = byId("bd-chart");
  box.hidden = !found.length;
  if (box.hidden) return;
  box.style.height = `${110 + 26 * found.length}px`;
  const figure = { x: { label: window.innerWidth > 600 ? "BD-rate, left is better" : "BD-rate", unit: "%" }, y: { label: "", unit: "" }, window: null };
  const trace = { type: "bar", orientation: "h", x: found.map((r) => r.rate_percent), y: found.map((r) => escapeText(shortened(r.name, 34))),
    marker: { color: found.map((r) => css(r.rate_percent < 0 ? "--s2" : "--s1")) }, hovertemplate: "%{text}<extra></extra>", textposition: "none",
    text: found.map((r) => `<b>${escapeText(r.name)}</b><br>${signed(r.rate_percent)} %${r.lo === null ? "" : ` (${signed(r.lo)} to ${signed(r.hi)})`}<br>between ${number(r.low)} and ${number(r.high)} dB`),
    error_x: { type: "data", symmetric: false, array: found.map((r) => (r.hi === null ? NaN : r.hi - r.rate_percent)), arrayminus: found.map((r) => (r.lo === null ? NaN : r.rate_percent - r.lo)),
      color: css("--ink"), thickness: 1.3, width: 4 } };
  const layout = layoutOf(figure, { bargap: 0.38, margin: { l: 10, r: 14, t: COARSE ? 4 : 30, b: 46 } });
  Object.assign(layout.xaxis, { range: undefined, autorange: true, zeroline: true, zerolinecolor: css("--soft"), zerolinewidth: 1.2 });
  Object.assign(layout.yaxis, { range: undefined, autorange: true, showgrid: false, ticks: "", type: "category" });
  Plotly.react(box, [trace], layout, CONFIG);
}

function drawBd() {
  const bd = bdOf(), select = byId("anchor"), names = bd.names, kept = names.indexOf(state.anchor);
  const anchor = kept >= 0 ? kept : bd.anchor;
  options(select, names.map((name, i) => [i, name]), anchor);
  select.disabled = !names.length;
  const rows = names.length ? bdRows(anchor) : [];
  byId("bd-notes").textContent = names.length ? `${state.group.title}. ${bd.method}` : `No two curves with ${DATA.columns[state.metric]} on this data set, so there is nothing to compare.`;
  drawBdChart(rows);
  rows.length ? drawBdTable(rows) : byId("bd-table").replaceChildren();
}

function drawLossless() {
  const { columns, rows } = DATA.lossless, box = byId("lossless-table");
  if (!rows.length) return box.replaceChildren(el("p", { class: "note" }, "No lossless method has been measured here."));
  const best = columns.map((_, i) => Math.min(...rows.filter((r) => r.source === "measured" && typeof r.values[i] === "number").map((r) => r.values[i])));
  const head = [{ text: "method" }, ...columns.map((c) => ({ text: c, class: "num" })), { text: "what is counted" }];
  box.replaceChildren(table("lossless-rates", head, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.label,
    row.source === "published" ? el("em", { class: "tag" }, " published") : null),
    row.values.map((v, i) => el("td", { class: `num ${row.source === "measured" && v === best[i] ? "best" : ""}` }, row.source === "published" ? el("em", {}, number(v, 3)) : number(v, 3))),
    el("td", { class: "wrap" }, row.note)))));
}
