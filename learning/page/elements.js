"use strict";
// What the drawings have in common. Text from the file enters the page as text nodes only.

const SVG = document.getElementById("ink").namespaceURI;

function make(tag, attributes = {}, parent = null, text = null) {
  return fill(document.createElement(tag), attributes, parent, text);
}

function draw(tag, attributes = {}, parent = null, text = null) {
  return fill(document.createElementNS(SVG, tag), attributes, parent, text);
}

function fill(element, attributes, parent, text) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function dataOf(figure) {
  return JSON.parse(figure.querySelector("script").textContent);
}

// A labelled choice among texts; calls back with the place of the one that is chosen.
function choice(parent, label, options, chosen, changed) {
  const line = make("label", {}, parent, label + " ");
  const select = make("select", {}, line);
  options.forEach((option, k) => make("option", { value: k }, select, option));
  select.value = chosen;
  select.addEventListener("change", () => changed(Number(select.value)));
  return select;
}

// Calls at once, and again whenever the width has changed.
function onWidth(element, changed) {
  let width = element.clientWidth;
  changed();
  window.addEventListener("resize", () => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    changed();
  });
}

// Four digits, without zeros that say nothing.
function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(3).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(4)));
}

// With its unit, and a prefix that suits.
function amount(value, unit) {
  if (!unit || !value) return short(value) + (unit && ` ${unit}`);
  const power = Math.min(Math.max(Math.floor(Math.log10(Math.abs(value)) / 3 + 1e-9), -6), 0);
  return `${short(value / 1000 ** power)} ${["", "m", "µ", "n", "p", "f", "a"][-power]}${unit}`;
}

// Round numbers from low to high, about so many of them.
function ticks(low, high, count, whole = false) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].find((m) => m * power >= raw * 0.999) * power;
  if (whole) step = Math.max(1, Math.round(step));
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

// Ones, twos and fives between powers of ten.
function decades(low, high) {
  const found = [];
  for (let power = Math.floor(low); power <= high; power++) found.push(...[1, 2, 5].map((m) => m * 10 ** power));
  return found.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
}

// Ends of the values with some room about them, and no less than a share of the largest value apart.
function room(values, least = 0) {
  let low = Infinity, high = -Infinity;
  for (const value of values) if (value !== null && value !== undefined) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  if (low === 0 && high === 0) high = 1; // nothing at all, seen from the foot of the scale
  const spare = high > low ? 0.05 * (high - low) : 0.1 * Math.abs(low);
  const wanting = least * Math.max(Math.abs(low), Math.abs(high)) - (high - low) - 2 * spare;
  const more = spare + Math.max(0, wanting / 2);
  return [low - more, high + more];
}

document.querySelectorAll("input.fold").forEach((box) => {
  const text = box.closest("section").querySelector("pre.toml");
  const fold = () => text.classList.toggle("folded", box.checked);
  box.addEventListener("change", fold);
  fold();
});
