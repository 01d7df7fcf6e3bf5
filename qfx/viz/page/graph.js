// The picture: pan and zoom by its viewBox, colours, selection, modules that close and open.
class Graph {
  constructor(host, nodes, arrows, heat, select) {
    this.host = host;
    this.svg = host.querySelector("svg");
    this.heat = heat;
    this.boxes = new Map();
    for (const node of nodes) {
      const group = byId(`box-${node.name}`);
      if (!group) continue;
      const shape = group.querySelector("path, polygon, ellipse");
      this.boxes.set(node.name, { group, shape, fill: shape.getAttribute("fill"), texts: [...group.querySelectorAll("text")] });
      group.addEventListener("click", () => this.moved || select(node.name));
    }
    this.svg.removeAttribute("width");
    this.svg.removeAttribute("height");
    const box = this.svg.viewBox.baseVal;
    this.open = { x: box.x, y: box.y, width: box.width, height: box.height };
    this.whole = this.open;
    this.frames = new Frames(this.svg, nodes, arrows, { moved: () => this.moved, about: aboutModule, arranged: () => this.arranged() });
    this.arranged();
    this.listen();
    new ResizeObserver(() => this.view || this.start()).observe(host);
  }

  // Runs `then` once the picture has a size, so that it can be moved to a place in it.
  whenShown(then) {
    this.start();
    then();
  }

  // At first the picture's top is shown at a size that can be read.
  start() {
    const { clientWidth, clientHeight } = this.host;
    if (!clientWidth || !clientHeight) return;
    const width = Math.max(this.whole.width, Math.min(clientWidth, 900)) * 1.02;
    const readable = Math.min(width, clientWidth * 1.1);
    const height = (readable * clientHeight) / clientWidth;
    const x = this.whole.x + this.whole.width / 2 - readable / 2;
    this.show({ x, y: this.whole.y, width: readable, height: Math.min(height, Math.max(this.whole.height, height)) });
  }

  // The picture is as high as what is left of it.
  arranged() {
    const frames = this.frames;
    if (!frames) return;
    this.whole = { ...this.open, height: this.open.height - frames.removed.reduce((sum, [from, to]) => sum + to - from, 0) };
  }

  show(view) {
    this.view = view;
    this.svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  }

  fit() {
    this.show({ ...this.whole });
  }

  move(x, y) {
    this.show({ ...this.view, x: this.view.x + x, y: this.view.y + y });
  }

  // `x` and `y` from 0 to 1 stay where they are in the frame.
  zoom(factor, x = 0.5, y = 0.5) {
    const width = this.view.width * factor;
    if (width < 40 || width > 40 * (this.whole.width + this.whole.height)) return;
    const height = this.view.height * factor;
    this.show({
      x: this.view.x + (this.view.width - width) * x,
      y: this.view.y + (this.view.height - height) * y,
      width,
      height,
    });
  }

  listen() {
    const held = new Map();
    const spread = () => {
      const [a, b] = [...held.values()];
      return Math.hypot(a.x - b.x, a.y - b.y);
    };
    const units = () => 1 / this.svg.getScreenCTM().a;
    this.host.addEventListener("wheel", (event) => {
      event.preventDefault();
      const frame = this.host.getBoundingClientRect();
      this.zoom(Math.exp(event.deltaY / 500), (event.clientX - frame.x) / frame.width, (event.clientY - frame.y) / frame.height);
    }, { passive: false });
    this.host.addEventListener("pointerdown", (event) => {
      held.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.moved = false;
    });
    window.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      const apart = held.size > 1 ? spread() : 0;
      const [x, y] = [before.x - event.clientX, before.y - event.clientY];
      if (!this.moved && Math.abs(x) + Math.abs(y) < 4) return;
      held.set(event.pointerId, { x: event.clientX, y: event.clientY });
      this.moved = true;
      if (held.size > 1) this.zoom(apart / (spread() || 1));
      else this.move(x * units(), y * units());
    });
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, (event) => held.delete(event.pointerId));
    const step = (x, y) => () => this.move(x * this.view.width, y * this.view.height);
    const keys = {
      ArrowLeft: step(-0.1, 0), ArrowRight: step(0.1, 0), ArrowUp: step(0, -0.1), ArrowDown: step(0, 0.1),
      "+": () => this.zoom(0.8), "=": () => this.zoom(0.8), "-": () => this.zoom(1.25), 0: () => this.fit(),
    };
    this.host.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  select(name) {
    this.host.querySelectorAll(".selected").forEach((element) => element.classList.remove("selected"));
    const box = this.boxes.get(name);
    if (box) box.group.classList.add("selected");
  }

  reveal(name) {
    const box = this.boxes.get(name);
    this.frames.open(name);
    if (!box || !this.view) return;
    const place = box.group.getBBox();
    const shift = this.svg.querySelector(".graph").transform.baseVal.consolidate().matrix;
    const width = Math.min(this.view.width, Math.max(this.host.clientWidth, 500));
    const height = (width * this.view.height) / this.view.width;
    this.show({
      x: place.x + place.width / 2 + shift.e - width / 2,
      y: place.y + this.frames.shift(name) + place.height / 2 + shift.f - height / 2,
      width,
      height,
    });
  }

  mark(names) {
    this.host.classList.toggle("searching", names !== null);
    const isHit = (name) => names !== null && names.has(name);
    for (const [name, box] of this.boxes) box.group.classList.toggle("hit", isHit(name));
    for (const frame of this.frames.frames.values()) frame.cover.classList.toggle("hit", frame.nodes.some((node) => isHit(node.name)));
  }

  // `shares` maps names to 0 .. 1, or is null for the colours of kinds.
  colour(shares) {
    for (const [name, box] of this.boxes) {
      const share = shares ? shares.get(name) : null;
      const fill = !shares ? box.fill : share === undefined ? "#ffffff" : this.warm(share);
      box.shape.setAttribute("fill", fill);
      const dark = shares && share !== undefined && share > 0.62;
      box.texts.forEach((text, i) => text.setAttribute("fill", dark ? "#ffffff" : i ? "#4a4a52" : "#000000"));
    }
    for (const frame of this.frames.frames.values()) {
      const hottest = shares ? Math.max(...frame.nodes.map((node) => shares.get(node.name) ?? -1)) : -1;
      put(frame.rect, { fill: hottest < 0 ? "#ffffff" : this.warm(hottest) }, []);
      frame.cover.classList.toggle("dark", hottest > 0.62);
    }
  }

  warm(share) {
    const position = Math.min(Math.max(share, 0), 1) * (this.heat.length - 1);
    const index = Math.min(Math.floor(position), this.heat.length - 2);
    const channel = (colour, i) => parseInt(colour.slice(1 + 2 * i, 3 + 2 * i), 16);
    const mixed = [0, 1, 2].map((i) => {
      const [a, b] = [channel(this.heat[index], i), channel(this.heat[index + 1], i)];
      return Math.round(a + (b - a) * (position - index));
    });
    return `rgb(${mixed.join(",")})`;
  }
}

// What a closed module says of the nodes inside.
function aboutModule(nodes) {
  const ratios = nodes.map((node) => number(node.sqnr)).filter((value) => known(value) && Number.isFinite(value));
  const share = nodes.reduce((sum, node) => sum + (node.share || 0), 0);
  return [
    `${nodes.length} nodes`,
    ratios.length ? `≥ ${Math.min(...ratios).toFixed(1)} dB` : "",
    share ? percent(share) : "",
  ].filter(Boolean).join(" · ");
}
