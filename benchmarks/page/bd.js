// BD-rates against a chosen anchor (all pairs were computed in Python) and the lossless table.
const BD_COLUMNS = ["anchor", "test", "rate_percent", "db", "low", "high", "points_anchor", "points_test", "lo", "hi", "overlap", "note"];
const bdOf = () => state.group.bd[state.metric] || { names: [], rows: [], anchor: 0, method: "" };

function bdRows(anchor) {
  const { names, rows } = bdOf();
  const mine = rows.filter((row) => row[0] === anchor).map((row) => Object.fromEntries(BD_COLUMNS.map((c, i) => [c, row[i]])));
  for (const row of mine) Object.assign(row, { label: names[row.test], name: named(names[row.test]) });
  const off = new Set(DATA.hidden), shown = mine.filter((row) => byId("bd-all").checked || !off.has(`published:${row.label}`));
  byId("bd-all-label").hidden = !names.some((name) => off.has(`published:${name}`));
  return shown.sort((a, b) => (a.rate_percent ?? Infinity) - (b.rate_percent ?? Infinity) || a.name.localeCompare(b.name));
}

function drawBdTable(rows) {
  const unit = DATA.columns[state.metric];
  const head = [{ text: "curve" }, { text: "BD-rate %", class: "num" }, { text: "95 % interval", class: "num" }, { text: `BD-quality dB`, class: "num" },
    { text: `range, ${unit}`, class: "num" }, { text: "points", class: "num" }, { text: "note" }];
  byId("bd-table").replaceChildren(table("bd-rates", head, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name),
    el("td", { class: `num ${row.rate_percent < 0 ? "good" : row.rate_percent > 0 ? "bad" : ""}` }, row.overlap ? signed(row.rate_percent) : row.note.startsWith("no overlap") ? "no overlap" : "none"),
    el("td", { class: "num" }, row.lo === null ? "–" : `${signed(row.lo)} to ${signed(row.hi)}`), el("td", { class: "num" }, signed(row.db)),
    el("td", { class: "num" }, row.low === null ? "–" : `${number(row.low)} – ${number(row.high)}`), el("td", { class: "num" }, `${row.points_anchor} / ${row.points_test}`),
    el("td", { class: "wrap" }, row.note)))));
}

// Where bars are cut, so that a few long ones do not hide the others: as on paper (figure.py).
function cutOf(values) {
  const ordered = [...values].sort((a, b) => a - b), most = Math.max(150, 1.5 * (ordered[Math.floor(ordered.length / 2)] ?? 0));
  return ordered.length && ordered.at(-1) > 1.2 * most ? most : Infinity;
}

function drawBdChart(rows) {
  const found = rows.filter((row) => row.rate_percent !== null).reverse(), box = byId("bd-chart"), most = cutOf(found.map((r) => r.rate_percent));
  box.hidden = !found.length;
  if (box.hidden) return;
  box.style.height = `${110 + 26 * found.length}px`;
  const figure = { x: { label: window.innerWidth > 600 ? "BD-rate, left is better" : "BD-rate", unit: "%" }, y: { label: "", unit: "" }, window: null };
  const trace = { type: "bar", orientation: "h", x: found.map((r) => Math.min(r.rate_percent, most)), y: found.map((r) => escapeText(shortened(r.name, 34) + (r.high - r.low < 1 ? " †" : ""))),
    marker: { color: found.map((r) => css(r.rate_percent < 0 ? "--s2" : "--s1")) }, hovertemplate: "%{customdata}<extra></extra>", textposition: "outside", cliponaxis: false,
    text: found.map((r) => `${r.rate_percent > most ? "› " : ""}${r.rate_percent > 0 ? "+" : ""}${number(r.rate_percent, 1)} %`),
    customdata: found.map((r) => `<b>${escapeText(r.name)}</b><br>${signed(r.rate_percent)} %${r.lo === null ? "" : ` (${signed(r.lo)} to ${signed(r.hi)})`}<br>between ${number(r.low)} and ${number(r.high)} dB`),
    error_x: { type: "data", symmetric: false, array: found.map((r) => (r.hi === null || r.rate_percent > most ? NaN : Math.min(r.hi, most) - r.rate_percent)), arrayminus: found.map((r) => (r.lo === null || r.rate_percent > most ? NaN : r.rate_percent - r.lo)),
      color: css("--ink"), thickness: 1.3, width: 4 } };
  const layout = layoutOf(figure, { bargap: 0.38, margin: { l: 10, r: 14, t: COARSE ? 4 : 30, b: 46 } });
  const least = Math.min(0, ...found.map((r) => r.lo ?? r.rate_percent)), right = Math.min(most, Math.max(0, ...found.map((r) => r.hi ?? r.rate_percent)));
  const room = (window.innerWidth > 600 ? 0.16 : 0.4) * (right - least || 1);  // for the numbers
  byId("bd-cut").textContent = [found.some((r) => r.rate_percent > most) ? `Bars are cut at +${most.toFixed(0)} %, their numbers are whole.` : "", found.some((r) => r.high - r.low < 1) ? "† The two curves share less than 1 dB: little to go by." : ""].join(" ").trim();
  Object.assign(layout.xaxis, { range: [least - (least < 0 ? room : 0), right + room], autorange: false, zeroline: true, zerolinecolor: css("--soft"), zerolinewidth: 1.2 });
  Object.assign(layout.yaxis, { range: undefined, autorange: true, showgrid: false, ticks: "", type: "category" });
  Plotly.react(box, [trace], layout, CONFIG);
}

