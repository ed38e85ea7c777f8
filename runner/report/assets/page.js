// The page as a whole: what is where, the keyboard, and new data while a sweep is made.

const sweep = new Sweep(JSON.parse(document.getElementById("data").textContent));
const byId = (id) => document.getElementById(id);
const marks = new Marks(sweep);
const player = new Player();
const tip = new Tip(byId("tip"));
const grid = new Grid(sweep, marks, player, byId("grid"));
const large = new LargeView(sweep, marks, player, byId("large"), byId("transport"));
const dashboard = new Dashboard(sweep, byId("panel-dashboard"), tip, (cell) => openCell(cell));
const toolbar = new Toolbar(sweep, marks, grid, byId("toolbar"), (isNew) => show(isNew));
const transport = new Transport(player, grid, byId("transport"));

function show(isNew) {
  if (isNew) fitCells();
  if (player.playing) player.pause();
  player.scope = null;
  player.clips = [];
  tip.hide();
  const shown = grid.show();
  announce(`${plural(shown, "cell")} shown`);
  transport.show();
}

// As wide as lets all columns stand beside one another, within reason.
function fitCells() {
  const first = sweep.cells[0];
  const { width, height } = first ? sweep.shape(first) : {};
  const root = document.documentElement;
  root.style.setProperty("--ratio", width && height ? width / height : 16 / 9);
  const { arrangement } = grid;
  const columns = Math.max(1, ...arrangement.sections().map((s) => s.columns.length
    + (grid.hasOwnReferences(s) ? 1 : 0)));
  const isNarrow = innerWidth < 640;
  const room = innerWidth - (isNarrow ? 34 : 290);
  const fit = Math.round(Math.max(isNarrow ? 132 : 120, Math.min(room / (columns + (isNarrow ? 0 : 1)) - 8, 300)));
  if (!byId("size").dataset.chosen) byId("size").value = fit;
  root.style.setProperty("--cell", `${byId("size").value}px`);
}

function openCell(cell, row) {
  tip.hide();
  large.open(cell, row || grid.rows.find((own) => own.cells.includes(cell)) || { cells: [cell] });
}

function describe(cell) {
  const seconds = cell.seconds ? ` · ${duration(cell.seconds)}` : "";
  return [
    el("b", {}, sweep.label(cell)),
    el("p", {}, sweep.text(cell)),
    el("span", {}, `${STATE_WORDS[cell.state]}${seconds}`),
    cell.reason ? el("p", { class: "reason" }, cell.reason) : null,
  ].filter(Boolean);
}

grid.onOpen = openCell;
grid.onHover = (cell, element) => {
  if (cell && !large.isOpen) tip.showBy(element, () => describe(cell));
  else tip.hide();
};
large.onMove = (down, right) => {
  if (!grid.current) return;
  grid.move(down, right);
  if (grid.currentCell) large.open(grid.currentCell, grid.current.row);
};
large.onClose = () => {
  const { current } = grid;
  if (current) grid.focus(current.row, current.column);
  transport.show();
};

const VIEWS = ["videos", "dashboard"];

function view(name) {
  for (const own of VIEWS) {
    byId(`tab-${own}`).setAttribute("aria-selected", String(own === name));
    byId(`tab-${own}`).tabIndex = own === name ? 0 : -1;
    byId(`panel-${own}`).hidden = own !== name;
  }
  byId("transport").hidden = name !== "videos";
  byId("toolbar").hidden = name !== "videos";
  byId("more").hidden = name !== "videos";
  if (name === "dashboard") {
    if (player.playing) player.pause();
    dashboard.show();
  }
  if (location.hash.slice(1) !== name) history.replaceState(null, "", `#${name}`);
}

