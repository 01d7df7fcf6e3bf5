// Building elements. Text only ever becomes text nodes and attribute values, never markup.
const SVG = "http://www.w3.org/2000/svg";

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

function make(tag, attributes = {}, ...children) {
  return put(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return put(document.createElementNS(SVG, tag), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

// Numbers arrive as JSON numbers, as the words "inf" and "-inf", or as null where there is none.
function number(value) {
  if (value === "inf") return Infinity;
  if (value === "-inf") return -Infinity;
  return value;
}

function known(value) {
  return value !== null && value !== undefined && value !== "";
}

function shown(value, digits = 3) {
  if (!known(value)) return "";
  const real = number(value);
  if (real === Infinity) return "exact";
  if (real === -Infinity) return "-∞";
  if (Number.isInteger(real)) return real.toLocaleString("en");
  const size = Math.abs(real);
  return size >= 1e5 || size < 1e-3 ? real.toExponential(digits - 1) : String(Number(real.toPrecision(digits)));
}

function decibel(value) {
  if (!known(value)) return "";
  const real = number(value);
  return Number.isFinite(real) ? `${real.toFixed(1)} dB` : shown(value);
}

function percent(value) {
  if (!known(value)) return "";
  if (value === 0) return "0 %";
  return value < 1e-4 ? "< 0.01 %" : `${(100 * value).toFixed(2)} %`;
}
