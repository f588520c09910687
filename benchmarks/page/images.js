// One image, two methods: pictures where they were kept, numbers always.
const view = { image: 0, a: 0, b: 1, pointA: null, pointB: "near", pair: "original-a", mode: "slider", zoom: "fit" };
const measuredSeries = () => state.group.series;
const numbersOf = (key) => state.group.images.numbers[key] || {};
const valueOf = (key, column) => (numbersOf(key)[column] || [])[view.image] ?? null;

// Begin a data set at an image, methods and a point whose pictures lie beside the page, where there are any.
const isPictured = (group) => Object.keys(group.images.pictures).some((key) => key !== "original");
function startView() {
  const { images: { names, pictures }, series } = state.group, original = pictures.original || {};
  const kept = series.map((s) => s.cells.filter((key) => pictures[key])), shown = series.map((_, i) => i).filter((i) => kept[i].length);
  view.image = Math.max(0, names.findIndex((name) => original[name] && (!shown.length || pictures[kept[shown[0]][0]][name])));
  view.a = shown[0] ?? 0;
  view.b = shown[1] ?? (view.a === 0 ? 1 : 0);
  const cells = kept[view.a] || [];
  view.pointA = cells[Math.floor((cells.length - 1) / 2)] ?? null;
  view.pointB = "near";
}

// The point of a series whose rate on this image is nearest to a wanted one.
function nearest(series, bpp) {
  const distance = (key) => { const v = valueOf(key, "bpp"); return v === null ? Infinity : Math.abs(Math.log(v / bpp)); };
  return series.cells.reduce((best, key) => (distance(key) < distance(best) ? key : best), series.cells[0]);
}
const keyA = () => view.pointA;
const keyB = () => (view.pointB === "near" ? nearest(measuredSeries()[view.b], valueOf(keyA(), "bpp") || 1) : view.pointB);
const nameOf = (key) => { const cell = DATA.cells[key], one = measuredSeries().find((s) => s.cells.includes(key)), name = one ? legendOf(one) : cell.label; return cell.point === "" ? name : `${name} at ${cell.point}`; };

function pictureOf(side) {
  const images = state.group.images, name = images.names[view.image];
  if (side === "original") return { text: "original", url: (images.pictures.original || {})[name] };
  const key = side === "a" ? keyA() : keyB();
  return { text: `${nameOf(key)}, ${number(valueOf(key, "bpp"), 3)} bpp`, url: (images.pictures[key] || {})[name], key };
}

function fit(stack, image) {
  const room = document.querySelector(".viewer").clientWidth / (view.mode === "side" && window.innerWidth > 700 ? 2 : 1) - 6;
  const scale = view.zoom === "fit" ? Math.min(room / image.naturalWidth, 12) : Number(view.zoom);
  stack.style.width = `${Math.round(image.naturalWidth * scale)}px`;
  stack.style.height = `${Math.round(image.naturalHeight * scale)}px`;
  for (const each of stack.querySelectorAll("img")) each.style.imageRendering = scale >= 2 ? "pixelated" : "auto";
}

function stackOf(mode, ...pictures) {
  const stack = el("div", { class: `stack ${mode}` }, pictures.map((p) => el("img", { src: p.url, alt: p.text, draggable: "false" })));
  const first = stack.querySelector("img"), size = () => fit(stack, first);
  first.complete && first.naturalWidth ? size() : first.addEventListener("load", size);
  return stack;
}

const divide = () => byId("stage").style.setProperty("--at", `${byId("divider").value}%`);
function dragDivider(stack) {
  const move = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = stack.getBoundingClientRect();
    byId("divider").value = Math.max(0, Math.min(100, (100 * (event.clientX - box.left)) / box.width));
    divide();
  };
  stack.addEventListener("pointerdown", (event) => { stack.setPointerCapture(event.pointerId); move(event); });
  stack.addEventListener("pointermove", move);
}

