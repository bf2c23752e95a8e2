// A chart of curves over images seen, with a value read at the pointer.

import { drawLine, isDark, prepareCanvas, themeValue } from "./canvas.js";
import { h } from "./ui.js";

const COLOURS = {
  light: ["#4338ca", "#c2410c", "#0f766e", "#be185d", "#4d7c0f", "#7c3aed"],
  dark: ["#aab4ff", "#fdba74", "#5eead4", "#f9a8d4", "#bef264", "#d8b4fe"],
};
const MARGIN = { left: 58, right: 14, top: 12, bottom: 30 };
const OUTLIERS = 0.005; // share of the values at each end that the scale may cut off
const SMALLEST = 1e-12;

const compact = (n, unit) => `${+n.toPrecision(3)}${unit}`;
// Numbers of images, and values, in a few characters.
export const shortCount = (n) => (n >= 1e6 ? compact(n / 1e6, "M") : n >= 1e3 ? compact(n / 1e3, "k") : String(n));
export const shortValue = (v) => {
  if (v === 0) return "0";
  return Math.abs(v) < 0.01 || Math.abs(v) >= 1e4 ? v.toExponential(1) : compact(v, "");
};

// Round numbers from low to high, about as many as wanted.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * size).find((s) => s >= raw);
  const values = [];
  for (let v = Math.ceil(low / step) * step; v <= high + SMALLEST; v += step) values.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return values;
}

// The exponential moving average of a curve's values.
function smoothed(points, smoothing) {
  let mean = null;
  return points.map(([x, v]) => {
    mean = mean === null ? v : smoothing * mean + (1 - smoothing) * v;
    return [x, mean];
  });
}

// The range of values to show, with some room; outliers do not widen it.
function valueRange(values) {
  const sorted = [...values].sort((a, b) => a - b);
  let low = sorted[Math.floor(OUTLIERS * sorted.length)] ?? 0;
  let high = sorted[Math.ceil((1 - OUTLIERS) * sorted.length) - 1] ?? 1;
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  const room = 0.06 * (high - low);
  return [low - room, high + room];
}

const nearest = (points, x) => points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best), points[0]);

export class Curves {
  // onread(x, values): after each drawing, the images seen at the pointer (null: it is elsewhere) and the value of each curve.
  constructor(onread) {
    Object.assign(this, { onread, curves: [], smoothing: 0.6, logarithmic: false, pointer: null });
    this.canvas = h("canvas", { class: "curves", role: "img", "aria-label": "Curves of the chosen metric" });
    this.canvas.addEventListener("pointermove", (event) => { this.pointer = event.offsetX; this.draw(); });
    this.canvas.addEventListener("pointerleave", () => { this.pointer = null; this.draw(); });
  }

  // curves: of each run the points [images, value], in the order of colours.
  set(curves) {
    this.curves = curves;
    this.draw();
  }

  colour(i) {
    const colours = COLOURS[isDark() ? "dark" : "light"];
    return colours[i % colours.length];
  }

  scaled(v) { return this.logarithmic ? Math.log10(Math.max(v, SMALLEST)) : v; }

  // The smoothed curves, and the mapping from values to pixels.
  layout(width, height) {
    const smooth = this.curves.map((points) => smoothed(points, this.smoothing));
    const values = smooth.flatMap((points) => points.map(([, v]) => v)).filter((v) => !this.logarithmic || v > 0).map((v) => this.scaled(v));
    const [low, high] = valueRange(values);
    const last = Math.max(1, ...this.curves.map((points) => points.at(-1)?.[0] ?? 0));
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
    const atScaled = (s) => bottom - ((bottom - top) * (s - low)) / (high - low);
    return { smooth, low, high, last, left, right, top, bottom, atScaled,
      toX: (x) => left + ((right - left) * x) / last, toY: (v) => atScaled(this.scaled(v)) };
  }

  draw() {
    if (!this.canvas.clientWidth) return;
    const { context, width, height } = prepareCanvas(this.canvas);
    const layout = this.layout(width, height);
    context.font = `12px ${themeValue("--font")}`;
    this.drawAxes(context, layout);
    layout.smooth.forEach((points, i) => {
      if (this.smoothing > 0) this.drawCurve(context, layout, this.curves[i], this.colour(i), 1, 0.22);
      this.drawCurve(context, layout, points, this.colour(i), 2.2, 1);
    });
    this.read(context, layout);
  }

  drawAxes(context, { low, high, last, left, right, bottom, atScaled, toX }) {
    Object.assign(context, { strokeStyle: themeValue("--line"), fillStyle: themeValue("--soft"), textAlign: "right", textBaseline: "middle" });
    for (const v of ticks(low, high, 5)) {
      drawLine(context, left, atScaled(v), right, atScaled(v));
      context.fillText(shortValue(this.logarithmic ? 10 ** v : v), left - 8, atScaled(v));
    }
    context.textAlign = "center";
    for (const x of ticks(0, last, Math.max(3, Math.floor(right / 140)))) context.fillText(shortCount(x), toX(x), bottom + 17);
  }

  drawCurve(context, { top, bottom, toX, toY }, points, colour, lineWidth, alpha) {
    Object.assign(context, { strokeStyle: colour, lineWidth, globalAlpha: alpha, lineJoin: "round" });
    context.beginPath();
    for (const [x, v] of points) context.lineTo(toX(x), Math.min(bottom + 2, Math.max(top - 2, toY(v))));
    context.stroke();
    context.globalAlpha = 1;
  }

  // Marks the values at the pointer, and reports them; those at the end, if it is elsewhere.
  read(context, { smooth, last, left, right, top, bottom, toX, toY }) {
    if (this.pointer === null || this.pointer < left || this.pointer > right) {
      this.onread(null, smooth.map((points) => points.at(-1)?.[1]));
      return;
    }
    const x = ((this.pointer - left) / (right - left)) * last;
    Object.assign(context, { strokeStyle: themeValue("--edge"), lineWidth: 1 });
    drawLine(context, this.pointer, top, this.pointer, bottom);
    const points = smooth.map((curve) => nearest(curve, x));
    points.forEach((point, i) => {
      if (!point) return;
      context.fillStyle = this.colour(i);
      context.beginPath();
      context.arc(toX(point[0]), toY(point[1]), 4, 0, 2 * Math.PI);
      context.fill();
    });
    this.onread(x, points.map((point) => point?.[1]));
  }
}