function drawBd() {
  const bd = bdOf(), select = byId("anchor"), names = bd.names, kept = names.indexOf(state.anchor);
  const anchor = kept >= 0 ? kept : bd.anchor;
  options(select, names.map((name, i) => [i, named(name)]), anchor);
  select.disabled = !names.length;
  const rows = names.length ? bdRows(anchor) : [];
  byId("bd-notes").textContent = names.length ? `${state.group.title}. ${bd.method}` : `No two curves with ${DATA.columns[state.metric]} on this data set, so there is nothing to compare.`;
  drawBdChart(rows);
  rows.length ? drawBdTable(rows) : byId("bd-table").replaceChildren();
  byId("bd-matrix").hidden = names.length < 2;
  if (byId("bd-matrix").open) drawMatrix();
  offer(byId("bd-csv"), `bd_${state.group.name}_${state.metric}`, [["anchor", "test", ...BD_COLUMNS.slice(2)], ...bd.rows.map((row) => [names[row[0]], names[row[1]], ...row.slice(2)])]);
  drawSpeed();
}

// Every test curve (rows) against every anchor (columns); the head of a column makes it the anchor.
function drawMatrix() {
  const { names, rows } = bdOf(), off = new Set(DATA.hidden), all = byId("bd-all").checked;
  const kept = names.map((_, i) => i).filter((i) => all || !off.has(`published:${names[i]}`));
  const at = new Map(rows.map((row) => [`${row[0]} ${row[1]}`, row[2]]));
  const shade = (v) => (typeof v !== "number" ? null : `background: color-mix(in srgb, var(${v < 0 ? "--s2" : "--s1"}) ${Math.round(Math.min(45, 4 + Math.abs(v)))}%, transparent)`);
  const choose = (name) => { state.anchor = name; drawBd(); remember(); };
  const head = [{ text: "curve \\ anchor" }, ...kept.map((i) => ({ class: "num", text: el("button", { type: "button", title: `${named(names[i])} as the anchor`, onclick: () => choose(names[i]) }, shortened(named(names[i]), 22)) }))];
  const body = kept.map((t) => el("tr", {}, el("th", { scope: "row" }, named(names[t])), kept.map((a) => {
    const value = at.get(`${a} ${t}`);
    return el("td", { class: "num", style: shade(value), title: `${names[t]} against ${names[a]}` }, a === t ? "" : typeof value === "number" ? (value > 0 ? "+" : "") + number(value, 1) : "–");
  })));
  byId("bd-matrix").querySelector(".scroll").replaceChildren(table("matrix", head, body));
}

// Seconds of an image and BD-rate against the anchor of every measured curve.
function speedRows() {
  const bd = bdOf(), anchor = Math.max(0, bd.names.indexOf(state.anchor ?? bd.names[bd.anchor])), percent = new Map([[bd.names[anchor], 0]]);
  for (const row of bd.rows) if (row[0] === anchor) percent.set(bd.names[row[1]], row[2]);
  const rows = state.group.series.filter((s) => !s.lossless && typeof percent.get(s.label) === "number").map((s) => ({ ...s, percent: percent.get(s.label) }));
  return { anchor: bd.names[anchor] || "", rows };
}

function drawSpeed() {
  const { anchor, rows } = speedRows(), column = state.speed, shown = rows.filter((s) => s[column] > 0), box = byId("speed-chart");
  byId("speed").querySelector(".needs").hidden = box.hidden = !shown.length;
  const seconds = (v) => (typeof v === "number" ? v.toPrecision(3) : "–"), head = ["curve", "encode s", "decode s", `BD-rate % against ${named(anchor)}`];
  byId("speed-note").textContent = shown.length ? `${state.group.title}: means over images and points. CPU seconds, all threads added up; wall seconds on a GPU.` : "No measured curve of this data set has both a time and a BD-rate.";
  byId("speed-table").replaceChildren(...(shown.length ? [table("speeds", head.map((text, i) => ({ text, class: i ? "num" : null })), shown.sort((a, b) => a[column] - b[column]).map((s) => el("tr", {}, el("th", { scope: "row" }, swatch(s), " ", legendOf(s)),
    [seconds(s.encode_s), seconds(s.decode_s), signed(s.percent)].map((v) => el("td", { class: "num" }, v)))))] : []));
  offer(byId("speed-csv"), `speed_${state.group.name}_${state.metric}`, [["curve", "encode_s", "decode_s", "bd_rate_percent", "anchor"], ...shown.map((s) => [s.label, s.encode_s, s.decode_s, s.percent, anchor])]);
  if (!box.hidden) whenSeen(box, () => drawSpeedChart(box, shown, anchor, column));
}