function drawStage() {
  const [left, right] = view.pair.split("-").map(pictureOf), stage = byId("stage"), missing = [left, right].filter((p) => !p.url);
  byId("missing").replaceChildren(...missing.map(sayMissing), ...(missing.length ? offerPictured() : []));
  byId("divider-label").hidden = view.mode !== "slider" || missing.length > 0;
  byId("gain-label").hidden = view.mode !== "diff";
  byId("stage-scroll").hidden = missing.length > 0;
  if (missing.length) return stage.replaceChildren();
  const caption = (side, text) => el("figcaption", { class: side }, text);
  if (view.mode === "side") stage.replaceChildren(el("figure", {}, caption("left", left.text), stackOf("single", left)), el("figure", {}, caption("left", right.text), stackOf("single", right)));
  else {
    const stack = stackOf(view.mode === "diff" ? "diff" : "split", left, right);
    const captions = view.mode === "diff" ? [caption("left", `|${left.text} − ${right.text}| × ${byId("gain").value}`)] : [caption("left", left.text), caption("right", right.text)];
    stage.replaceChildren(el("figure", {}, ...captions, stack));
    if (view.mode === "diff") stack.style.filter = `brightness(${byId("gain").value})`; else dragDivider(stack);
  }
  stage.style.flexWrap = view.mode === "side" && window.innerWidth <= 700 ? "wrap" : "nowrap";
  divide();
}

function sayMissing(picture) {
  const command = DATA.cells[picture.key || keyA()].pictures;
  if (!command) return el("p", {}, "The pictures of this data set may not be stored, so there are only numbers.");
  return el("p", {}, `No picture of “${picture.text}” was kept in the results folder. This measures the cell again and keeps it: `, el("code", {}, command));
}

// Buttons to data sets that have pictures, when this one has none.
function offerPictured() {
  const others = isPictured(state.group) ? [] : DATA.groups.map((g, i) => [g, i]).filter(([g]) => isPictured(g));
  const open = (i) => { byId("dataset").value = String(i); byId("dataset").dispatchEvent(new Event("change")); byId("images").scrollIntoView(); };
  return others.length ? [el("p", {}, "Pictures lie beside this page for: ", others.map(([g, i]) => el("button", { type: "button", onclick: () => open(i) }, g.title)))] : [];
}

function drawImageTable() {
  const columns = ["bpp", ...DATA.metrics.filter((m) => numbersOf(keyA())[m] || numbersOf(keyB())[m])];
  const head = [{ text: "" }, { text: "method" }, ...columns.map((c) => ({ text: DATA.columns[c], class: "num" }))];
  const rows = [["A", keyA()], ["B", keyB()]].map(([side, key]) => el("tr", {}, el("th", { scope: "row" }, side), el("td", { class: "wrap" }, nameOf(key)),
    columns.map((c) => el("td", { class: "num" }, show(c, valueOf(key, c)), el("br"), el("span", { class: "tag" }, `set ${show(c, DATA.cells[key].means[c])}`)))));
  byId("image-table").replaceChildren(table("image-numbers", head, rows));
}

function drawImageChart() {
  const box = byId("image-chart"), axis = currentFigure().y;
  const series = measuredSeries().map((s) => {
    const at = s.cells.map((key) => ({ key, x: valueOf(key, "bpp"), y: valueOf(key, state.metric) })).filter((p) => typeof p.x === "number" && typeof p.y === "number").sort((p, q) => p.x - q.x);
    return { ...s, x: at.map((p) => p.x), y: at.map((p) => p.y), cells: at.map((p) => p.key), names: at.map((p) => String(DATA.cells[p.key].point)), rows: at.map((p) => ({ bpp: p.x, [state.metric]: p.y })) };
  }).filter((s) => s.x.length);
  box.hidden = !series.length;
  if (box.hidden) return;
  const figure = { x: { label: "rate of this image", unit: "bits per pixel" }, y: axis };
  const ring = ["a", "b"].map((side) => (side === "a" ? keyA() : keyB())).filter((key) => typeof valueOf(key, state.metric) === "number");
  const rings = { type: "scatter", mode: "markers", x: ring.map((key) => valueOf(key, "bpp")), y: ring.map((key) => valueOf(key, state.metric)), hoverinfo: "skip",
    marker: { size: 17, color: "rgba(0,0,0,0)", line: { color: css("--ink"), width: 2 } } };
  const layout = layoutOf(figure);
  layout.xaxis.rangemode = "tozero";
  whenSeen(box, () => Plotly.react(box, [...series.map((s) => traceOf(figure, s)), rings], layout, CONFIG));
}

// Every image as a dot; a click chooses it.
function drawScatter() {
  const figure = state.group.scatter[state.metric], box = byId("image-scatter");
  box.replaceChildren(...(figure && figure.series.length ? [chartPanel([figure], "Every image at about one rate", (series, i) => {
    const place = state.group.images.names.indexOf(series.names[i]);
    if (place >= 0) { view.image = place; drawImages(); byId("images").scrollIntoView(); }
  })] : []));
}

function pointOptions(series) { return series.cells.map((key) => [key, `${DATA.cells[key].point === "" ? "only point" : DATA.cells[key].point} · ${number(valueOf(key, "bpp"), 3)} bpp`]); }

