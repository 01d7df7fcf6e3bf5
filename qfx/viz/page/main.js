// What belongs together: data, graph, list, details, search.
function ready(data) {
  data.nodes.forEach((node, index) => Object.assign(node, { index, kindText: data.kinds[node.kind].text, spread: node.weights && node.weights.spread }));
  data.byName = new Map(data.nodes.map((node) => [node.name, node]));
  for (const node of data.nodes) node.words = [node.name, node.title, node.module, node.source, node.kindText].join("\n").toLowerCase();
  return data;
}

function start() {
  const data = ready(JSON.parse(byId("data").textContent));
  const select = (name, reveal = true) => {
    const node = data.byName.get(name);
    byId("details").replaceChildren(...(node ? nodeDetails(node, data, select) : modelDetails(data, select)));
    byId("details").scrollTop = 0;
    graph.select(name);
    table.mark(name);
    history.replaceState(null, "", node ? linkTo(name) : location.pathname + location.search);
    if (node && reveal) graph.reveal(name);
  };
  const graph = new Graph(byId("graph"), data.nodes, data.arrows, data.heat, (name) => select(name, false));
  const table = new Table(byId("nodes"), byId("count"), data.nodes, (name) => select(name));
  byId("cards").append(...data.cards.map(([title, value]) => make("div", {}, make("dt", {}, title), make("dd", {}, value))));
  byId("zoom-in").addEventListener("click", () => graph.zoom(0.7));
  byId("zoom-out").addEventListener("click", () => graph.zoom(1 / 0.7));
  byId("zoom-fit").addEventListener("click", () => graph.fit());
  byId("modules").hidden = graph.frames.frames.size === 0;
  for (const [id, closed] of [["close-all", true], ["open-all", false]]) {
    byId(id).addEventListener("click", () => {
      graph.frames.setAll(closed);
      graph.start();
    });
  }
  tabs(table);
  colours(data, graph);
  search(data, graph, select);
  const follow = () => {
    const name = linked(location.hash);
    select(data.byName.has(name) ? name : null);
  };
  window.addEventListener("hashchange", follow);
  graph.whenShown(follow);
}

// The address of a node in this page.
function linkTo(name) {
  return `#node=${encodeURIComponent(name)}`;
}

function linked(hash) {
  const given = /^#node=(.*)$/.exec(hash);
  try {
    return given ? decodeURIComponent(given[1]) : null;
  } catch {
    return null;
  }
}

function tabs(table) {
  const all = [...document.querySelectorAll('[role="tab"]')];
  const open = (tab) => {
    for (const other of all) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      byId(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    byId("graph-tools").hidden = tab.id !== "tab-graph";
    if (tab.id === "tab-nodes") table.build();
  };
  all.forEach((tab, i) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const next = all[(i + 1) % all.length];
      next.focus();
      open(next);
    });
  });
}

// 0 is cold and 1 is hot: low SQNR, much time, much clipped.
const HEATS = {
  sqnr: { title: "SQNR", cold: "high", hot: "low", down: true },
  share: { title: "Time", cold: "little", hot: "much", down: false },
  clipped: { title: "Clipped share", cold: "little", hot: "much", down: false },
};

function colours(data, graph) {
  const choice = byId("colour");
  choice.append(make("option", { value: "" }, "arithmetic"));
  for (const [key, heat] of Object.entries(HEATS)) {
    if (data.nodes.some((node) => known(node[key]))) choice.append(make("option", { value: key }, heat.title));
  }
  const apply = () => {
    const heat = HEATS[choice.value];
    graph.colour(heat ? shares(data.nodes, choice.value, heat.down) : null);
    byId("legend").replaceChildren(...(heat ? heatLegend(heat, graph) : kindLegend(data)));
  };
  choice.addEventListener("change", apply);
  apply();
}

function shares(nodes, key, down) {
  const values = nodes.filter((node) => known(node[key])).map((node) => [node.name, number(node[key])]);
  const finite = values.map(([, value]) => value).filter(Number.isFinite);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  return new Map(values.map(([name, value]) => {
    const share = high > low ? (Math.min(Math.max(value, low), high) - low) / (high - low) : 0;
    return [name, down ? 1 - share : share];
  }));
}

function kindLegend(data) {
  const used = new Set(data.nodes.map((node) => node.kind));
  return Object.entries(data.kinds).filter(([key]) => used.has(key)).map(([, kind]) => make("li", {}, swatch(kind), kind.text));
}

function heatLegend(heat, graph) {
  const steps = [0, 0.25, 0.5, 0.75, 1];
  return [make("li", {}, `${heat.title}: ${heat.cold}`, steps.map((s) => swatch({ fill: graph.warm(s), line: "#85858f" })), heat.hot)];
}

function search(data, graph, select) {
  const [field, list] = [byId("search"), byId("found")];
  let hits = [];
  let at = -1;
  const close = () => {
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  };
  const choose = (node) => {
    if (!node) return;
    select(node.name);
    close();
  };
  const point = (index) => {
    at = index;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
    if (at >= 0) field.setAttribute("aria-activedescendant", `hit-${at}`);
    if (list.children[at]) list.children[at].scrollIntoView({ block: "nearest" });
  };
  const find = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) {
      graph.mark(null);
      close();
      return;
    }
    const all = data.nodes.filter((node) => words.every((word) => node.words.includes(word)));
    graph.mark(new Set(all.map((node) => node.name)));
    hits = all.slice(0, 50);
    list.replaceChildren(...hits.map((node, i) => make("li", { role: "option", id: `hit-${i}`, pointerdown: (event) => { event.preventDefault(); choose(node); } },
      node.name, make("small", {}, node.title, known(node.module) && node.module !== node.name ? ` · ${node.module}` : ""))));
    if (!hits.length) list.append(make("li", { class: "none" }, "No node has all of these words."));
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    point(hits.length ? 0 : -1);
  };
  field.addEventListener("input", find);
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      field.value = "";
      find();
    } else if (event.key === "Enter") choose(hits[at]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (hits.length) point((at + (event.key === "ArrowDown" ? 1 : hits.length - 1)) % hits.length);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || /INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    field.focus();
  });
}

start();
