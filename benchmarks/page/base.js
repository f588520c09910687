// What every part of the page uses: the data, the state, building elements, formatting numbers.
const DATA = JSON.parse(document.getElementById("data").textContent);
const state = { group: DATA.groups[0] || null, metric: DATA.metrics[0], ticked: new Map(), speed: "decode_s" };
const byId = (id) => document.getElementById(id);

// An element with attributes and children; strings become text nodes, so no data is ever parsed as HTML.
function el(tag, attributes = {}, ...children) {
  const node = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined).map((c) => (c instanceof Node ? c : String(c))));
  return node;
}

// Plotly reads a small set of tags in its texts, so they must be escaped there.
const escapeText = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const DIGITS = { bpp: 4, bpd: 4, psnr: 3, ms_ssim: 5, ms_ssim_db: 3, mse: 3 };
function number(value, digits = 2) {
  if (value === null || value === undefined || value === "") return "–";
  if (value === "inf") return "∞";
  return typeof value === "number" ? value.toFixed(digits).replace("-", "−") : String(value);
}
const show = (column, value) => number(value, DIGITS[column] ?? 2);
const signed = (value) => (value === null ? "–" : (value > 0 ? "+" : "") + number(value, 2));

function table(id, head, rows) {
  const cells = head.map((h) => el("th", { scope: "col", class: h.class }, h.text));
  return el("table", { id }, el("thead", {}, el("tr", {}, cells)), el("tbody", {}, rows));
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// look = [colour, marker, dash], numbered in figures.py; lengths of dashes as on paper.
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const PATHS = ["M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-3.5,-3.5h7v7h-7z", "M0,-4.2L4.2,3.4H-4.2z", "M0,-5L5,0L0,5L-5,0z",
  "M0,4.2L4.2,-3.4H-4.2z", "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", "M-4,-2.4L-2.4,-4L0,-1.6L2.4,-4L4,-2.4L1.6,0L4,2.4L2.4,4L0,1.6L-2.4,4L-4,2.4L-1.6,0z"];
const DASHES = { measured: [[], [12, 3.5], [2.5, 2.5], [12, 3, 2.5, 3]], published: [[6, 3.5], [13, 4], [2, 2.5], [9, 3, 2, 3]] };
const colorOf = (look) => `--s${look[0]}`;
// A colour on the way to another, both '#rrggbb'.
const mixed = (a, b, share) => "#" + [1, 3, 5].map((i) => Math.round((1 - share) * parseInt(a.slice(i, i + 2), 16) + share * parseInt(b.slice(i, i + 2), 16)).toString(16).padStart(2, "0")).join("");
const paintOf = (series) => (series.source === "published" ? mixed(css(colorOf(series.look)), css("--card"), 0.4) : css(colorOf(series.look)));
const dashOf = (series) => DASHES[series.source === "measured" ? "measured" : "published"][series.look[2]];

// A line with its marker, as the chart draws it; a bound has no marker.
function swatch(series) {
  const thin = series.source !== "measured", paint = series.source === "published" ? `color-mix(in srgb, var(${colorOf(series.look)}) 60%, var(--card))` : `var(${colorOf(series.look)})`;
  return el("svg", { width: 38, height: 14, viewBox: "-19 -7 38 14", "aria-hidden": "true" },
    el("path", { d: "M-19,0H19", stroke: paint, "stroke-width": thin ? 1.5 : 2.2, "stroke-dasharray": dashOf(series).join(" ") || null }),
    series.source === "bound" ? null : el("path", { d: PATHS[series.look[1]], fill: thin ? "var(--card)" : paint, stroke: paint, "stroke-width": 1.2, transform: thin ? "scale(0.8)" : null }));
}

const identity = (series) => `${series.source}:${series.label}`;
const legendOf = (series) => series.legend;
const shownOf = (series) => series.legend.replace(/ \(published\)$/, "");
const named = (label) => (state.group && state.group.names[label]) || label;  // what figures call a curve
const axisText = (axis) => (axis.unit ? `${axis.label} [${axis.unit}]` : axis.label);
// Words in lines of at most so many characters, for texts of Plotly.
const wrapped = (text, most) => text.split(" ").reduce((lines, word) => (lines.length && lines.at(-1).length + word.length < most ? [...lines.slice(0, -1), `${lines.at(-1)} ${word}`] : [...lines, word]), []).map(escapeText).join("<br>");
// A name that may be broken where its parts end.
const breakable = (text) => text.split(/(?<=[_(=,/])/).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));
const shortened = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => el("option", { value, selected: String(value) === String(chosen) }, text)));
}

// Radio buttons drawn as one switch; entries are [value, text].
function radios(box, name, entries, chosen, change) {
  box.replaceChildren(...entries.map(([value, text]) => el("label", {},
    el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => change(value) }), text)));
}

// Text as a file to save: each value of each line becomes a cell.
const csvCell = (value) => (/[",\n\r]/.test(value) ? `"${value.replace(/"/g, '""')}"` : value);
const csvText = (lines) => lines.map((line) => line.map((v) => csvCell(String(v ?? ""))).join(",")).join("\n") + "\n";
const offer = (link, name, lines) => Object.assign(link, { href: `data:text/csv;charset=utf-8,${encodeURIComponent(csvText(lines))}`, download: `${name}.csv` });

// Draw only what the reader comes near: a page of many charts opens as fast as one of two.
const pending = new Map();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting && pending.has(entry.target)) { const draw = pending.get(entry.target); pending.delete(entry.target); draw(); }
}, { rootMargin: "500px" });
function whenSeen(node, draw) {
  pending.set(node, draw);
  watcher.unobserve(node); watcher.observe(node);
}
