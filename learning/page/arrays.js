// The chip: its arrays as tiles to choose from, and a heat map of the one that is chosen.

// Cividis (Nuñez, Anderton and Renslow 2018): lightness rises all along, so that it reads in grey as well.
const COLOURS = "00224e 083370 35456c 4f576c 666970 7d7c78 948e77 aea371 c8b866 e5cf52 fee838".split(" ")
  .map((hex) => [0, 2, 4].map((k) => parseInt(hex.slice(k, k + 2), 16)));
const LEVELS = 254; // codes 1 to 255; 0 stands for no value

function colour(share) {
  const at = share * (COLOURS.length - 1), k = Math.min(Math.floor(at), COLOURS.length - 2);
  return COLOURS[k].map((low, c) => Math.round(low + (at - k) * (COLOURS[k + 1][c] - low)));
}

const PALETTE = Array.from({ length: 256 }, (_, code) => code ? colour((code - 1) / LEVELS) : [255, 255, 255]);

function codesOf(map) {
  return Uint8Array.from(atob(map.codes), (c) => c.charCodeAt(0));
}

function valueOf(map, code) {
  if (!code) return null;
  const share = (code - 1) / LEVELS;
  return map.log ? map.low * (map.high / map.low) ** share : map.low + share * (map.high - map.low);
}

