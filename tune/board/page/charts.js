"use strict";
// Charts as SVG: marks are drawn in the data's own units and a transform scales them, so that a new range costs one
// attribute. Axes are drawn in pixels. Knows nothing of studies.
const SVG = "http://www.w3.org/2000/svg";
const byId = id => document.getElementById(id);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function svgElement(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function ticks(low, high, most) {
  const raw = (high - low) / Math.max(1, most) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i++) found.push(i * step);
  return found;
}

function tickLabel(value) {
  return String(Number(value.toPrecision(6)));
}

class Chart {
  // `nearest(x, y, unitsPerPixel)` returns {text, key} of the mark at a point of the data, or nothing.
  constructor(svg, { left, nearest, onHover, onChoose }) {
    this.svg = svg;
    this.margin = { left, right: 10, top: 12, bottom: 40 };
    this.axes = svgElement("g", { class: "axes" }, svg);
    this.marks = svgElement("g", { class: "marks" }, svg);
    const found = event => {
      const box = svg.getBoundingClientRect(), s = this.scale;
      if (!s) return undefined;
      const x = (event.clientX - box.left - s.dx) / s.x, y = (event.clientY - box.top - s.dy) / s.y;
      return nearest(x, y, { x: 1 / Math.abs(s.x), y: 1 / Math.abs(s.y) });
    };
    svg.addEventListener("pointermove", event => {
      const mark = found(event);
      onHover(mark && mark.key);
      if (mark) showTip(mark.text, event.clientX, event.clientY);
      else hideTip();
    });
    svg.addEventListener("pointerleave", () => { onHover(undefined); hideTip(); });
    svg.addEventListener("click", event => {
      const mark = found(event);
      if (mark) onChoose(mark.key);
    });
  }

  // xs, ys: {low, high, ticks, title}; ys.down: larger values lie below.
  fit(height, xs, ys, lines = []) {
    const width = this.svg.clientWidth || 600, m = this.margin;
    const x = (width - m.left - m.right) / (xs.high - xs.low || 1);
    const y = (ys.down ? 1 : -1) * (height - m.top - m.bottom) / (ys.high - ys.low || 1);
    const dx = m.left - xs.low * x, dy = m.top - (ys.down ? ys.low : ys.high) * y;
    this.scale = { x, y, dx, dy };
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.marks.setAttribute("transform", `translate(${dx} ${dy}) scale(${x} ${y})`);
    const drawn = document.createDocumentFragment();
    for (const value of ys.ticks) {
      const at = value * y + dy;
      svgElement("line", { x1: m.left, x2: width - m.right, y1: at, y2: at }, drawn);
      svgElement("text", { x: m.left - 6, y: at + 4, "text-anchor": "end" }, drawn, tickLabel(value));
    }
    for (const value of xs.ticks)
      svgElement("text", { x: value * x + dx, y: height - m.bottom + 16, "text-anchor": "middle" }, drawn, tickLabel(value));
    svgElement("text", { x: width - m.right, y: height - 6, "text-anchor": "end" }, drawn, xs.title);
    for (const value of lines)
      svgElement("line", { class: "rung", x1: value * x + dx, x2: value * x + dx, y1: m.top, y2: height - m.bottom }, drawn);
    this.axes.replaceChildren(drawn);
  }
}