// Where the name of each dot has room, dots given as [x, y] in pixels: no name covers another name or dot; null: nowhere.
function namePlaces(dots, names) {
  const wide = (name) => 6.3 * name.length, taken = dots.map(([x, y]) => [x - 7, y - 7, x + 7, y + 7]);
  const free = (box) => taken.every((t) => box[2] < t[0] || t[2] < box[0] || box[3] < t[1] || t[3] < box[1]);
  return dots.map(([x, y], i) => {
    const w = wide(names[i]), choices = { "top center": [x - w / 2, y - 22, x + w / 2, y - 8], "bottom center": [x - w / 2, y + 8, x + w / 2, y + 22],
      "middle right": [x + 9, y - 7, x + 9 + w, y + 7], "middle left": [x - 9 - w, y - 7, x - 9, y + 7] };
    const place = Object.keys(choices).find((name) => free(choices[name]));
    if (place) taken.push(choices[place]);
    return place || null;
  });
}

function drawSpeedChart(box, shown, anchor, column) {
  const figure = { kind: "scatter", window: null, x: { label: `${column === "encode_s" ? "encoding" : "decoding"} time of an image`, unit: "s", log: true }, y: { label: `BD-rate against ${shortened(named(anchor), 24)}`, unit: "%" } };
  const labelled = shown.length <= 16 && window.innerWidth > 600;
  const xs = shown.map((s) => Math.log10(s[column])), ys = shown.map((s) => s.percent), names = shown.map((s) => shortened(legendOf(s), 26));
  const pixels = (values, length) => { const low = Math.min(...values), range = Math.max(...values) - low || 1; return values.map((v) => ((v - low) / range) * length); };
  const across = pixels(xs, 0.88 * (box.clientWidth - 76)), down = pixels(ys.map((y) => -y), 0.88 * (box.clientHeight - 80));
  const places = labelled ? namePlaces(across.map((x, i) => [x, down[i]]), names) : [];
  const text = (_, s) => `<b>${escapeText(legendOf(s))}</b><br>encode ${s.encode_s} s, decode ${s.decode_s} s<br>BD-rate ${signed(s.percent)} %`;
  const traces = shown.map((s, i) => {
    const trace = traceOf(figure, { ...s, x: [s[column]], y: [s.percent] }, text);
    return { ...trace, marker: { ...trace.marker, size: 12 }, customdata: trace.text, hovertemplate: "%{customdata}<extra></extra>", mode: places[i] ? "markers+text" : "markers", text: [escapeText(names[i])], textposition: places[i] || "top center", textfont: { size: 11 }, cliponaxis: false };
  });
  Plotly.react(box, traces, layoutOf(figure, { margin: { l: 56, r: 20, t: 34, b: 46 } }), CONFIG);
}

// Lossless rates of one set of images, the lowest first; published ones of the whole set stand among them.
function losslessSets() {
  const { columns } = DATA.lossless, whole = columns.filter((c) => c.endsWith("images)"));
  const sets = whole.map((column) => ({ title: column, columns: [column, `${column.replace(/ \(\d+ images\)$/, "")}, published`] }));
  const cited = columns.filter((c) => !sets.some((set) => set.columns.includes(c))).map((c) => ({ title: c, columns: [c] }));
  return [...sets, ...cited].map((set) => ({ ...set, places: set.columns.map((c) => columns.indexOf(c)).filter((i) => i >= 0) }));
}

function drawLossless() {
  const { columns, rows } = DATA.lossless, box = byId("lossless-table"), sets = losslessSets(), select = byId("lossless-set");
  byId("lossless-label").hidden = !rows.length;
  if (!rows.length) return box.replaceChildren(el("p", { class: "note" }, "No lossless method has been measured here."));
  const head = [{ text: "method" }, { text: "bits per dimension", class: "num" }, { text: "what is counted" }];
  offer(byId("lossless-csv"), "lossless", [["method", "source", ...columns, "what is counted"], ...rows.map((r) => [r.label, r.source, ...r.values, r.note])]);
  const show = () => {
    const found = rows.flatMap((row) => sets[Number(select.value)].places.map((i) => ({ ...row, value: row.values[i] }))).filter((row) => typeof row.value === "number");
    found.sort((a, b) => a.value - b.value || a.label.localeCompare(b.label));
    const best = Math.min(...found.filter((row) => row.source === "measured").map((row) => row.value));
    box.replaceChildren(table("lossless-rates", head, found.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name || row.label, row.source === "published" ? el("em", { class: "tag" }, " published") : null),
      el("td", { class: `num ${row.source === "measured" && row.value === best ? "best" : ""}` }, row.source === "published" ? el("em", {}, number(row.value, 3)) : number(row.value, 3)), el("td", { class: "wrap" }, row.note)))));
  };
  const most = sets.reduce((best, set, i) => { const n = (s) => rows.filter((r) => s.places.some((p) => typeof r.values[p] === "number")).length; return n(set) > n(sets[best]) ? i : best; }, 0);
  options(select, sets.map((set, i) => [i, set.title]), most);
  select.addEventListener("change", show);
  show();
}