// Pixels of a map, one for each of its cells.
function paintCodes(canvas, map) {
  const [rows, columns] = map.shape, codes = codesOf(map);
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  codes.forEach((code, k) => image.data.set([...PALETTE[code], 255], 4 * k));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

class Arrays {
  constructor(figure) {
    this.figure = figure;
    this.data = dataOf(figure);
    this.controls = make("div", { class: "controls" }, figure);
    this.array = 0;
    this.quantity = 0;
    const { arrays, quantities } = this.data;
    this.select = choice(this.controls, "array", arrays.map((a) => a.name), 0, (k) => this.show(k, this.quantity));
    choice(this.controls, "quantity", quantities.map((q) => q.name), 0, (k) => this.show(this.array, k));
    this.tiles = this.chip();
    this.title = make("p", {}, figure);
    this.frame = make("div", { class: "frame" }, figure);
    this.map = make("canvas", { class: "map", tabindex: 0, role: "img" }, this.frame);
    this.grid = draw("svg", { preserveAspectRatio: "none", "aria-hidden": "true" }, this.frame);
    this.output = make("output", { "aria-live": "polite" }, figure);
    this.scale = make("div", { class: "scale" }, figure);
    this.note = make("p", {}, figure);
    for (const touch of ["pointermove", "pointerdown"]) this.map.addEventListener(touch, (event) => this.hover(event));
    this.map.addEventListener("pointerleave", () => this.read(null));
    this.map.addEventListener("keydown", (event) => this.key(event));
    onWidth(figure, () => this.show(this.array, this.quantity));
  }

  // Layers from the inputs on, and between them the arrays that couple them.
  chip() {
    const chip = make("div", { class: "chip", role: "group", "aria-label": "the chip: choose an array" }, this.figure);
    const tiles = [];
    this.data.layers.forEach((layer, k) => {
      const stage = make("div", { class: "stage" }, k ? chip : null);
      this.data.arrays.forEach((array, a) => {
        if (!k || array.stage !== k) return;
        const tile = tiles[a] = make("button", { class: "tile", type: "button" }, stage);
        make("canvas", { "aria-hidden": "true" }, tile);
        make("b", {}, tile, array.name);
        make("div", {}, tile, `${array.rows} × ${array.columns} pairs`);
        tile.addEventListener("click", () => this.show(a, this.quantity));
      });
      make("div", { class: "layer" }, chip, layer);
    });
    return tiles;
  }

  show(array, quantity) {
    const { arrays, quantities } = this.data, chosen = arrays[array], { name, unit } = quantities[quantity];
    if (quantity !== this.quantity || !this.painted) {
      this.tiles.forEach((tile, k) => paintCodes(tile.firstChild, arrays[k].maps[quantity]));
      this.painted = true;
    }
    Object.assign(this, { array, quantity, cell: null });
    this.now = chosen.maps[quantity];
    this.codes = codesOf(this.now);
    this.unit = unit;
    this.select.value = array;
    this.tiles.forEach((tile, k) => tile.setAttribute("aria-pressed", k === array));
    this.title.textContent = `${chosen.name}: ${name}; down: ${chosen.rowsAre}; across: ${chosen.columnsAre}`;
    this.paint(chosen);
    this.describe(chosen, name);
    this.read(null);
  }

  // Cells as large as fit, square unless that made the map a thread.
  paint(chosen) {
    const [rows, columns] = this.now.shape, across = this.figure.clientWidth - 2;
    const cell = Math.max(Math.min(across / columns, 420 / rows, 16), 1e-3);
    const width = Math.min(Math.max(columns * cell, 24), across), height = Math.max(rows * cell, 24);
    paintCodes(this.map, this.now);
    this.frame.style.width = `${Math.floor(width)}px`;
    this.frame.style.height = `${Math.floor(height)}px`;
    this.lines(chosen);
  }

  // Where one tile of wires ends and the next begins.
  lines({ tile, rows, columns }) {
    this.grid.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    this.grid.replaceChildren();
    const style = { stroke: "#fff", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" };
    for (let at = tile; tile && at < rows; at += tile) draw("path", { d: `M0 ${at}H${columns}`, ...style }, this.grid);
    for (let at = tile; tile && at < columns; at += tile) draw("path", { d: `M${at} 0V${rows}`, ...style }, this.grid);
  }

  describe(chosen, name) {
    const { low, high, log, block, shape, none } = this.now;
    this.scale.replaceChildren();
    make("span", {}, this.scale, amount(low, this.unit));
    const bar = make("canvas", { "aria-hidden": "true" }, this.scale);
    const codes = btoa(String.fromCharCode(...Array.from({ length: 255 }, (_, k) => k + 1)));
    paintCodes(bar, { shape: [1, 255], codes });
    make("span", {}, this.scale, amount(high, this.unit) + (log ? " (logarithmic)" : ""));
    const step = log ? `${short(100 * ((high / low) ** (1 / LEVELS) - 1))} %` : amount((high - low) / LEVELS, this.unit);
    this.note.textContent = `Values in ${LEVELS} steps of ${step}.` +
      (block[0] * block[1] > 1 ? ` Each cell is the mean of ${block[0]} × ${block[1]} devices.` : "") +
      (none ? ` White: ${none} cells that conduct nothing.` : "");
    this.map.setAttribute("aria-label", `heat map of ${name} in ${chosen.name}, ${shape[0]} by ${shape[1]} cells, ` +
      `from ${amount(low, this.unit)} to ${amount(high, this.unit)}; arrow keys read the cells`);
  }

  hover(event) {
    const box = this.map.getBoundingClientRect(), [rows, columns] = this.now.shape;
    this.read([
      Math.min(rows - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * rows))),
      Math.min(columns - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * columns))),
    ]);
  }

  key(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = this.cell || [0, 0], moved = this.cell ? step : [0, 0];
    this.read(from.map((at, k) => Math.min(Math.max(at + moved[k], 0), this.now.shape[k] - 1)));
  }

  read(cell) {
    this.cell = cell;
    if (!cell) return void (this.output.textContent = "");
    const code = this.codes[cell[0] * this.now.shape[1] + cell[1]], chosen = this.data.arrays[this.array];
    const place = ["row", "column"].map((word, k) => {
      const size = this.now.block[k], first = cell[k] * size, last = Math.min(first + size, k ? chosen.columns : chosen.rows) - 1;
      return last > first ? `${word}s ${first} to ${last}` : `${word} ${first}`;
    });
    const value = code ? amount(valueOf(this.now, code), this.unit) : "conducts nothing";
    this.output.textContent = `${place.join(", ")}: ${value}`;
  }
}

document.querySelectorAll("figure.arrays").forEach((figure) => new Arrays(figure));
