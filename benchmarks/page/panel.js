// Stored figures, pictures and tables: a chart with its legend, its points as CSV, whatever the section.
const panels = [];  // what is drawn again when colours change

function chartPanel(figures, label, chosen = null) {
  let figure = figures[0], hidden = new Set();
  const select = el("select", { onchange: () => { figure = figures[Number(select.value)]; hidden = new Set(); draw(); } });
  const chart = el("div", { class: "chart", role: "img", "aria-label": `${label}; its points can be saved as CSV` }), list = el("ul"), note = el("p", { class: "note" });
  const link = el("a", { class: "button", href: "#" }, "Download these points (CSV)");
  const shown = () => figure.series.filter((s) => !hidden.has(s.legend));
  const hover = (_, s, i) => `<b>${escapeText(s.legend)}</b>${s.names[i] ? `<br>${escapeText(s.names[i])}` : ""}<br>${escapeText(axisText(figure.x))}: ${number(s.x[i], 4)}<br>${escapeText(axisText(figure.y))}: ${number(s.y[i], 4)}${s.reference ? `<br>${escapeText(shortened(s.reference, 90))}` : ""}`;
  const plot = () => {
    const bars = figure.kind === "bar", layout = layoutOf(figure, bars ? { margin: { l: 10, r: 14, t: 30, b: 46 } } : {});
    if (bars) Object.assign(layout.yaxis, { type: "category", autorange: "reversed", title: { text: "" } });
    Plotly.react(chart, shown().map((s) => (bars ? { type: "bar", orientation: "h", name: escapeText(s.legend), x: s.x, y: s.names.map(escapeText), marker: { color: paintOf(s) } } : traceOf(figure, s, hover))), layout, CONFIG);
    chart.removeAllListeners?.("plotly_click");
    if (chosen) chart.on("plotly_click", ({ points: [point] }) => chosen(shown()[point.curveNumber], point.pointNumber));
  };
  const draw = () => {
    list.replaceChildren(...inOrder(figure).map((s) => legendItem(s, !hidden.has(s.legend), (on) => { on ? hidden.delete(s.legend) : hidden.add(s.legend); plot(); }, (one) => spotlight(chart, shown(), one))));
    note.textContent = figure.notes.join("; ");
    const head = ["figure", "curve", "source", "point", axisText(figure.x), axisText(figure.y), "low", "high", "cell", "commit", "command", "reference"];
    offer(link, figure.name, [head, ...figure.series.flatMap((s) => s.x.map((x, i) => { const made = DATA.cells[s.cells[i]] || {}; return [figure.name, s.label, s.source, s.names[i], x, s.y[i], s.low[i], s.high[i], s.cells[i], made.commit, made.command, s.reference]; }))]);
    whenSeen(chart, plot);
  };
  options(select, figures.map((f, i) => [i, f.title]), 0);
  panels.push(() => draw());
  draw();
  return el("div", { class: "panel" }, figures.length > 1 ? el("label", { class: "which" }, "Figure ", select) : el("p", { class: "sub" }, figure.title),
    el("div", { class: "plotbox" }, chart, el("div", { class: "legend" }, list)), note, el("div", { class: "actions" }, link));
}

function storedTable(found) {
  const numeric = found.columns.map((_, i) => found.rows.some((row) => typeof row[i] === "number"));
  const cell = (v) => (typeof v === "number" && !Number.isInteger(v) ? (Math.abs(v) >= 0.01 && Math.abs(v) < 1e6 ? number(v, Math.abs(v) < 10 ? 4 : 2) : v.toPrecision(4)) : number(v));
  const whole = (v) => (Number.isInteger(v) ? v.toLocaleString("en") : cell(v));
  const link = offer(el("a", { class: "button" }, "CSV"), found.name, [found.columns, ...found.rows]);
  const head = found.columns.map((text, i) => ({ text, class: numeric[i] ? "num" : null }));
  const rows = found.rows.map((row) => el("tr", {}, row.map((v, i) => (i ? el("td", { class: numeric[i] ? "num" : null }, whole(v)) : el("th", { scope: "row" }, whole(v))))));
  const box = el("details", {}, el("summary", {}, found.caption), el("div", { class: "actions" }, link), found.made ? el("p", { class: "sub" }, `measured: ${found.made}`) : null, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": found.caption }));
  box.addEventListener("toggle", () => { if (box.open && !box.querySelector("table")) box.querySelector(".scroll").append(table(null, head, rows)); });
  return box;
}

function picturePanel(pictures) {
  const image = el("img", { loading: "lazy", alt: pictures[0].title }), show = (i) => { image.src = pictures[i].url; image.alt = pictures[i].title; };
  const select = el("select", { onchange: () => show(Number(select.value)) });
  options(select, pictures.map((p, i) => [i, p.title]), 0);
  whenSeen(image, () => show(Number(select.value) || 0));
  return el("div", { class: "picture" }, el("label", {}, "Picture ", select), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Picture" }, image));
}

// Everything stored of one section, into its box; a section without anything is not shown.
function drawStored(name, first = []) {
  const { figures, pictures, tables } = DATA.stored[name], box = byId(`${name}-stored`);
  const parts = [...first, figures.length ? chartPanel(figures, `Figures of the section ${name}`) : null, pictures.length ? picturePanel(pictures) : null, ...tables.map(storedTable)];
  box.replaceChildren(...parts.filter(Boolean));
  return parts.some(Boolean);
}

function drawUsage() {
  const box = byId("usage-box"), select = byId("usage-set"), found = DATA.usage;
  const show = () => { const one = found[Number(select.value)]; box.replaceChildren(chartPanel(one.figures, `Use of the codes on ${one.title}`), storedTable({ ...one.table, caption: `All cells with codes on ${one.title}` })); };
  byId("usage-label").hidden = found.length < 2;
  options(select, found.map((one, i) => [i, one.title]), 0);
  select.addEventListener("change", show);
  if (found.length) show();
  return drawStored("codebook") || found.length > 0;
}

function drawSections() {
  const shown = { codebook: drawUsage(), toy: drawStored("toy"), overhead: drawStored("overhead"), pictures: drawStored("pictures"), other: drawStored("other") };
  drawStored("speed");
  for (const [name, any] of Object.entries(shown)) {
    byId(name).hidden = !any;
    document.querySelector(`nav a[href="#${name}"]`).hidden = !any;
  }
}
