// Stacked bars of signed shares: right of 0 what adds, left what cancels. Hatches tell parts apart without colour.

const HATCHES = {
  "//": "M-2 2L2-2M0 8L8 0M6 10L10 6", "\\\\": "M-2 6L2 10M0 0L8 8M6-2L10 2", "||": "M4 0V8", "---": "M0 4H8",
  "..": "M2 3H4M6 7H8", "xx": "M0 8L8 0M0 0L8 8", "oo": "M2 4A2 2 0 1 0 6 4A2 2 0 1 0 2 4", "++": "M4 0V8M0 4H8",
};

class Bars {
  constructor(figure) {
    this.figure = figure;
    this.data = dataOf(figure);
    this.id = `h${document.querySelectorAll("pattern").length}-`;
    this.svg = draw("svg", { role: "img" }, figure);
    const texts = this.data.rows.map((row, r) =>
      `${row}: ${this.data.parts.map((p) => `${p.name} ${short(p.values[r])}`).join(", ")}`);
    this.svg.setAttribute("aria-label", `${this.data.about}. ${texts.join(". ")}`);
    this.legend = make("ul", { class: "legend" }, figure);
    this.output = make("output", {}, figure);
    this.data.parts.forEach((part, k) => {
      const item = make("li", {}, this.legend), key = draw("svg", { "aria-hidden": true }, item);
      this.box(part, k, 1, 1, 32, 12, key);
      make("span", {}, item, part.name);
    });
    onWidth(figure, () => this.paint());
  }

  box(part, k, x, y, width, height, parent) {
    const place = { x, y, width, height, stroke: "#1a1a1a", "stroke-width": 0.7 };
    const first = draw("rect", { ...place, fill: part.fill === "white" ? "#fff" : part.fill }, parent);
    if (!part.hatch) return first;
    return draw("rect", { ...place, fill: `url(#${this.id}${k})` }, parent);
  }

  patterns() {
    const defs = draw("defs", {}, this.svg);
    this.data.parts.forEach((part, k) => {
      const pattern = draw("pattern", { id: this.id + k, width: 8, height: 8, patternUnits: "userSpaceOnUse" }, defs);
      draw("path", { d: HATCHES[part.hatch] || "", stroke: "#1a1a1a", "stroke-width": 0.8, fill: "none" }, pattern);
    });
  }

  paint() {
    const { rows, parts } = this.data, width = Math.max(this.figure.clientWidth, 240);
    const left = 84, right = width - 14, top = 6, pitch = 34, bottom = top + pitch * rows.length;
    const sum = (sign, r) => parts.reduce((total, p) => total + (sign * p.values[r] > 0 ? p.values[r] : 0), 0);
    const low = Math.min(0, ...rows.map((_, r) => sum(-1, r))), high = Math.max(1, ...rows.map((_, r) => sum(1, r)));
    const x = (value) => left + (value - low) / (high - low) * (right - left);
    fill(this.svg, { viewBox: `0 0 ${width} ${bottom + 42}` });
    this.svg.replaceChildren();
    this.patterns();
    for (const value of ticks(low, high, Math.max(2, width / 110))) {
      draw("line", { x1: x(value), x2: x(value), y1: top, y2: bottom, stroke: value ? "#ddd" : "#1a1a1a" }, this.svg);
      draw("text", { x: x(value), y: bottom + 16, "text-anchor": "middle" }, this.svg, short(value));
    }
    draw("text", { x: (left + right) / 2, y: bottom + 34, "text-anchor": "middle" }, this.svg, "signed share of the gradient's error");
    rows.forEach((row, r) => {
      draw("text", { x: left - 8, y: top + pitch * (r + 0.5) + 4, "text-anchor": "end" }, this.svg, row);
      const end = { true: 0, false: 0 };
      parts.forEach((part, k) => {
        const value = part.values[r], up = value > 0, from = end[up];
        if (!value) return;
        end[up] += value;
        const box = this.box(part, k, x(Math.min(from, end[up])), top + pitch * r + 5, Math.abs(x(value) - x(0)), pitch - 10, this.svg);
        for (const touch of ["pointerenter", "pointerdown"]) {
          box.addEventListener(touch, () => (this.output.textContent = `${row}: ${part.name} ${short(value)}`));
        }
      });
    });
  }
}

document.querySelectorAll("figure.bars").forEach((figure) => new Bars(figure));
