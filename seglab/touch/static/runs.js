// The run browser: a table of runs, and what the selected ones have in common. Sorting, filtering,
// selecting and pointing happen here; Python reads the files and sends what is new in them.
// Names, errors and parameters are data: they enter the page as text, never as HTML.

const ROW = 25; // height of a row of the table, in CSS pixels
const SEEN = 12; // rows that are in sight at once: the height of .list in runs.css

/** 8 s, 29:56, 1:12:03. */
function duration(seconds) {
  if (typeof seconds !== "number") return "";
  if (seconds < 60) return `${short(Number(seconds.toPrecision(2)))} s`;
  const whole = Math.round(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** "trimap/train/2031-05-17-142201-demo" as where it belongs, and the word somebody chose. */
function parts(name) {
  const [, where, label] = name.match(/^(.*)\/\d{4}-\d\d-\d\d-\d{6}-(.*)$/) ?? [null, "", name];
  return { where, label, letters: `${where} ${label}` };
}

/** Numbers before words, nothing always last. */
function order(a, b, up) {
  const [noA, noB] = [a === null || a === "", b === null || b === ""];
  if (noA || noB) return noA - noB;
  const [numberA, numberB] = [typeof a === "number", typeof b === "number"];
  if (numberA !== numberB) return numberA ? -1 : 1;
  const sign = numberA ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return up ? sign : -sign;
}

/** Where JupyterLab opens one of these paths (the same file), or null if it lies outside. */
function findInLab(paths, home) {
  const element = document.getElementById("jupyter-config-data");
  if (!element) return null;
  const { serverRoot = "", baseUrl = "/" } = JSON.parse(element.textContent);
  const root = serverRoot.replace(/^~(?=\/|$)/, home).replace(/\/+$/, "");
  const path = serverRoot && paths.find((one) => one.startsWith(`${root}/`));
  if (!path) return null;
  const inside = path.slice(root.length + 1);
  const address = inside.split("/").map(encodeURIComponent).join("/");
  return { inside, address: `${baseUrl}lab/tree/${address}` };
}

class Browser {
  constructor({ model, el }) {
    this.model = model;
    this.undo = new AbortController(); // takes all listeners back
    this.waiting = new Set(); // what to draw in the next frame
    this.anchor = null; // where a selection with Shift begins
    this.build(el);
    this.listen();
    this.drawAll();
    model.send({ type: "shown" });
  }

  build(parent) {
    const root = (this.root = create("div", "seglab-runs", parent));
    root.dataset.testid = "runs";
    const bar = create("div", "bar", root);
    this.filter = create("input", "", bar);
    Object.assign(this.filter, { type: "search", placeholder: "filter: words of a row" });
    this.filter.value = this.view().filter ?? "";
    this.count = create("span", "pale", bar);
    this.button = create("button", "plain push", bar, "refresh");
    this.warning = create("div", "wrong", root);
    this.box = create("div", "box list", root);
    this.box.tabIndex = 0;
    this.box.dataset.lmSuppressShortcuts = "true"; // arrows are ours, not the notebook's
    this.table = create("table", "", this.box);
    this.chosen = create("section", "", root);
    this.curves = create("section", "", root);
    this.pictures = create("section", "", root);
    root.state = () => ({ rows: this.shown.map((row) => row.name), drawn: this.drawn });
  }

  on(target, event, handler) {
    target.addEventListener(event, handler, { signal: this.undo.signal });
  }

  /** Draw a part in the next frame when one of these traits changes, until the view is closed. */
  watch(names, part) {
    const handler = () => this.later(part);
    for (const name of names) this.model.on(`change:${name}`, handler);
    this.undo.signal.addEventListener("abort", () =>
      names.forEach((name) => this.model.off(`change:${name}`, handler)));
  }

  listen() {
    const receive = (message) => this.receive(message);
    this.model.on("msg:custom", receive);
    this.undo.signal.addEventListener("abort", () => this.model.off("msg:custom", receive));
    this.watch(["listed"], "Table");
    this.watch(["selected", "looks"], "Marks");
    this.watch(["detail"], "Chosen");
    this.watch(["detail"], "Curves");
    this.watch(["ends"], "Ends");
    this.watch(["error_text"], "Error");
    this.on(this.filter, "input", () => this.keep({ filter: this.filter.value }, "Table"));
    this.on(this.button, "click", () => this.model.send({ type: "refresh" }));
    this.on(this.table, "click", (event) => this.pick(event));
    this.on(this.box, "scroll", () => this.scroll());
    this.on(this.box, "keydown", (event) => this.step(event));
    this.on(this.root, "keydown", (event) => event.stopPropagation());
    this.on(this.root, "contextmenu", (event) => event.stopPropagation());
  }

  close() {
    this.undo.abort();
    cancelAnimationFrame(this.frame);
    this.model.send({ type: "hidden" });
    this.root.remove();
  }

  // ---- what is drawn when

  later(part) {
    this.waiting.add(part);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      const parts = [...this.waiting];
      this.waiting.clear();
      parts.forEach((name) => this[`draw${name}`]());
    });
  }

  drawAll() {
    ["Table", "Chosen", "Curves", "Ends", "Error"].forEach((part) => this[`draw${part}`]());
    this.root.dataset.ready = "1";
  }

  drawError() {
    this.warning.textContent = this.model.get("error_text");
  }

  /** How the page looks at things: sort, up, filter, log, axis. Kept, so that a reload finds it. */
  view() {
    return { sort: "started", up: false, filter: "", ...this.model.get("view") };
  }

  keep(change, part) {
    if (part === "Table") this.box.scrollTop = 0;
    this.tell("view", { ...this.view(), ...change });
    this.later(part);
  }

  tell(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  /** Values that a history got since, from row `start` on. */
  receive({ type, name, start, values }) {
    const run = this.model.get("detail").runs?.find((one) => one.name === name);
    if (type !== "points" || !run) return;
    for (const [column, fresh] of Object.entries(values)) {
      run.history[column] = [...(run.history[column] ?? []).slice(0, start), ...fresh];
    }
    this.later("Curves");
  }

  // ---- the table

  /** Rows that hold all words of the filter, sorted; columns that hold anything in them. */
  arrange() {
    const { columns, rows } = this.model.get("listed");
    const { sort, up, filter } = this.view();
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (row) => row.cells.filter((value) => value !== null).join(" ").toLowerCase();
    this.shown = rows.filter((row) => {
      const all = words.length && text(row);
      return words.every((word) => all.includes(word));
    });
    const key = columns.findIndex((column) => column.key === sort);
    const keys = new Map(this.shown.map((row) => [row, key < 0 ? row.name : this.sortKey(row, key)]));
    this.shown.sort((a, b) => order(keys.get(a), keys.get(b), up));
    const filled = (_, i) => i < 4 || this.shown.some((row) => row.cells[i] !== null);
    return columns.map((column, i) => ({ ...column, i })).filter((column) => filled(column, column.i));
  }

  sortKey(row, column) {
    return column === 3 ? this.seconds(row) : row.cells[column];
  }

  /** How long a run took; one that runs has taken the time since it began. */
  seconds({ cells: [, state, started, seconds] }) {
    if (state !== "running") return seconds;
    return (seconds ?? 0) + Math.max(0, (Date.now() - Date.parse(started)) / 1000);
  }

  drawTable() {
    const top = this.box.scrollTop; // kept, though the table is empty for a moment
    const columns = (this.columns = this.arrange());
    const group = create("colgroup");
    const widths = columns.map((column) => this.width(column));
    for (const width of widths) create("col", "", group).style.width = `${width}px`;
    this.table.style.width = `max(100%, ${widths.reduce((sum, width) => sum + width, 0)}px)`;
    this.table.replaceChildren(group, this.drawHead(columns), create("tbody"));
    const all = this.model.get("listed").rows.length;
    const some = this.shown.length === all ? "" : `${this.shown.length} of `;
    this.count.textContent = all ? `${some}${all} run${all === 1 ? "" : "s"}` : "no runs yet";
    this.drawRows(top);
  }

  /** Room for the longest text of a column, in pixels: measuring it in the page takes longer. */
  width({ i, name }) {
    const text = i ? (row) => this.say(row, i, row.cells[i]) : (row) => parts(row.name).letters;
    const longest = this.shown.reduce((most, row) => Math.max(most, text(row).length), 0);
    const [title, inside] = [Math.min(name.length, 20) + 2, Math.min(longest, i ? 26 : 44)];
    return 22 + Math.ceil(Math.max(7.8 * title, 7.5 * inside)) + (i ? 0 : 22);
  }

  /** Only the rows that can be seen: a page with all cells of 500 runs takes a second to lay out. */
  drawRows(top = this.box.scrollTop) {
    const place = Math.min(Math.floor(top / ROW), this.shown.length - SEEN);
    const first = Math.max(0, place - SEEN);
    const rows = this.shown.slice(first, first + 3 * SEEN);
    const body = create("tbody");
    const space = (count) => count > 0 && (create("tr", "space", body).style.height = `${count * ROW}px`);
    space(first);
    for (const row of rows) this.drawRow(row, this.columns, body);
    space(this.shown.length - first - rows.length);
    this.table.tBodies[0].replaceWith(body);
    this.first = first;
    this.box.scrollTop = top;
    this.drawMarks();
  }

  scroll() {
    const rows = Math.floor(this.box.scrollTop / ROW) - this.first;
    if ((this.first > 0 && rows < SEEN / 2) || rows > 1.5 * SEEN) this.later("Rows");
  }

  drawHead(columns) {
    const head = create("thead");
    const [groups, names] = [create("tr", "groups", head), create("tr", "names", head)];
    const { sort, up } = this.view();
    columns.forEach((column, place) => {
      const edge = place && column.group !== columns[place - 1].group ? "edge" : "";
      const kind = `${column.number ? "number" : ""} ${place ? edge : "first"}`;
      if (edge || !place) {
        const group = create("th", place ? edge : "first", groups, place ? column.group : "");
        if (place) group.colSpan = columns.filter((other) => other.group === column.group).length;
        else create("th", "", groups).colSpan = 3; // state, started, seconds
      }
      const cell = create("th", kind, names);
      if (column.key === sort) cell.ariaSort = up ? "ascending" : "descending";
      const arrow = column.key === sort ? (up ? " ↑" : " ↓") : "";
      const button = create("button", "", cell, column.name + arrow);
      button.title = column.name;
      button.dataset.key = column.key;
    });
    return head;
  }

  drawRow(row, columns, body) {
    const line = create("tr", "", body);
    line.dataset.name = row.name;
    columns.forEach((column, place) => {
      const value = row.cells[column.i];
      const edge = place && column.group !== columns[place - 1].group ? "edge" : "";
      if (!place) return this.drawName(create("td", "first", line), row.name);
      const cell = create("td", `${column.number ? "number" : ""} ${edge}`, line);
      if (column.i === 1) {
        cell.classList.add(`state-${value}`);
        if (row.problem) cell.title = row.problem;
      }
      cell.textContent = this.say(row, column.i, value);
      if (typeof value === "string" && value.length > 24) cell.title = value;
    });
  }

  say(row, column, value) {
    if (column === 2) return value.slice(0, 16).replace("T", " ");
    if (column === 3) return duration(this.seconds(row));
    return value === null ? "" : short(value);
  }

  drawName(cell, name) {
    const { where, label } = parts(name);
    cell.title = name;
    create("span", "dot", cell);
    create("span", "where", cell, where);
    create("span", "label", cell, label);
  }

  /** Colours and selection, without building the table anew. */
  drawMarks() {
    const selected = new Set(this.model.get("selected"));
    for (const line of this.table.tBodies[0].querySelectorAll("tr[data-name]")) {
      line.ariaSelected = selected.has(line.dataset.name);
      this.paint(line.querySelector(".dot"), line.dataset.name);
    }
  }

  paint(dot, name) {
    const [colour, dashed] = this.model.get("looks")[name] ?? ["transparent", false];
    dot.style.background = dot.style.borderColor = colour;
    dot.classList.toggle("dashed", dashed);
  }

  // ---- sorting and selecting

  pick(event) {
    const key = event.target.closest("button[data-key]")?.dataset.key;
    const { sort, up } = this.view();
    if (key) return this.keep({ sort: key, up: sort === key ? !up : true }, "Table");
    const name = event.target.closest("tr[data-name]")?.dataset.name;
    if (name) this.select(name, event.ctrlKey || event.metaKey, event.shiftKey);
  }

  select(name, more, range) {
    const names = this.shown.map((row) => row.name);
    const before = this.model.get("selected");
    const start = names.indexOf(this.anchor ?? before[0]);
    let chosen = [name];
    if (range && start >= 0) {
      const ends = [start, names.indexOf(name)].sort((a, b) => a - b);
      chosen = names.slice(ends[0], ends[1] + 1);
    } else {
      this.anchor = name;
      if (more && before.includes(name)) chosen = before.filter((other) => other !== name);
      else if (more) chosen = [...before, name];
    }
    this.tell("selected", chosen);
    this.drawMarks();
  }

  /** Arrow keys go from row to row. */
  step(event) {
    const way = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!way || event.target !== this.box) return;
    event.preventDefault();
    const names = this.shown.map((row) => row.name);
    const here = names.indexOf(this.anchor ?? this.model.get("selected")[0]);
    const name = names[Math.min(Math.max(here + way, 0), names.length - 1)];
    if (!name) return;
    this.select(name, false, false);
    const top = names.indexOf(name) * ROW;
    const room = this.box.clientHeight - this.table.tHead.clientHeight - ROW;
    this.box.scrollTop = Math.min(Math.max(this.box.scrollTop, top - room), top);
  }

  // ---- the selected runs

  drawChosen() {
    const { runs = [], parameters = [], note = "" } = this.model.get("detail");
    this.chosen.replaceChildren();
    if (!runs.length) return create("p", "pale", this.chosen, "Click a row; Ctrl or Shift for several.");
    const lacking = (row) => row.values.filter((value) => value === "–").length;
    const differ = parameters.filter((row) => row.differs).sort((a, b) => lacking(a) - lacking(b));
    create("h4", "", this.chosen, runs.length > 1 ? "What differs" : "Parameters");
    if (note) create("p", "pale", this.chosen, note);
    const table = create("table", "chosen", create("div", "box settings", this.chosen));
    this.drawFacts(table, runs);
    for (const row of runs.length > 1 ? differ : parameters) this.drawParameter(table, row);
    const same = runs.length > 1 ? parameters.filter((row) => !row.differs) : [];
    if (!same.length) return;
    const rest = create("details", "pale", this.chosen);
    create("summary", "", rest, `${same.length} equal parameters`);
    const text = same.map(({ name, values }) => `${name} = ${values[0]}`).join("   ");
    create("div", "", rest, text);
  }

  drawFacts(table, runs) {
    const line = (title) => {
      const row = create("tr", "", table);
      create("th", "first", row, title);
      return row;
    };
    const [names, states] = [line(""), line("state")];
    const said = runs.some((run) => run.problems.length) ? line("problem") : null;
    const books = line("notebook");
    for (const run of runs) {
      this.drawName(create("td", "", names), run.name);
      this.paint(names.lastChild.firstChild, run.name);
      create("td", `state-${run.state}`, states, run.state);
      if (said) create("td", "wrong", said, run.problems.join("; "));
      this.drawLink(create("td", "path", books), run);
    }
  }

  drawParameter(table, { name, values, differs }) {
    const row = create("tr", differs ? "differs" : "", table);
    create("th", "first", row, name);
    for (const value of values) create("td", "", row, value).title = value;
  }

  /** A link that JupyterLab opens in a tab of its own; elsewhere the path, to copy. */
  drawLink(cell, run) {
    if (!run.notebook.length) return create("span", "pale", cell, "none");
    const found = findInLab(run.notebook, this.model.get("home"));
    if (found) {
      const link = create("a", "open", cell, "open run.ipynb");
      Object.assign(link, { href: found.address, target: "_blank", title: found.inside });
      link.dataset.commandlinkerCommand = "docmanager:open"; // JupyterLab listens for these two
      link.dataset.commandlinkerArgs = JSON.stringify({ path: found.inside });
      return;
    }
    create("code", "", cell, run.notebook[0]);
    const lab = document.getElementById("jupyter-config-data");
    create("div", "pale", cell, lab ? "outside the server's folder" : "no JupyterLab here to open it");
  }

  // ---- curves

  drawCurves() {
    const { runs = [], charts = [], axes = [], blank = "" } = this.model.get("detail");
    this.curves.replaceChildren();
    this.drawn = 0;
    if (!runs.length) return;
    const bar = create("div", "bar", this.curves);
    create("h4", "", bar, "Curves").style.margin = "0";
    if (blank) create("span", "pale", bar, blank);
    if (!charts.length) return;
    const axis = axes.includes(this.view().axis) ? this.view().axis : axes[0];
    if (axes.length > 1) this.drawChoice(bar, "by", axes, axis, (name) => this.keep({ axis: name }, "Curves"));
    this.drawSwitch(bar, "log", this.view().log, (log) => this.keep({ log }, "Curves"));
    const grid = create("div", "charts", this.curves);
    this.readout = create("div", "readout pale", this.curves);
    for (const column of charts) {
      const lines = runs.filter((run) => run.history[column]).map((run) => this.line(run, column, axis));
      grid.append(drawChart(column, axis ?? "row", lines, this.view().log));
      this.drawn += lines.reduce((sum, line) => sum + line.points.length, 0);
    }
    this.root.dataset.points = this.drawn;
    grid.addEventListener("pointermove", (event) => this.point(event, grid)); // gone with the grid
    grid.addEventListener("pointerleave", () => this.point(null, grid));
  }

  line(run, column, axis) {
    const places = run.history[axis] ?? run.history[column].map((_, i) => i + 1);
    const [colour, dashed] = this.model.get("looks")[run.name] ?? ["gray", false];
    const points = run.history[column].map((value, i) => [places[i], value]);
    return { name: run.name, colour, dashed, points };
  }

  /** The same place in all charts, and the values there of the chart that is pointed at. */
  point(event, grid) {
    const chart = event?.target.closest("svg.chart");
    const x = chart ? chart.back(event.clientX - chart.getBoundingClientRect().left) : null;
    this.readout.replaceChildren();
    for (const other of grid.children) {
      const found = other.point(x);
      if (other !== chart) continue;
      create("span", "", this.readout, chart.dataset.column);
      for (const { line, at, value } of found) {
        const item = create("span", "", this.readout);
        this.paint(create("span", "dot", item), line.name);
        item.append(`${parts(line.name).label}: ${short(value)} at ${short(at)}`);
      }
    }
  }

  drawChoice(parent, title, names, chosen, act) {
    const label = create("label", "pale", parent, `${title} `);
    const select = create("select", "", label);
    for (const name of names) create("option", "", select, name || "all").value = name;
    select.value = chosen;
    select.dataset.choice = title;
    select.addEventListener("change", () => act(select.value));
  }

  drawSwitch(parent, title, chosen, act) {
    const label = create("label", "pale", parent);
    const box = create("input", "", label);
    Object.assign(box, { type: "checkbox", checked: Boolean(chosen) });
    box.dataset.choice = title;
    label.append(` ${title}`);
    box.addEventListener("change", () => act(box.checked));
  }

  // ---- best and worst

  drawEnds() {
    const ends = this.model.get("ends");
    this.pictures.replaceChildren();
    if (!ends.run) return;
    const ask = (change) => this.tell("asked", { ...this.model.get("asked"), run: ends.run, ...change });
    const bar = create("div", "bar", this.pictures);
    create("h4", "", bar, "Best and worst").style.margin = "0";
    const fresh = { column: "", of: "", lower: null };
    this.drawChoice(bar, "of run", ends.runs, ends.run, (run) => ask({ ...fresh, run }));
    this.drawChoice(bar, "by", ends.columns, ends.column, (column) => ask({ column, lower: null }));
    if (ends.groups.length > 1) {
      this.drawChoice(bar, "only", ["", ...ends.groups], ends.of, (of) => ask({ of }));
    }
    this.drawSwitch(bar, "lower is better", ends.lower, (lower) => ask({ lower }));
    const grid = create("div", "ends", this.pictures);
    for (const [title, cards] of [["best", ends.best], ["worst", ends.worst]]) {
      create("div", `end pale`, grid, title);
      for (const card of cards) this.drawCard(grid, card);
    }
  }

  drawCard(grid, { name, rest, value, pictures }) {
    const card = create("div", "card", grid);
    create("span", "value", card, short(value));
    create("span", "name", card, name);
    if (rest) create("span", "pale", card, ` · ${rest}`);
    if (!pictures.length) return;
    const strip = create("div", "pictures", card);
    for (const { kind, address } of pictures) {
      const figure = create("figure", "", strip);
      Object.assign(create("img", "", figure), { src: address, alt: `${kind} of ${name}` });
      create("figcaption", "", figure, kind);
    }
  }
}

function render({ model, el }) {
  const browser = new Browser({ model, el });
  return () => browser.close();
}

export default { render };