for (const name of VIEWS) {
  byId(`tab-${name}`).addEventListener("click", () => view(name));
  byId(`tab-${name}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = VIEWS[1 - VIEWS.indexOf(name)];
    view(other);
    byId(`tab-${other}`).focus();
    event.stopPropagation();
  });
}

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  memory.set("sweep-theme", name);
  byId("theme").value = name;
}
byId("theme").addEventListener("change", () => theme(byId("theme").value));
byId("size").addEventListener("input", () => {
  byId("size").dataset.chosen = "yes";
  document.documentElement.style.setProperty("--cell", `${byId("size").value}px`);
});
function showToolbar(isOpen) {
  byId("toolbar").classList.toggle("open", isOpen);
  byId("more").setAttribute("aria-expanded", String(isOpen));
}
byId("more").addEventListener("click", () => {
  showToolbar(byId("more").getAttribute("aria-expanded") !== "true");
});
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("keys").addEventListener("click", () => byId("keys").close());

const moves = {
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
};
const commands = {
  " ": () => transport.toggle(),
  f: () => mark("favourite"),
  x: () => mark("reject"),
  l: () => transport.toggleLoop(),
  ",": () => step(-1),
  ".": () => step(1),
  r: () => { if (large.isOpen) large.toggleRow(); else playRow(); },
  "/": () => { showToolbar(true); toolbar.search.focus(); },
  "?": () => byId("keys").showModal(),
  Home: () => { if (grid.rows.length) grid.move(-grid.rows.length, 0); },
};

function mark(name) {
  const cell = large.isOpen ? large.cell : grid.currentCell;
  if (!cell) return;
  marks.toggle(cell, name);
  announce(`${marks.of(cell) || "mark taken back"}: ${sweep.label(cell)}`);
}

function step(frames) {
  if (!player.scope) player.setScope(grid.pageScope());
  player.step(frames);
}

function playRow() {
  if (grid.current) player.toggle(grid.scopeOf(grid.current.row.section, grid.current.row));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const on = event.target;
  if (on instanceof HTMLInputElement && on.type !== "range") {
    if (event.key === "Escape") on.blur();
    return;
  }
  if (on instanceof HTMLSelectElement || byId("panel-videos").hidden) return;
  const isControl = on instanceof HTMLButtonElement || on instanceof HTMLInputElement
    || on.tagName === "SUMMARY";
  if (isControl && (event.key === " " || event.key === "Enter")) return;
  if (on instanceof HTMLInputElement && event.key in moves) return;
  if (event.key in moves) {
    const [down, right] = moves[event.key];
    if (large.isOpen) large.onMove(down, right);
    else grid.move(down, right);
  } else if (event.key === "Enter" && grid.currentCell && !large.isOpen) {
    openCell(grid.currentCell, grid.current.row);
  } else if (event.key in commands) {
    commands[event.key]();
  } else {
    return;
  }
  event.preventDefault();
});
addEventListener("resize", () => {
  clearTimeout(resize.timer);
  resize.timer = setTimeout(() => { fitCells(); }, 150);
});
const resize = {};
document.addEventListener("scroll", () => { if (!tip.host.hidden) tip.hide(); }, { passive: true });

// While the sweep is made: ask for what has changed, and fill the cells in where they stand.
async function watch() {
  let stamp = null;
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, 1000 * sweep.data.watch_seconds); });
    try {
      const headers = stamp ? { "If-None-Match": stamp } : {};
      const answer = await fetch("data.json", { headers });
      byId("live").textContent = "live";
      if (answer.status !== 200) continue;
      stamp = answer.headers.get("ETag");
      takeIn(await answer.json());
    } catch {
      byId("live").textContent = "the server does not answer";
    }
  }
}

function takeIn(data) {
  const former = new Map(sweep.cells.map((cell) => [cell.key, cell]));
  const isSame = data.cells.length === sweep.cells.length
    && JSON.stringify(data.axes) === JSON.stringify(sweep.axes);
  Object.assign(sweep, new Sweep(data));
  showCounts();
  if (!byId("panel-dashboard").hidden) dashboard.show();
  if (!isSame) {
    toolbar.build();
    show(true);
    return;
  }
  toolbar.showCounts();
  // A cell that has not changed keeps its element, and so its place in what plays.
  const changed = new Map();
  for (const cell of sweep.cells) {
    const old = former.get(cell.key);
    const same = old && ["state", "video", "poster", "preview", "reason", "text"]
      .every((name) => old[name] === cell[name]);
    changed.set(cell.key, same ? Object.assign(old, cell) : cell);
  }
  sweep.cells = sweep.cells.map((cell) => changed.get(cell.key));
  grid.update(changed);
  if (large.isOpen) {
    const now = changed.get(large.cell.key);
    if (now !== large.cell) large.open(now, large.row);
  }
}

function showCounts() {
  const counts = {};
  for (const cell of sweep.cells) counts[cell.state] = (counts[cell.state] || 0) + 1;
  const said = STATES.filter((s) => counts[s]).map((s) => `${counts[s]} ${STATE_WORDS[s]}`);
  byId("counts").replaceChildren(
    stacked(STATES.filter((s) => s !== "pending").map((s) => [counts[s] || 0, s]),
      Math.max(1, sweep.cells.length), said.join(", ")),
    el("span", {}, said.join(" · ")),
  );
  byId("counts").title = sweep.data.made_at
    ? `as of ${new Date(sweep.data.made_at * 1000).toLocaleString()}` : "";
}

theme(memory.get("sweep-theme") || "auto");
showCounts();
toolbar.build();
fitCells();
grid.show();
view(VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "videos");
if (sweep.data.watch_seconds) watch();
document.documentElement.dataset.ready = "yes";
