// Charts of one node: values as histograms, ranges of weights a channel.
const WIDE = 360;

function frame(high, label, ...content) {
  return draw("svg", { class: "chart", viewBox: `0 0 ${WIDE} ${high}`, role: "img", "aria-label": label }, content);
}

function written(x, y, text, anchor = "middle") {
  return draw("text", { x, y, "text-anchor": anchor }, text);
}

// Counts grow over orders of magnitude, so bars are as high as their logarithm.
function histograms(node) {
  const given = [node.real, node.ours].filter(Boolean);
  const [low, high] = [given[0].low, given[0].high];
  const [top, floor] = [8, 112];
  const most = Math.log1p(Math.max(1, ...given.flatMap((h) => h.counts)));
  const at = (value) => (WIDE * (value - low)) / (high - low);
  const up = (count) => floor - ((floor - top) * Math.log1p(count)) / most;
  const parts = [];
  if (node.range) {
    const [first, last] = node.range.map(at);
    parts.push(draw("rect", { class: "outside", x: 0, y: top, width: Math.max(0, first), height: floor - top }));
    parts.push(draw("rect", { class: "outside", x: last, y: top, width: Math.max(0, WIDE - last), height: floor - top }));
  }
  if (node.ours) parts.push(draw("path", { class: "ours", d: `M0 ${floor}${outline(node.ours, up)}V${floor}Z` }));
  if (node.real) parts.push(draw("path", { class: "real", d: `M0 ${floor}${outline(node.real, up)}V${floor}` }));
  parts.push(draw("line", { class: "axis", x1: 0, x2: WIDE, y1: floor, y2: floor }));
  const ticks = node.range ? [...node.range, 0] : [low, high, 0];
  for (const value of new Set(ticks)) {
    if (value < low || value > high) continue;
    const x = at(value);
    const anchor = x < 30 ? "start" : x > WIDE - 30 ? "end" : "middle";
    parts.push(draw("line", { class: "axis", x1: x, x2: x, y1: floor, y2: floor + 4 }), written(x, floor + 16, shown(value), anchor));
  }
  const about = given.map((h) => `${h === node.real ? "float" : "int8"} from ${shown(h.min)} to ${shown(h.max)}`);
  return frame(floor + 20, `Values: ${about.join("; ")}`, parts);
}

function outline(histogram, up) {
  const wide = WIDE / histogram.counts.length;
  return histogram.counts.map((count, i) => `V${up(count).toFixed(1)}H${((i + 1) * wide).toFixed(1)}`).join("");
}

function channels(weights) {
  const [top, floor] = [6, 116];
  const high = Math.max(0, ...weights.max);
  const low = Math.min(0, ...weights.min);
  const at = (value) => floor - ((floor - top) * (value - low)) / (high - low || 1);
  const wide = WIDE / weights.min.length;
  const path = weights.min
    .map((least, i) => `M${((i + 0.5) * wide).toFixed(2)} ${at(least).toFixed(1)}V${at(weights.max[i]).toFixed(1)}`)
    .join("");
  return frame(
    floor + 20,
    `Ranges of ${weights.count} channels from ${shown(low)} to ${shown(high)}`,
    draw("line", { class: "axis", x1: 0, x2: WIDE, y1: at(0), y2: at(0) }),
    draw("path", { class: "range", d: path, "stroke-width": Math.max(0.6, wide * 0.7).toFixed(2) }),
    written(2, top + 6, shown(high), "start"),
    written(2, floor - 2, shown(low), "start"),
    written(0, floor + 16, "channel 0", "start"),
    written(WIDE, floor + 16, String(weights.count - 1), "end"),
  );
}
