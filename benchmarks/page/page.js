// Provenance of every cell, the switches at the top, and the start.
const FIRST_ROWS = 50;

function details(key) {
  const cell = DATA.cells[key];
  return [["data set", cell.title], ["checkpoint", cell.checkpoint || "none"], ["commit", cell.commit + (cell.dirty ? " (with uncommitted changes)" : "")], ["measured", cell.started],
    ["took", cell.wall_s === "" ? "" : `${number(cell.wall_s, 1)} s`], ["machine", cell.machine], ["versions", cell.versions], ["note", cell.note], ["paper", cell.paper], ["cell", key], ["command", el("code", {}, cell.command)]];
}

function provenanceRow(key) {
  const cell = DATA.cells[key];
  const more = el("button", { type: "button", "aria-expanded": "false", "aria-label": `Details of ${cell.label} ${cell.point}` }, "details");
  const row = el("tr", {}, el("th", { scope: "row" }, cell.label), el("td", {}, cell.point), el("td", {}, cell.title), el("td", {}, cell.checkpoint || "none"),
    el("td", {}, el("code", {}, shortened(cell.commit, 11)), cell.dirty ? el("span", { class: "dirty", title: "with uncommitted changes" }, " dirty") : null),
    el("td", {}, cell.started.slice(0, 10)), el("td", {}, el("code", {}, key)), el("td", {}, more));
  more.addEventListener("click", () => {
    const open = more.getAttribute("aria-expanded") === "true";
    more.setAttribute("aria-expanded", String(!open));
    if (open) row.nextSibling.remove(); else row.after(el("tr", { class: "detail" }, el("td", { colspan: 8 }, pairs(details(key)))));
  });
  return row;
}

const searchText = (key) => { const c = DATA.cells[key]; return [c.label, c.point, c.title, c.checkpoint, c.commit, c.dirty ? "dirty" : "", c.started, c.machine, c.versions, c.command, key].join(" ").toLowerCase(); };
let everything = false;
function drawProvenance() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean), keys = Object.keys(DATA.cells);
  const found = keys.filter((key) => { const text = searchText(key); return words.every((word) => text.includes(word)); });
  const shown = everything ? found : found.slice(0, FIRST_ROWS);
  byId("filter-count").textContent = `${found.length} of ${keys.length} results`;
  byId("more").hidden = shown.length === found.length;
  byId("more").textContent = `Show all ${found.length}`;
  byId("provenance-table").replaceChildren(table("cells", ["method", "point", "data set", "checkpoint", "commit", "date", "cell", ""].map((text) => ({ text })), shown.map(provenanceRow)));
}

function drawGroup() { drawCurves(); drawBd(); drawImages(); drawScatter(); }

function drawMetrics() {
  radios(byId("metric"), "metric", DATA.metrics.map((m) => [m, DATA.columns[m]]), state.metric, (value) => { state.metric = value; drawGroup(); });
}

function start() {
  byId("stats").textContent = DATA.stats;
  drawLossless(); drawProvenance(); drawSections();
  byId("filter").addEventListener("input", () => { everything = false; drawProvenance(); });
  byId("more").addEventListener("click", () => { everything = true; drawProvenance(); });
  if (!state.group) {
    for (const id of ["controls", "rd", "bd", "speed", "images"]) byId(id).hidden = true;
    byId("empty").hidden = false;
    return;
  }
  options(byId("dataset"), DATA.groups.map((g, i) => [i, g.title]), 0);
  byId("dataset").addEventListener("change", (e) => { state.group = DATA.groups[Number(e.target.value)]; startView(); drawGroup(); });
  byId("anchor").addEventListener("change", (e) => { state.anchor = bdOf().names[Number(e.target.value)]; drawBd(); });
  byId("bd-all").addEventListener("change", drawBd);
  byId("bd-matrix").addEventListener("toggle", () => byId("bd-matrix").open && drawMatrix());
  byId("rd-chart").addEventListener("keydown", walk);
  radios(byId("speed-of"), "speed-of", [["encode_s", "encoding"], ["decode_s", "decoding"]], state.speed, (value) => { state.speed = value; drawSpeed(); });
  for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => showCurves(button.dataset.show));
  drawMetrics(); setUpImages(); startView(); drawGroup();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawGroup(); panels.forEach((draw) => draw()); });
  window.addEventListener("resize", drawStage);
}
start();
