"use strict";
// Curves as SVG. All text is set as text.
const at = (id) => document.getElementById(id);
const MANY = 30; // points from which on a mean over recent ones is drawn, too
const RECENT = 10;

function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function shape(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function number(value) {
  if (value === null || value === undefined) return "not finite";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
}

function percent(value) {
  return value === null || value === undefined ? "-" : (100 * value).toFixed(1);
}

// round numbers that span a range
function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let value = Math.ceil(low / size - 1e-9) * size; value <= high + size * 1e-9; value += size) found.push(Math.abs(value) < size * 1e-9 ? 0 : value);
  return found;
}

// points as [x, y, low, high], at most one for each pixel or so: the mean of those that share one
function thinned(points, width) {
  if (points.length <= width) return points;
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const bins = new Map();
  for (const point of points) {
    if (point[1] === null) continue;
    const bin = Math.floor(((point[0] - first) / (last - first || 1)) * width);
    const sums = bins.get(bin) ?? [0, 0, 0, 0, 0];
    [0, 1, 2, 3].forEach((index) => (sums[index] += point[index] ?? point[1]));
    sums[4] += 1;
    bins.set(bin, sums);
  }
  return [...bins.values()].map((sums) => [0, 1, 2, 3].map((index) => sums[index] / sums[4]));
}

function smooth(points) {
  const known = points.filter((point) => point[1] !== null);
  let sum = 0;
  return known.map((point, index) => {
    sum += point[1] - (index >= RECENT ? known[index - RECENT][1] : 0);
    return [point[0], sum / Math.min(index + 1, RECENT)];
  });
}

function path(points, x, y) {
  let pen = "M";
  return points.map((point) => {
    if (point[1] === null) return (pen = "M"), "";
    const piece = `${pen}${x(point[0]).toFixed(1)},${y(point[1]).toFixed(1)}`;
    pen = "L";
    return piece;
  }).join("");
}

// A figure whose curves are drawn once it is seen, and again when they change. `pick` gets the x of a click.
class Chart {
  constructor(title, caption, { pick = null, shares = false } = {}) {
    this.series = [];
    this.shares = shares;
    this.readout = element("p", { className: "readout faint" });
    this.canvas = element("div", { className: "canvas" });
    this.caption = element("figcaption", { textContent: caption });
    this.figure = element("figure", { className: "chart" }, [element("h3", { textContent: title }), this.canvas, this.readout, this.caption]);
    this.title = title;
    this.seen = false;
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    if (pick) {
      this.canvas.classList.add("picks");
      this.canvas.addEventListener("click", (event) => this.near(event.offsetX) !== null && pick(this.near(event.offsetX)));
    }
    Chart.eyes.observe(this.figure);
    Chart.sizes.observe(this.canvas);
    Chart.of.set(this.figure, this).set(this.canvas, this);
  }

