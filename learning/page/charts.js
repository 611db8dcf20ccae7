// Line charts: one panel of many is shown, as the choices say.

const DASHES = { "-": "", "--": "7 4", "-.": "8 3 2 3", ":": "2 3" };
const MARKERS = {
  o: "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z", s: "M-3.5-3.5H3.5V3.5H-3.5Z", "^": "M0-4.5L4.3 3.4H-4.3Z",
  v: "M0 4.5L4.3-3.4H-4.3Z", D: "M0-4.8L4.8 0L0 4.8L-4.8 0Z",
  P: "M-1.5-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
};
const LEAST_SPAN = 0.01; // upright, over the largest value: a trend of rounding is none
const BESIDE = 7; // pixels between loose points of several series at one place
const MOST_MARKED = 40; // points of a line that each get a marker; of a longer one, about ten do

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.data = dataOf(figure);
    this.controls = make("div", { class: "controls" }, figure);
    this.at = [...this.data.panels[0].at];
    this.selects = [];
    this.svg = draw("svg", { role: "img", tabindex: 0 }, figure);
    this.legend = make("ul", { class: "legend" }, figure);
    this.output = make("output", { "aria-live": "polite" }, figure);
    this.values = make("details", {}, figure);
    make("summary", {}, this.values, "values");
    this.values.addEventListener("toggle", () => this.list());
    for (const touch of ["pointermove", "pointerdown"]) {
      this.svg.addEventListener(touch, (event) => this.point(this.nearest(event)));
    }
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.choose();
    onWidth(figure, () => this.paint());
  }

  // Choices that this panel's neighbours leave open; those that cannot be together are not offered.
  choose() {
    const { choices, panels } = this.data;
    this.controls.replaceChildren();
    choices.forEach((label, k) => {
      const there = panels.filter((p) => p.at.slice(0, k).every((value, j) => value === this.at[j]));
      const options = [...new Set(there.map((p) => p.at[k]))];
      if (!options.includes(this.at[k])) this.at[k] = options[0];
      if (new Set(panels.map((p) => p.at[k])).size < 2) return;
      this.selects[k] = choice(this.controls, label, options, options.indexOf(this.at[k]), (chosen) => {
        this.at[k] = options[chosen];
        this.choose();
        this.selects[k].focus();
      });
    });
    this.panel = panels.find((p) => p.at.every((value, k) => value === this.at[k]));
    this.stops = [...new Set(this.panel.series.flatMap((s) => s.x))].sort((a, b) => a - b);
    this.stop = null;
    this.explain();
    this.paint();
    this.list();
  }

  explain() {
    const named = this.panel.series.map((s) => s.name).join(", ");
    this.svg.setAttribute("aria-label",
      `${this.data.about}: ${this.panel.y} against ${this.panel.x || "place"}, for ${named}. ` +
      "Left and right arrow keys read the values; all of them are in the table below.");
    this.legend.replaceChildren();
    for (const series of this.panel.series) {
      const item = make("li", {}, this.legend), key = draw("svg", { "aria-hidden": true }, item);
      if (series.linestyle && series.joined) {
        draw("path", { d: "M1 7H33", ...this.stroke(series) }, key);
      }
      this.mark(series, 17, 7, key);
      make("span", {}, item, series.name);
    }
  }

  stroke(series) {
    return { stroke: series.color, fill: "none", "stroke-width": 1.8, "stroke-dasharray": DASHES[series.linestyle] || "" };
  }

  mark(series, x, y, parent) {
    const shape = MARKERS[series.marker];
    if (shape) draw("path", { d: shape, fill: series.color, transform: `translate(${x} ${y})` }, parent);
  }

  paint() {
    const width = Math.max(this.figure.clientWidth, 240), height = Math.min(340, 140 + width / 4);
    const all = this.panel.series, whole = this.stops.every(Number.isInteger);
    const place = this.panel.log ? Math.log10 : (value) => value, [x0, x1] = room(this.stops.map(place)), [y0, y1] = room(all.flatMap((s) => [...s.y, ...(s.low || []), ...(s.high || [])]), LEAST_SPAN);
    const up = ticks(y0, y1, 5), left = 14 + 7 * Math.max(...up.map((value) => short(value).length));
    const right = width - 12, top = 26, bottom = height - 42;
    this.frame = { left, right, top, bottom };
    this.x = (value) => left + (place(value) - x0) / (x1 - x0) * (right - left);
    const loose = all.filter((series) => !series.joined);
    this.across = (series, k) => this.x(series.x[k]) + (series.joined ? 0 : BESIDE * (loose.indexOf(series) - (loose.length - 1) / 2));
    this.y = (value) => bottom - (value - y0) / (y1 - y0) * (bottom - top);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    this.axes(this.panel.log ? decades(x0, x1) : ticks(x0, x1, Math.max(2, width / 110), whole), up, height);
    all.forEach((series) => this.band(series));
    all.forEach((series) => this.line(series));
    this.cursor = draw("line", { y1: top, y2: bottom, stroke: "#1a1a1a", "stroke-dasharray": "3 3", visibility: "hidden" }, this.svg);
    this.point(this.stop);
  }

  axes(across, up, height) {
    const { left, right, top, bottom } = this.frame, grid = { stroke: "#ddd" };
    for (const value of across) {
      draw("line", { x1: this.x(value), x2: this.x(value), y1: top, y2: bottom, ...grid }, this.svg);
      if (this.panel.x) draw("text", { x: this.x(value), y: bottom + 16, "text-anchor": "middle" }, this.svg, short(value));
    }
    for (const value of up) {
      draw("line", { x1: left, x2: right, y1: this.y(value), y2: this.y(value), ...grid }, this.svg);
      draw("text", { x: left - 6, y: this.y(value) + 4, "text-anchor": "end" }, this.svg, short(value));
    }
    draw("path", { d: `M${left} ${top}V${bottom}H${right}`, stroke: "#1a1a1a", fill: "none" }, this.svg);
    draw("text", { x: (left + right) / 2, y: height - 8, "text-anchor": "middle" }, this.svg, this.panel.x);
    draw("text", { x: 0, y: 12 }, this.svg, this.panel.y);
  }

  // Pieces of a series between its gaps, as places.
  pieces(series) {
    const found = [[]];
    series.y.forEach((value, k) => value === null ? found.push([]) : found[found.length - 1].push(k));
    return found.filter((piece) => piece.length);
  }

  band(series) {
    if (!series.low) return;
    for (const piece of this.pieces(series)) {
      const ends = piece.filter((k) => series.low[k] !== null && series.high[k] !== null);
      if (series.joined && ends.length > 1) {
        const there = ends.map((k) => `${this.x(series.x[k])} ${this.y(series.high[k])}`);
        const back = ends.map((k) => `${this.x(series.x[k])} ${this.y(series.low[k])}`).reverse();
        draw("path", { d: `M${[...there, ...back].join("L")}Z`, fill: series.color, "fill-opacity": 0.13 }, this.svg);
      } else for (const k of ends) {
        const x = this.across(series, k), low = this.y(series.low[k]), high = this.y(series.high[k]);
        draw("path", { d: `M${x - 3} ${low}H${x + 3}M${x} ${low}V${high}M${x - 3} ${high}H${x + 3}`, stroke: series.color, fill: "none" }, this.svg);
      }
    }
  }

  line(series) {
    for (const piece of this.pieces(series)) {
      const points = piece.map((k) => [this.across(series, k), this.y(series.y[k])]);
      if (series.joined) draw("path", { d: `M${points.map((p) => p.join(" ")).join("L")}`, ...this.stroke(series) }, this.svg);
      const every = points.length > MOST_MARKED ? Math.ceil(points.length / 10) : 1;
      points.forEach(([x, y], k) => k % every || this.mark(series, x, y, this.svg));
    }
  }

  nearest(event) {
    const box = this.svg.getBoundingClientRect(), scale = this.svg.viewBox.baseVal.width / box.width;
    const at = (event.clientX - box.left) * scale;
    return this.stops.reduce((best, _, k) =>
      Math.abs(this.x(this.stops[k]) - at) < Math.abs(this.x(this.stops[best]) - at) ? k : best, 0);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.point(null);
    if (!step) return;
    event.preventDefault();
    const from = this.stop === null ? (step > 0 ? -1 : this.stops.length) : this.stop;
    this.point(Math.min(Math.max(from + step, 0), this.stops.length - 1));
  }

  point(stop) {
    this.stop = stop;
    this.cursor.setAttribute("visibility", stop === null ? "hidden" : "visible");
    if (stop === null) return void (this.output.textContent = "");
    const value = this.stops[stop];
    fill(this.cursor, { x1: this.x(value), x2: this.x(value) });
    const texts = this.panel.series.map((s) => [s, s.x.indexOf(value)]).filter(([, k]) => k >= 0)
      .map(([s, k]) => `${s.name} ${short(s.y[k])}` + (s.low && s.low[k] !== null ? ` (${short(s.low[k])} to ${short(s.high[k])})` : ""));
    this.output.textContent = `${this.panel.x ? `${this.panel.x} ${short(value)}: ` : ""}${texts.join(", ")}`;
  }

  // The table, made only when it is open.
  list() {
    this.values.querySelectorAll("div").forEach((old) => old.remove());
    if (!this.values.open) return;
    const table = make("table", {}, make("div", { class: "wide" }, this.values));
    const head = make("tr", {}, make("thead", {}, table)), body = make("tbody", {}, table);
    [this.panel.x, ...this.panel.series.map((s) => s.name)].forEach((name) => make("th", { scope: "col" }, head, name));
    for (const value of this.stops) {
      const row = make("tr", {}, body);
      make("th", { scope: "row" }, row, short(value));
      for (const s of this.panel.series) make("td", {}, row, s.x.includes(value) ? short(s.y[s.x.indexOf(value)]) : "");
    }
  }
}

document.querySelectorAll("figure.chart").forEach((figure) => new Chart(figure));
