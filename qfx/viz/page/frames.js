// Modules as frames that close to one box and open again. The picture is laid out once, with every frame open; closing
// one takes the rows out of it that nothing else stands in, and everything below moves up.
const CLOSED = 38; // height of a closed frame, in the picture's units
const AROUND = 14; // what stays free above and below whatever is shown
const SHOWN_AT_FIRST = 60;
const BESIDE = 150; // boxes that are nearer than this have nothing between them
const HEAD = 6; // length of an arrow's head

class Frames {
  constructor(svg, nodes, arrows, hooks) {
    this.svg = svg;
    this.hooks = hooks;
    this.frames = new Map();
    this.nodes = new Map();
    this.depth = 0;
    for (const node of nodes) this.take(node);
    this.arrows = arrows.map(([source, target], index) => arrowOf(byId(`arrow-${index}`), source, target)).filter(Boolean);
    const layer = draw("g", { class: "covers" });
    svg.querySelector(".graph").append(layer);
    for (const frame of this.frames.values()) this.build(frame, layer);
    this.closeUntilFew();
  }

  take(node) {
    const group = byId(`box-${node.name}`);
    if (!group) return;
    const inside = node.group.map((path) => this.frame(path, node)).filter(Boolean);
    const { x, y, width, height } = group.getBBox();
    this.nodes.set(node.name, { group, inside, middle: x + width / 2, top: y, bottom: y + height });
    for (const frame of inside) frame.nodes.push(node);
    this.depth = Math.max(this.depth, inside.length);
  }

  frame(path, node) {
    if (this.frames.has(path)) return this.frames.get(path);
    const element = byId(`frame-${path}`);
    if (!element) return null;
    const outline = element.querySelector("path, polygon");
    const around = node.group.slice(0, node.group.indexOf(path)).map((outer) => this.frames.get(outer)).filter(Boolean);
    const made = { path, element, outline: shapeOf(outline), box: outline.getBBox(), around, nodes: [], closed: false };
    this.frames.set(path, made);
    return made;
  }