  // series: name, color (a number) and points [x, y, low, high] in order of x; y is null where it is not finite
  update(series, caption = null) {
    this.series = series.filter((each) => each.points.length);
    this.figure.hidden = !this.series.length;
    if (caption !== null) this.caption.textContent = caption;
    this.draw();
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (!this.seen || !width || !this.series.length) return;
    const [height, left, bottom, top] = [200, 52, 22, 8];
    const shown = this.series.map((each) => ({ ...each, thin: thinned(each.points, width - left) }));
    const all = shown.flatMap((each) => each.thin);
    let [x0, x1] = [Math.min(...all.map((point) => point[0])), Math.max(...all.map((point) => point[0]))];
    if (x0 === x1) [x0, x1] = [x0 - 1, x1 + 1];
    const values = all.flatMap((point) => [point[1], point[2], point[3]]).filter((value) => Number.isFinite(value));
    let [y0, y1] = [Math.min(...values), Math.max(...values)];
    if (!values.length) [y0, y1] = [0, 1];
    if (this.shares) [y0, y1] = [Math.max(0, y0 - 0.02), Math.min(1, y1 + 0.02)];
    if (y1 - y0 < 1e-12 * Math.max(1, Math.abs(y0))) [y0, y1] = [y0 - 0.5 * (Math.abs(y0) || 1), y1 + 0.5 * (Math.abs(y1) || 1)];
    this.x = (value) => left + ((value - x0) / (x1 - x0)) * (width - left - 10);
    const y = (value) => top + ((y1 - value) / (y1 - y0)) * (height - top - bottom);
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `${this.title}: ${this.said(null)}` });
    for (const value of ticks(y0, y1, 5)) {
      svg.append(shape("line", { class: "rule", x1: left, x2: width - 10, y1: y(value), y2: y(value) }));
      svg.append(shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, this.shares ? `${Math.round(100 * value)} %` : number(value)));
    }
    for (const value of ticks(x0, x1, Math.max(2, Math.floor(width / 90)))) {
      if (Number.isInteger(value)) svg.append(shape("text", { x: this.x(value), y: height - 5, "text-anchor": "middle" }, number(value)));
    }
    for (const { color, points, thin } of shown) {
      const shade = `var(--color-${color % 6})`;
      const banded = thin.filter((point) => Number.isFinite(point[2]) && Number.isFinite(point[3]));
      if (banded.length > 1) {
        const around = [...banded.map((point) => [point[0], point[3]]), ...banded.toReversed().map((point) => [point[0], point[2]])];
        svg.append(shape("path", { d: `${path(around, this.x, y)}Z`, fill: shade, opacity: 0.16 }));
      }
      else for (const point of banded) svg.append(shape("line", { x1: this.x(point[0]), x2: this.x(point[0]), y1: y(point[2]), y2: y(point[3]), stroke: shade, opacity: 0.5 }));
      const many = points.length > MANY;
      svg.append(shape("path", { d: path(thin, this.x, y), fill: "none", stroke: shade, "stroke-width": many ? 0.7 : 1.6, opacity: many ? 0.55 : 1 }));
      if (many) svg.append(shape("path", { d: path(thinned(smooth(points), width), this.x, y), fill: "none", stroke: shade, "stroke-width": 1.8 }));
      else for (const point of thin) if (point[1] !== null) svg.append(shape("circle", { cx: this.x(point[0]), cy: y(point[1]), r: points.length === 1 ? 3 : 2, fill: shade }));
    }
    this.mark = shape("line", { class: "mark", y1: top, y2: height - bottom, x1: -9, x2: -9 });
    svg.append(this.mark);
    this.canvas.replaceChildren(svg);
    this.readout.replaceChildren(...this.keys(null));
  }

  near(offset) {
    if (!this.x || !this.series.length) return null;
    const all = this.series.flatMap((each) => each.points.map((point) => point[0]));
    return all.reduce((best, x) => (Math.abs(this.x(x) - offset) < Math.abs(this.x(best) - offset) ? x : best));
  }

  point(offset) {
    const x = offset === null ? null : this.near(offset);
    if (!this.mark) return;
    const place = x === null ? -9 : this.x(x);
    this.mark.setAttribute("x1", place);
    this.mark.setAttribute("x2", place);
    this.readout.replaceChildren(...this.keys(x));
  }

  // the values at x, by default the last ones
  keys(x) {
    return this.series.map((each) => {
      const dot = element("span", { className: `dot color-${each.color % 6}` });
      return element("span", { className: "key" }, [this.series.length > 1 ? dot : null, `${this.text(each, x)}`]);
    });
  }

  text(each, x) {
    const point = x === null ? each.points[each.points.length - 1] : each.points.find((one) => one[0] === x);
    const name = this.series.length > 1 ? `${each.name}: ` : "";
    if (!point) return `${name}-`;
    const form = (value) => (this.shares && value !== null ? `${percent(value)} %` : number(value));
    const ends = Number.isFinite(point[2]) ? ` [${form(point[2])}, ${form(point[3])}]` : "";
    return `${name}step ${point[0]}: ${form(point[1])}${ends}`;
  }

  said(x) {
    return this.series.map((each) => this.text(each, x)).join("; ");
  }
}

Chart.of = new Map();
Chart.eyes = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const chart = Chart.of.get(target);
    if (isIntersecting && !chart.seen) {
      chart.seen = true;
      chart.draw();
    } else if (!isIntersecting) chart.seen = false;
  }
}, { rootMargin: "200px" });
Chart.sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => Chart.of.get(target).draw()));
