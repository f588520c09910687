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

function drawGroup() { drawCurves(); drawBd(); drawImages(); drawScatter(); drawStrip(); remember(); }

// What is shown stands in the address after '#': a section, then name=value for what is not as at the start.
let started = false;
function remember() {
  if (!started) return;
  const said = new URLSearchParams();
  if (state.group !== DATA.groups[0]) said.set("set", state.group.name);
  if (state.metric !== DATA.metrics[0]) said.set("metric", state.metric);
  if (state.anchor) said.set("anchor", state.anchor);
  if (state.speed !== "decode_s") said.set("speed", state.speed);
  if (state.ticked.has(state.group.name)) said.set("curves", [...chosenNow()].join("|"));
  if (state.looked) for (const [name, value] of Object.entries({ image: state.group.images.names[view.image], a: keyA(), b: view.pointB === "near" ? `near ${measuredSeries()[view.b]?.label}` : keyB(), pair: view.pair, view: view.mode })) if (value) said.set(name, value);
  const section = location.hash.slice(1).split(";")[0], text = said.toString();
  history.replaceState(null, "", `#${section}${text ? `;${text}` : ""}`);
}

// The state that an address asks for, as far as this page has it.
function recall() {
  const said = new URLSearchParams(location.hash.split(";").slice(1).join(";"));
  const group = DATA.groups.find((g) => g.name === said.get("set"));
  if (group) state.group = group;
  if (DATA.metrics.includes(said.get("metric"))) state.metric = said.get("metric");
  if (said.has("anchor")) state.anchor = said.get("anchor");
  if (["encode_s", "decode_s"].includes(said.get("speed"))) state.speed = said.get("speed");
  if (said.has("curves")) state.ticked.set(state.group.name, new Set(said.get("curves").split("|").filter(Boolean)));
  startView();
  const place = (key) => measuredSeries().findIndex((s) => s.cells.includes(key)), near = (said.get("b") || "").replace(/^near /, "");
  const image = state.group.images.names.indexOf(said.get("image"));
  if (image < 0) return;
  state.looked = true;
  view.image = image;
  if (place(said.get("a")) >= 0) Object.assign(view, { a: place(said.get("a")), pointA: said.get("a") });
  if (place(near) >= 0) Object.assign(view, { b: place(near), pointB: near });
  else view.b = Math.max(0, measuredSeries().findIndex((s) => s.label === near));
  if (["original-a", "original-b", "a-b"].includes(said.get("pair"))) view.pair = said.get("pair");
  if (["slider", "side", "diff"].includes(said.get("view"))) view.mode = said.get("view");
}

// Go to a section and stay there while charts above are drawn and change its place, until the reader moves.
function land(id) {
  const target = byId(id);
  if (!target) return;
  const go = () => target.scrollIntoView({ block: "start", behavior: "instant" });
  const watch = new ResizeObserver(go), end = () => { watch.disconnect(); for (const name of ["wheel", "touchstart", "keydown", "pointerdown"]) window.removeEventListener(name, end); };
  for (const name of ["wheel", "touchstart", "keydown", "pointerdown"]) window.addEventListener(name, end, { passive: true });
  go(); watch.observe(document.querySelector("main")); setTimeout(end, 4000);
}

// Boxes wider than their room say so at their edges.
function markWide() {
  for (const box of document.querySelectorAll(".scroll")) box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
}

function setUpMenu() {
  new MutationObserver(() => requestAnimationFrame(markWide)).observe(document.querySelector("main"), { childList: true, subtree: true });
  window.addEventListener("resize", markWide);
  markWide();
  const bar = byId("controls"), measure = () => document.documentElement.style.setProperty("scroll-padding-top", getComputedStyle(bar).position === "sticky" ? `${bar.offsetHeight + 8}px` : "8px");
  new ResizeObserver(measure).observe(bar);
  for (const link of document.querySelectorAll('nav a[href^="#"]')) link.addEventListener("click", (event) => {
    event.preventDefault();
    const id = link.getAttribute("href").slice(1), rest = location.hash.split(";").slice(1).join(";");
    history.replaceState(null, "", `#${id}${rest ? `;${rest}` : ""}`);
    land(id);
  });
}

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
  recall();
  options(byId("dataset"), DATA.groups.map((g, i) => [i, g.title]), DATA.groups.indexOf(state.group));
  byId("dataset").addEventListener("change", (e) => { state.group = DATA.groups[Number(e.target.value)]; startView(); drawGroup(); });
  byId("anchor").addEventListener("change", (e) => { state.anchor = bdOf().names[Number(e.target.value)]; drawBd(); remember(); });
  byId("bd-all").addEventListener("change", drawBd);
  byId("bd-matrix").addEventListener("toggle", () => byId("bd-matrix").open && drawMatrix());
  byId("rd-chart").addEventListener("keydown", walk);
  radios(byId("speed-of"), "speed-of", [["encode_s", "encoding"], ["decode_s", "decoding"]], state.speed, (value) => { state.speed = value; drawSpeed(); remember(); });
  for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => showCurves(button.dataset.show));
  drawMetrics(); setUpImages(); drawGroup(); setUpMenu();
  started = true;
  for (const name of ["change", "click"]) byId("images").addEventListener(name, () => { state.looked = true; remember(); });
  if (location.hash.length > 1) land(location.hash.slice(1).split(";")[0]);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawGroup(); panels.forEach((draw) => draw()); });
  window.addEventListener("resize", drawStage);
  window.addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("#rd-points, #bd-matrix")) fold.open = false; });
}
start();