function drawImages() {
  const series = measuredSeries(), images = state.group.images, usable = series.length > 0 && images.names.length > 0;
  for (const part of [byId("pickers"), ...document.querySelectorAll(".viewer"), byId("image-chart"), byId("image-table")]) part.hidden = !usable;
  byId("images-note").textContent = usable ? (images.names.length < images.total ? `${state.group.title}: the first ${images.names.length} of ${images.total} images.` : "") : "No image has been measured on this data set.";
  if (!usable) return;
  view.image = Math.min(view.image, images.names.length - 1);
  view.a = Math.min(view.a, series.length - 1);
  view.b = Math.min(view.b, series.length - 1);
  if (!series[view.a].cells.includes(view.pointA)) view.pointA = series[view.a].cells[Math.floor((series[view.a].cells.length - 1) / 2)];
  if (!series[view.b].cells.includes(view.pointB)) view.pointB = "near";
  options(byId("image"), images.names.map((name, i) => [i, name]), view.image);
  const names = series.map((s, i) => [i, legendOf(s)]);
  options(byId("method-a"), names, view.a); options(byId("method-b"), names, view.b);
  options(byId("point-a"), pointOptions(series[view.a]), view.pointA);
  options(byId("point-b"), [["near", `nearest rate (${DATA.cells[keyB()].point})`], ...pointOptions(series[view.b])], view.pointB);
  drawStage(); drawImageTable(); drawImageChart(); remember();
}

// The first view: one picture as curves decode it at about one rate; a click opens it below.
const STRIP = 4;
function drawStrip() {
  const group = isPictured(state.group) ? state.group : DATA.groups.find(isPictured), box = byId("strip");
  box.hidden = !group;
  if (!group) return;
  const { pictures, names, numbers } = group.images, original = pictures.original || {};
  const shown = group.series.map((s, i) => ({ s, i, keys: s.cells.filter((key) => pictures[key]) })).filter((one) => one.keys.length);
  const name = names.find((n) => original[n] && shown.every(({ keys }) => keys.some((key) => pictures[key][n]))) ?? names.find((n) => original[n]);
  if (name === undefined || !shown.length) return (box.hidden = true);
  const place = names.indexOf(name), rate = (key) => (numbers[key].bpp || [])[place], wanted = rate(shown[0].keys[Math.floor((shown[0].keys.length - 1) / 2)]);
  const open = (i, key) => () => {
    if (state.group !== group) { byId("dataset").value = String(DATA.groups.indexOf(group)); byId("dataset").dispatchEvent(new Event("change")); }
    Object.assign(view, { image: place, a: i, pointA: key, pair: "original-a" });
    drawImages(); land("images");
  };
  const card = (url, text, act) => el("button", { type: "button", class: "card", onclick: act }, el("img", { src: url, alt: text, loading: "eager" }), el("span", {}, text));
  const first = shown.slice(0, STRIP).map(({ s, i, keys }) => { const near = keys.filter((key) => pictures[key][name]).reduce((best, key) => (Math.abs(Math.log(rate(key) / wanted)) < Math.abs(Math.log(rate(best) / wanted)) ? key : best));
    return { text: `${legendOf(s)}, ${number(rate(near), 2)} bpp`, url: pictures[near][name], act: open(i, near) }; });
  box.replaceChildren(card(original[name], `original: ${name}`, first[0].act), ...first.map((one) => card(one.url, one.text, one.act)));
}

function setUpImages() {
  const on = (id, event, act) => byId(id).addEventListener(event, act);
  on("image", "change", (e) => { view.image = Number(e.target.value); drawImages(); });
  on("method-a", "change", (e) => { view.a = Number(e.target.value); drawImages(); });
  on("method-b", "change", (e) => { view.b = Number(e.target.value); drawImages(); });
  on("point-a", "change", (e) => { view.pointA = e.target.value; drawImages(); });
  on("point-b", "change", (e) => { view.pointB = e.target.value; drawImages(); });
  on("pickers", "submit", (e) => e.preventDefault());
  on("divider", "input", divide); on("gain", "change", drawStage);
  on("zoom", "change", (e) => { view.zoom = e.target.value; drawStage(); });
  radios(byId("pair"), "pair", [["original-a", "original | A"], ["original-b", "original | B"], ["a-b", "A | B"]], view.pair, (value) => { view.pair = value; drawStage(); remember(); });
  radios(byId("view"), "view", [["slider", "slider"], ["side", "side by side"], ["diff", "difference"]], view.mode, (value) => { view.mode = value; drawStage(); remember(); });
}