  // The label of an open frame closes it; the box of a closed one opens it.
  build(frame, layer) {
    const toggle = (closed) => ({
      role: "button", tabindex: 0, "aria-expanded": String(!closed), "aria-label": `Module ${frame.path}`,
      click: () => this.hooks.moved() || this.set(frame, !closed),
      keydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        this.set(frame, !closed, true);
      },
    });
    frame.label = put(frame.element.querySelector("text"), toggle(false), []);
    frame.label.textContent = `− ${frame.label.textContent}`;
    frame.label.removeAttribute("textLength");
    frame.labelAt = Number(frame.label.getAttribute("y"));
    frame.rect = draw("rect", { x: frame.box.x, width: frame.box.width, rx: 6 });
    const at = { x: frame.box.x + frame.box.width / 2, "text-anchor": "middle" };
    frame.name = draw("text", { ...at, class: "name" }, `+ ${frame.path}`);
    frame.about = draw("text", { ...at, class: "about" }, this.hooks.about(frame.nodes));
    const tip = draw("title", {}, `${frame.path}: ${frame.about.textContent}`);
    frame.cover = put(draw("g", { class: "cover", ...toggle(true) }), {}, [tip, frame.rect, frame.name, frame.about]);
    layer.append(frame.cover);
  }

  // From the innermost modules out, so that a large model begins as a picture that can be taken in.
  closeUntilFew() {
    const all = [...this.frames.values()];
    for (let depth = this.depth; depth >= 1 && this.count() > SHOWN_AT_FIRST; depth--) {
      all.filter((frame) => frame.around.length + 1 === depth).forEach((frame) => (frame.closed = true));
    }
    this.arrange();
  }

  count() {
    const open = [...this.nodes.values()].filter((node) => !node.inside.some((frame) => frame.closed)).length;
    return open + [...this.frames.values()].filter((frame) => this.isBox(frame)).length;
  }

  isBox(frame) {
    return frame.closed && !frame.around.some((outer) => outer.closed);
  }

  set(frame, closed, focus = false) {
    frame.closed = closed;
    this.arrange();
    if (focus) (closed ? frame.cover : frame.label).focus();
  }

  setAll(closed) {
    for (const frame of this.frames.values()) frame.closed = closed;
    this.arrange();
  }

  // Opens whatever `name` is hidden in.
  open(name) {
    const node = this.nodes.get(name);
    if (!node || !node.inside.some((frame) => frame.closed)) return;
    node.inside.forEach((frame) => (frame.closed = false));
    this.arrange();
  }

  shift(name) {
    const node = this.nodes.get(name);
    return node ? this.lower(node.top) - node.top : 0;
  }

  arrange() {
    const shut = [...this.frames.values()].filter((frame) => this.isBox(frame));
    const hidden = (node) => node.inside.some((frame) => frame.closed);
    const seen = [...this.nodes.values()].filter((node) => !hidden(node));
    const open = [...this.frames.values()].filter((frame) => !frame.closed && !frame.around.some((outer) => outer.closed));
    const kept = [
      ...seen.map((node) => [node.top - AROUND, node.bottom + AROUND]),
      ...shut.map(({ box }) => [box.y - AROUND, box.y + Math.min(CLOSED, box.height)]),
      ...open.flatMap(({ box }) => [[box.y, box.y + AROUND + 10], [box.y + box.height - AROUND, box.y + box.height]]),
    ];
    this.removed = without(union(shut.map(({ box }) => [box.y + CLOSED, box.y + box.height])), union(kept));
    const isHidden = new Map([...this.nodes].map(([name, node]) => [name, hidden(node)]));
    for (const node of this.nodes.values()) place(node.group, hidden(node), this.lower(node.top) - node.top);
    for (const frame of this.frames.values()) this.arrangeFrame(frame, open.includes(frame));
    const drawn = new Set();
    for (const arrow of this.arrows) this.arrangeArrow(arrow, isHidden, shut, drawn);
    this.hooks.arranged();
  }

  arrangeFrame(frame, isOpen) {
    place(frame.element, !isOpen, 0);
    put(frame.outline.element, { [frame.outline.attribute]: this.lowered(frame.outline.points) }, []);
    frame.label.setAttribute("y", this.lower(frame.labelAt));
    place(frame.cover, !this.isBox(frame), 0);
    const [top, bottom] = [this.lower(frame.box.y), this.lower(frame.box.y + frame.box.height)];
    put(frame.rect, { y: top, height: bottom - top }, []);
    frame.name.setAttribute("y", (top + bottom) / 2 - 2);
    frame.about.setAttribute("y", (top + bottom) / 2 + 11);
    if (this.isBox(frame)) [frame.name, frame.about].forEach((text) => fit(text, frame.box.width - 12));
  }

  // From or to a closed frame there is one arrow, straight where nothing can stand between.
  arrangeArrow(arrow, isHidden, shut, drawn) {
    const [from, to] = [arrow.source, arrow.target].map((name) => this.standsFor(name, shut));
    const pair = `${from.name} ${to.name}`;
    const closes = isHidden.get(arrow.source) || isHidden.get(arrow.target);
    place(arrow.group, from === to || from.name === to.name || (closes && drawn.has(pair)), 0);
    drawn.add(pair);
    const [start, end] = [this.lower(from.bottom), this.lower(to.top)];
    const straight = closes && start < end && end - start < BESIDE;
    const bend = `M${from.middle},${start}C${from.middle},${(start + end) / 2} ${to.middle},${(start + end) / 2} ${to.middle},${end - HEAD}`;
    put(arrow.path.element, { d: straight ? bend : this.lowered(arrow.path.points) }, []);
    const [x, y] = straight ? [to.middle, end - HEAD] : [arrow.end[0], this.lower(arrow.end[1])];
    place(arrow.head, isHidden.get(arrow.target) && !straight, y - arrow.end[1], x - arrow.end[0], straight ? arrow.turn : 0, arrow.end);
    arrow.texts.forEach(({ element, y: at }) => place(element, closes || this.isGone(at), this.lower(at) - at));
  }

  // The closed frame around a node, or the node.
  standsFor(name, shut) {
    const node = this.nodes.get(name);
    const frame = shut.find((closed) => node && node.inside.includes(closed));
    if (!frame) return { name, ...(node || { middle: 0, top: 0, bottom: 0 }) };
    const { x, y, width, height } = frame.box;
    return { name: frame.path, middle: x + width / 2, top: y, bottom: y + height };
  }

  isGone(y) {
    return this.removed.some(([from, to]) => from < y && y < to);
  }

  // Where a height of the open picture lies now.
  lower(y) {
    return this.removed.reduce((sum, [from, to]) => sum - Math.max(0, Math.min(y, to) - from), y);
  }

  lowered(points) {
    return points.replace(/(-?[\d.]+)([ ,])(-?[\d.]+)/g, (_, x, between, y) => `${x}${between}${this.lower(Number(y))}`);
  }
}

function shapeOf(element) {
  const attribute = element.tagName === "path" ? "d" : "points";
  return { element, attribute, points: element.getAttribute(attribute) };
}

function arrowOf(group, source, target) {
  const [line, head] = group ? [group.querySelector("path"), group.querySelector("polygon")] : [];
  if (!line) return null;
  const texts = [...group.querySelectorAll("text")].map((element) => ({ element, y: Number(element.getAttribute("y")) }));
  const path = shapeOf(line);
  const [before, end] = path.points.split(" ").slice(-2).map((point) => point.split(",").map((text) => Number(text.replace(/^.*[A-Z]/, ""))));
  const turn = 90 - (Math.atan2(end[1] - before[1], end[0] - before[0]) * 180) / Math.PI;
  return { group, source, target, path, head, texts, end, turn };
}

// `turn` in degrees around `pivot`.
function place(element, isHidden, down, right = 0, turn = 0, pivot = [0, 0]) {
  if (!element) return;
  if (isHidden) element.setAttribute("display", "none");
  else element.removeAttribute("display");
  const moved = down || right ? `translate(${right} ${down})` : "";
  const turned = turn ? `rotate(${turn} ${pivot.join(" ")})` : "";
  if (moved || turned) element.setAttribute("transform", moved + turned);
  else element.removeAttribute("transform");
}

function fit(text, width) {
  text.removeAttribute("textLength");
  if (text.getComputedTextLength() > width) put(text, { textLength: width, lengthAdjust: "spacingAndGlyphs" }, []);
}

function union(intervals) {
  const joined = [];
  for (const [from, to] of intervals.filter(([a, b]) => a < b).sort((a, b) => a[0] - b[0])) {
    const last = joined[joined.length - 1];
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

function without(intervals, taken) {
  return taken.reduce((left, [from, to]) => left.flatMap(([a, b]) =>
    [[a, Math.min(b, from)], [Math.max(a, to), b]].filter(([c, d]) => c < d)), intervals);
}
