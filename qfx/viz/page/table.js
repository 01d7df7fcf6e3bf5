// The list of nodes: sorted and filtered by column, built when it is first looked at.
const COLUMNS = [
  { key: "index", title: "#", numeric: true, show: (v) => String(v) },
  { key: "name", title: "Node" },
  { key: "title", title: "Op" },
  { key: "module", title: "Module" },
  { key: "kindText", title: "Runs as" },
  { key: "scale", title: "Scale", numeric: true, show: shown },
  { key: "zero", title: "Zero point", numeric: true, show: shown },
  { key: "sqnr", title: "SQNR dB", numeric: true, show: (v) => (known(v) && Number.isFinite(number(v)) ? number(v).toFixed(1) : shown(v)) },
  { key: "cosine", title: "Cosine", numeric: true, show: (v) => (known(v) ? number(v).toFixed(6) : "") },
  { key: "clipped", title: "Clipped", numeric: true, scale: 100, show: percent },
  { key: "share", title: "Time", numeric: true, scale: 100, show: percent },
  { key: "us", title: "µs", numeric: true, show: shown },
  { key: "spread", title: "Weights dB", numeric: true, show: (v) => (known(v) ? number(v).toFixed(1) : "") },
  { key: "reason", title: "Why" },
  { key: "source", title: "Source" },
];

class Table {
  constructor(host, count, nodes, select) {
    Object.assign(this, { host, count, nodes, select, filters: new Map(), sorted: { key: "index", down: false } });
    this.columns = COLUMNS.filter((column) => nodes.some((node) => known(node[column.key])));
  }

  build() {
    if (this.body) return;
    this.heads = this.columns.map((column) => this.head(column));
    this.rows = new Map(this.nodes.map((node) => [node.name, this.row(node)]));
    this.body = make("tbody");
    this.host.append(make("thead", {}, make("tr", {}, this.heads)), this.body);
    this.update();
  }

  head(column) {
    const filter = make("input", {
      type: "text", "aria-label": `Filter ${column.title}`, placeholder: column.numeric ? "> …" : "…",
      input: (event) => { this.filters.set(column.key, event.target.value.trim()); this.update(); },
    });
    return make("th", { scope: "col" }, make("button", { type: "button", click: () => this.sort(column) }, column.title), filter);
  }

  row(node) {
    const cells = this.columns.map((column) => {
      const value = node[column.key];
      const text = column.show ? column.show(value) : value || "";
      const content = column.key === "name" ? make("button", { type: "button" }, text) : text;
      return make("td", { class: column.numeric ? "number" : null, title: column.numeric ? null : text }, content);
    });
    return make("tr", { click: () => this.select(node.name) }, cells);
  }

  sort(column) {
    const down = this.sorted.key === column.key ? !this.sorted.down : Boolean(column.numeric) && column.key !== "sqnr" && column.key !== "index";
    this.sorted = { key: column.key, down };
    this.update();
  }

  update() {
    const { key, down } = this.sorted;
    this.heads.forEach((head, i) => {
      head.setAttribute("aria-sort", this.columns[i].key !== key ? "none" : down ? "descending" : "ascending");
    });
    const kept = this.nodes.filter((node) => this.columns.every((column) => this.passes(node, column)));
    kept.sort((a, b) => compared(a[key], b[key], down) || a.index - b.index);
    this.body.replaceChildren(...kept.map((node) => this.rows.get(node.name)));
    this.count.textContent = `${kept.length} of ${this.nodes.length} nodes.`;
  }

  passes(node, column) {
    const wanted = this.filters.get(column.key);
    if (!wanted) return true;
    const value = node[column.key];
    const asked = column.numeric && /^([<>=])\s*(-?[\d.]+(?:e-?\d+)?)$/i.exec(wanted);
    if (!asked) return String(column.show ? column.show(value) : value || "").toLowerCase().includes(wanted.toLowerCase());
    if (!known(value)) return false;
    const [real, bound] = [number(value) * (column.scale || 1), Number(asked[2])];
    return asked[1] === "<" ? real < bound : asked[1] === ">" ? real > bound : real === bound;
  }

  mark(name) {
    if (!this.body) return;
    for (const [other, row] of this.rows) row.classList.toggle("selected", other === name);
    const row = this.rows.get(name);
    if (row && row.isConnected) row.scrollIntoView({ block: "nearest" });
  }
}

// What is missing comes last in either direction.
function compared(a, b, down) {
  if (!known(a) || !known(b)) return Number(!known(a)) - Number(!known(b));
  const [x, y] = [number(a), number(b)];
  const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x === y ? 0 : x < y ? -1 : 1;
  return down ? -order : order;
}
