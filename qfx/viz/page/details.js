// The panel on the right: one node, or the whole model while none is selected.
function swatch(kind) {
  return draw("svg", { width: 16, height: 12, "aria-hidden": "true" },
    draw("rect", { x: 1, y: 1, width: 14, height: 10, rx: 3, fill: kind.fill, stroke: kind.line, "stroke-dasharray": kind.dashed ? "3 2" : null }));
}

function facts(rows) {
  const kept = rows.filter(([, value]) => known(value) && value.length !== 0);
  return make("dl", { class: "facts" }, kept.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function section(title, ...content) {
  const kept = content.flat().filter(Boolean);
  return kept.length ? [make("h3", {}, title), ...kept] : [];
}

function links(names, data, select) {
  const shownNames = names.filter((name) => data.byName.has(name));
  if (!shownNames.length) return null;
  return make("div", { class: "links" }, shownNames.map((name) =>
    make("button", { type: "button", class: "plain", click: () => select(name) }, name)));
}

function nodeDetails(node, data, select) {
  const kind = data.kinds[node.kind];
  const rules = node.rules.map(([rule, names]) => (names.length ? `${rule} (${names.join(", ")})` : rule));
  return [
    make("button", { type: "button", class: "plain", click: () => select(null) }, "← Whole model"),
    make("h2", {}, node.title),
    make("p", { class: "sub mono" }, make("a", { href: linkTo(node.name), title: "Link to this node" }, node.name)),
    make("span", { class: "chip" }, swatch(kind), kind.text),
    facts([
      ["Why", node.reason],
      ["Module", node.module],
      ["Source", node.source && make("code", {}, node.source)],
      ["Result", [node.dtype, node.shape].filter(known).join(", ")],
      ["Qparams", known(node.scale) ? `scale ${shown(node.scale, 5)}, zero point ${node.zero}` : ""],
      ["Reaches", node.range ? `${shown(node.range[0], 4)} to ${shown(node.range[1], 4)}` : ""],
      ["Runs inside", node.fused.join(", ")],
      ["Rules", rules.map((rule) => make("div", {}, rule))],
      ["Kernel", (node.kernels || []).map((kernel) => make("div", { class: "mono" }, kernel))],
      ["Also", node.notes.join("; ")],
    ]),
    ...errorDetails(node),
    ...(known(node.us) ? section("Time", facts([["Median", `${shown(node.us)} µs`], ["Share", percent(node.share)]])) : []),
    ...(node.real || node.ours ? section("Values", histograms(node), valueKey(node)) : []),
    ...(node.weights ? section("Weights, range a channel", channels(node.weights), weightFacts(node)) : []),
    ...section("Reads", links(node.inputs, data, select)),
    ...section("Is read by", links(node.outputs, data, select)),
  ];
}

function errorDetails(node) {
  if (!known(node.sqnr) && !known(node.sqnrLowering)) return [];
  return section("Error against the float model", facts([
    ["SQNR", decibel(node.sqnr)],
    ["of quantization", decibel(node.sqnrQuantization)],
    ["of lowering", decibel(node.sqnrLowering)],
    ["Cosine", known(node.cosine) ? number(node.cosine).toFixed(6) : ""],
    ["Max error", shown(node.maxError)],
  ]));
}

function valueKey(node) {
  const key = make("p", { class: "key" });
  if (node.real) key.append(make("span", {}, make("i", { class: "line" }), `float, ${shown(node.real.min)} to ${shown(node.real.max)}`));
  if (node.ours) key.append(make("span", {}, make("i"), `${node.scale ? "int8" : "quantized model"}, ${shown(node.ours.min)} to ${shown(node.ours.max)}`));
  if (known(node.clipped)) key.append(make("span", {}, `clipped ${percent(node.clipped)}`));
  key.append(make("span", {}, "counts on a log scale"));
  return key;
}

function weightFacts(node) {
  const { count, step, spread } = node.weights;
  return make("p", { class: "key" },
    make("span", {}, `${count} channels`),
    known(spread) ? make("span", {}, `widest ${shown(spread)} dB over the narrowest`) : null,
    step > 1 ? make("span", {}, `each line is ${step} channels`) : null);
}

function modelDetails(data, select) {
  const worst = data.nodes.filter((n) => known(n.sqnr) && Number.isFinite(number(n.sqnr))).sort((a, b) => a.sqnr - b.sqnr).slice(0, 8);
  const slow = data.nodes.filter((n) => known(n.share)).sort((a, b) => b.share - a.share).slice(0, 8);
  const apart = data.nodes.filter((n) => n.kind === "opaque");
  return [
    make("h2", {}, data.title),
    make("p", { class: "sub" }, "Click a node, or find one above."),
    facts(data.about),
    ...section("Suggestions", advice(data.suggestions)),
    ...(worst.length ? section("Lowest SQNR", bars(worst, (n) => number(n.sqnr), decibel, (n) => n.sqnr, select)) : []),
    ...(slow.length ? section("Most time", bars(slow, (n) => n.share, percent, (n) => n.share, select)) : []),
    ...(apart.length ? section("Outside the programs", make("ul", { class: "advice" }, apart.map((n) =>
      make("li", {}, links([n.name], data, select), n.reason)))) : []),
  ];
}

function advice(suggestions) {
  if (!suggestions.length) return null;
  return make("ol", { class: "advice" }, suggestions.map((item) =>
    make("li", {}, item.text, item.entry ? make("pre", { class: "mono" }, item.entry) : null)));
}

function bars(nodes, size, words, value, select) {
  const most = Math.max(...nodes.map(size).map(Math.abs), 1e-12);
  return make("ul", { class: "bars" }, nodes.map((node) => make("li", {},
    make("button", { type: "button", title: node.name, click: () => select(node.name) }, node.name),
    draw("svg", { width: 90, height: 8, "aria-hidden": "true" },
      draw("rect", { width: (90 * Math.abs(size(node))) / most, height: 8, rx: 3, fill: "var(--code)" })),
    make("span", {}, words(value(node))))));
}
