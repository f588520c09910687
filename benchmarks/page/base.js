// What every part of the page uses: the data, the state, building elements, formatting numbers.
const DATA = JSON.parse(document.getElementById("data").textContent);
const state = { group: DATA.groups[0] || null, metric: DATA.metrics[0], hidden: new Set(DATA.hidden), dataset: 0 };
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
const COLORS = 8;
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
const PATHS = ["M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-3.5,-3.5h7v7h-7z", "M0,-4.2L4.2,3.4H-4.2z", "M0,-5L5,0L0,5L-5,0z",
  "M0,4.2L4.2,-3.4H-4.2z", "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", "M-4,-2.4L-2.4,-4L0,-1.6L2.4,-4L4,-2.4L1.6,0L4,2.4L2.4,4L0,1.6L-2.4,4L-4,2.4L-1.6,0z"];
const colorOf = (style) => `--s${style % COLORS}`;

// A line with its marker, as the chart draws it.
function swatch(series) {
  const published = series.source === "published", paint = `var(${colorOf(series.style)})`;
  return el("svg", { width: 30, height: 14, viewBox: "-15 -7 30 14", "aria-hidden": "true" },
    el("path", { d: "M-15,0H15", stroke: paint, "stroke-width": published ? 1.5 : 2.2, "stroke-dasharray": published ? "4 2.5" : null }),
    el("path", { d: PATHS[series.style % PATHS.length], fill: published ? "var(--card)" : paint, stroke: paint, "stroke-width": 1.2,
      transform: published ? "scale(0.8)" : null }));
}

const identity = (series) => `${series.source}:${series.label}`;
const legendOf = (series) => (series.source === "published" ? `${series.label} (published)` : series.label);
const axisText = (axis) => (axis.unit ? `${axis.label} [${axis.unit}]` : axis.label);
const shortened = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => el("option", { value, selected: String(value) === String(chosen) }, text)));
}

// Radio buttons drawn as one switch; entries are [value, text].
function radios(box, name, entries, chosen, change) {
  box.replaceChildren(...entries.map(([value, text]) => el("label", {},
    el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => change(value) }), text)));
}
