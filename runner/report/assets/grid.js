// The grid: any two axes on rows and columns, a section for each reference video. A row is an
// empty box of the right height until it comes near the window, and again when it is far.

const NEAR = "700px 0px";
const BUILD_MS = 6;

class Grid {
  constructor(sweep, marks, player, host) {
    Object.assign(this, { sweep, marks, player, host });
    this.matches = () => true;
    this.arrangement = new Arrangement(sweep);
    this.rows = []; // Every row shown, in order.
    this.sections = []; // And their sections.
    this.rowOf = new Map(); // Element -> row.
    this.waiting = new Set(); // Rows that came near and are not built yet.
    this.anchor = 0; // The number of a row in the window.
    this.current = null; // {row, column} that has the keyboard.
    this.onOpen = () => {};
    this.onHover = () => {};
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const row = this.rowOf.get(entry.target);
        if (!row) continue;
        if (entry.isIntersecting) {
          this.waiting.add(row);
          continue;
        }
        this.waiting.delete(row);
        if (!row.element.contains(document.activeElement)) this.empty(row);
      }
      this.build();
    }, { rootMargin: NEAR });
    this.seen = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const row = this.rowOf.get(target);
        if (row) row.isSeen = isIntersecting;
        if (row && isIntersecting) this.anchor = row.number;
      }
      this.scrolled();
    });
    this.scrolled = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.player.refresh(), 120);
    };
    marks.listeners.push((cell) => this.showMark(cell));
  }

  // Build rows that came near for a part of a frame, those nearest the window first, and the rest
  // in the frames that follow: what is scrolled past at speed is never built at all.
  build() {
    const ends = performance.now() + BUILD_MS;
    const away = (row) => Math.abs(row.number - this.anchor);
    for (const row of [...this.waiting].sort((a, b) => away(a) - away(b))) {
      if (performance.now() > ends) break;
      this.waiting.delete(row);
      this.fill(row);
    }
    if (this.waiting.size && !this.building) {
      this.building = true;
      requestAnimationFrame(() => { this.building = false; this.build(); });
    }
    this.scrolled();
  }

  // Build the sections anew; what matches the filter stays where it is on its axes.
  show() {
    this.observer.disconnect();
    this.seen.disconnect();
    this.player.forget([
      ...this.rows.flatMap((row) => this.clipsOf(row)),
      ...this.sections.flatMap((section) => section.referenceClips),
    ]);
    this.rows = [];
    this.sections = [];
    this.rowOf.clear();
    this.waiting.clear();
    this.current = null;
    const found = [];
    let shown = 0;
    for (const section of this.arrangement.sections()) {
      const rows = section.rows.filter((row) => row.cells.some((c) => c && this.matches(c)));
      if (!rows.length) continue;
      shown += rows.reduce((n, row) => n + row.cells.filter((c) => c && this.matches(c)).length, 0);
      const own = { ...section, rows };
      this.sections.push(own);
      found.push(this.section(own));
    }
    this.host.replaceChildren(...found);
    if (!found.length) {
      this.host.append(el("p", { class: "nothing" }, "Nothing matches these filters."));
    }
    this.rows.forEach((row) => { this.observer.observe(row.element); this.seen.observe(row.element); });
    return shown;
  }

  section(section) {
    const { sweep } = this;
    const title = section.axes.map((name) => sweep.value(section.first, name));
    const heading = `section-${section.key}`;
    section.name = `section ${section.key}`;
    section.shown = section.rows.map((row, number) => this.row(section, row, number));
    section.count = el("span", { class: "count" });
    this.showCount(section);
    const perRow = this.hasOwnReferences(section);
    const isOfOne = section.axes.includes(sweep.leading);
    const reference = isOfOne ? this.referenceFigure(section.first) : null;
    section.referenceClips = reference?.clip ? [reference.clip] : [];
    const grid = el(
      "div",
      {
        class: "rows", role: "grid", "aria-labelledby": heading,
        "aria-rowcount": section.rows.length + 1, "aria-colcount": section.columns.length + 1,
      },
      el(
        "div",
        { class: "row heads", role: "row", "aria-rowindex": 1 },
        el("div", { class: "rowhead corner", role: "columnheader" }, this.arrangement.rows),
        perRow ? el("div", { class: "columnhead", role: "columnheader" }, "reference") : null,
        section.columns.map((value) => this.columnHead(section, value)),
      ),
      this.arrangement.columns === sweep.leading ? this.referenceRow(section) : null,
      section.shown.map((row) => row.element),
    );
    // Names and prompts need room, a seed or a number little.
    if (!sweep.ofKind("category", "leading", "file", "text").includes(this.arrangement.rows)) {
      grid.style.setProperty("--head", "104px");
    }
    grid.style.setProperty("--columns", section.columns.length + (perRow ? 1 : 0));
    return el(
      "section",
      { class: "section", "aria-labelledby": heading },
      el(
        "header",
        { class: "sectionhead" },
        el("h2", { id: heading }, title.length > 1 ? el("span", { class: "category" }, title[0]) : null,
          el("span", { class: "name" }, title.at(-1) ?? sweep.data.title)),
        section.count,
        this.playButton(section.name, "this reference video's outputs", () => this.scopeOf(section)),
      ),
      el("div", { class: "sectionbody" }, reference?.element, grid),
    );
  }

  // Whether each row of a section has a reference clip of its own.
  hasOwnReferences(section) {
    const { leading } = this.sweep;
    return !section.axes.includes(leading) && this.arrangement.columns !== leading
      && this.sweep.data.references.length > 0;
  }

  // Above its outputs, where each column is a reference video's.
  referenceRow(section) {
    const figures = section.columns.map((_, column) => {
      const cell = section.rows.map((row) => row.cells[column]).find(Boolean);
      if (!cell) return el("div");
      const figure = this.referenceFigure(cell);
      if (!figure) return el("div");
      const { element, clip } = figure;
      if (clip) section.referenceClips.push(clip);
      return element;
    });
    return el("div", { class: "row", role: "presentation" },
      el("div", { class: "rowhead" }, "reference"), figures);
  }

  showCount(section) {
    const cells = section.shown.flatMap((row) => row.cells).filter(Boolean);
    section.count.textContent = `${cells.filter((c) => c.made).length} of ${cells.length}`;
  }

  columnHead(section, value) {
    const axis = this.sweep.axis(this.arrangement.columns);
    const label = this.sweep.valueLabel(axis, value);
    const text = this.promptText(section, this.arrangement.columns, value);
    return el("div", { class: "columnhead", role: "columnheader", title: text || label },
      el("b", {}, label), text ? el("span", {}, ` ${text}`) : null);
  }

  // The text that a number stands for, where all cells of it in a section have the same.
  promptText(section, name, value) {
    if (!this.sweep.ofKind("text").includes(name) || !section.axes.includes(this.sweep.leading)) {
      return null;
    }
    const axis = this.sweep.axis(name);
    const own = section.rows.flatMap((row) => row.cells).find((c) => c && c.at[axis] === value);
    return own ? this.sweep.text(own) : null;
  }

  // null where a cell was made from no clip.
  referenceFigure(cell) {
    const reference = this.sweep.reference(cell);
    if (!reference) return null;
    const { fps, frames } = this.sweep.shape(cell);
    const name = reference.path.split("/").at(-1);
    const frame = el("div", { class: "frame" });
    let clip = null;
    if (reference.url) {
      clip = new Clip(frame, {
        url: reference.url, label: `reference ${name}`, fps, seconds: fps ? frames / fps : 0,
      });
    } else {
      frame.append(el("p", { class: "why" }, reference.problem || "no clip"));
    }
    const element = el("figure", { class: "reference", title: reference.path }, frame,
      el("figcaption", {}, "reference"));
    if (clip) this.lazily(element, clip);
    return { element, clip };
  }

  // A reference has no poster: its video shows the frame that posters show, the one in the middle,
  // once it comes near.
  lazily(element, clip) {
    const watcher = new IntersectionObserver(([entry]) => {
      clip.isNear = entry.isIntersecting;
      if (entry.isIntersecting) clip.attach(this.player.scope ? this.player.time : clip.seconds / 2);
      else if (!this.player.clips.includes(clip)) clip.release();
    }, { rootMargin: "200px 0px" });
    watcher.observe(element);
  }

  row(section, { value, cells }, number) {
    const element = el("div", { class: "row", role: "row", "aria-rowindex": number + 2 });
    const row = { section, value, cells, element, number: this.rows.length, elements: null };
    this.rows.push(row);
    this.rowOf.set(element, row);
    return row;
  }

  fill(row) {
    if (row.elements) return;
    const axis = this.sweep.axis(this.arrangement.rows);
    const label = this.sweep.valueLabel(axis, row.value);
    const text = this.promptText(row.section, this.arrangement.rows, row.value);
    const name = `${row.section.name} row ${row.value}`;
    const head = el("div", { class: "rowhead", role: "rowheader", title: text || label },
      el("div", { class: "rowname" },
        this.playButton(name, label, () => this.scopeOf(row.section, row)), el("b", {}, label)),
      text ? el("p", {}, text) : null);
    const first = row.cells.find(Boolean);
    const reference = this.hasOwnReferences(row.section) ? this.referenceFigure(first) : null;
    row.referenceClip = reference?.clip || null;
    row.clips = [];
    row.elements = row.cells.map((cell, column) => this.cell(row, cell, column));
    row.element.replaceChildren(head, ...(reference ? [reference.element] : []), ...row.elements);
  }

  empty(row) {
    if (!row.elements) return;
    this.player.forget(this.clipsOf(row));
    row.elements = null;
    row.clips = [];
    row.referenceClip = null;
    row.element.replaceChildren();
  }

  // Draw a row's cells anew, where it is drawn at all.
  redraw(row) {
    if (!row.elements) return;
    const had = row.elements.indexOf(document.activeElement);
    this.empty(row);
    this.fill(row);
    if (had >= 0) row.elements[had].focus();
  }

  cell(row, cell, column) {
    const at = { role: "gridcell", "aria-colindex": column + 2 };
    if (!cell) return el("div", { ...at, class: "cell none", "aria-label": "not in this sweep" });
    if (!this.matches(cell)) {
      return el("div", { ...at, class: "cell out", "aria-label": "filtered out" });
    }
    const { sweep } = this;
    const mark = this.marks.of(cell);
    const frame = el("div", { class: "frame" });
    const element = el("div", {
      ...at,
      class: `cell ${cell.state}`,
      tabindex: this.current === null && row.number === 0 && column === 0 ? 0 : -1,
      "data-cell": cell.number,
      "aria-label": this.spoken(cell),
      onclick: () => { this.take(row, column); this.onOpen(cell, row); },
      onfocus: () => { this.take(row, column); this.onHover(cell, element); },
      onblur: () => this.onHover(null),
      onpointerenter: (event) => { if (event.pointerType !== "touch") this.onHover(cell, element); },
      onpointerleave: () => this.onHover(null),
    }, frame);
    if (mark) element.dataset.mark = mark;
    const url = sweep.gridUrl(cell);
    if (url) {
      const { fps, frames } = sweep.shape(cell);
      const clip = new Clip(frame, {
        url, poster: sweep.poster(cell), label: sweep.label(cell), fps,
        seconds: fps ? frames / fps : 0,
      });
      row.clips.push(clip);
      if (cell.state !== "done") frame.append(el("span", { class: "badge" }, STATE_WORDS[cell.state]));
    } else {
      frame.append(el("div", { class: "why" }, el("b", {}, STATE_WORDS[cell.state]),
        el("span", {}, cell.reason || "")));
    }
    return element;
  }

  spoken(cell) {
    const parts = [this.sweep.label(cell), STATE_WORDS[cell.state]];
    if (cell.reason) parts.push(cell.reason);
    const mark = this.marks.of(cell);
    if (mark) parts.push(mark);
    return `${parts.join(", ")}. ${this.sweep.text(cell)}`;
  }

  showMark(cell) {
    for (const row of this.rows) {
      if (!row.elements) continue;
      row.cells.forEach((own, column) => {
        if (!own || (cell && own !== cell)) return;
        const mark = this.marks.of(own);
        if (mark) row.elements[column].dataset.mark = mark;
        else delete row.elements[column].dataset.mark;
        if (this.matches(own)) row.elements[column].setAttribute("aria-label", this.spoken(own));
      });
    }
  }

  // New data for the same jobs: cells fill in where they stand.
  update(cells) {
    for (const row of this.rows) {
      let changed = false;
      row.cells = row.cells.map((old) => {
        const now = old && cells.get(old.key);
        if (now && now !== old) changed = true;
        return now || old;
      });
      if (!changed) continue;
      this.showCount(row.section);
      this.redraw(row);
    }
  }

  playButton(name, what, makeScope) {
    const button = el("button", {
      class: "play", type: "button", "data-scope": name, "aria-label": `play ${what} in step`,
      title: "play in step",
      onclick: (event) => { event.stopPropagation(); this.player.toggle(makeScope()); },
    }, "▶");
    return button;
  }

  clipsOf(row) {
    const own = row.clips || [];
    return row.referenceClip ? [row.referenceClip, ...own] : own;
  }

  scopeOf(section, row) {
    if (row) {
      return {
        name: `${section.name} row ${row.value}`,
        clips: () => [...this.referencesSeen(section), ...this.clipsOf(row)],
      };
    }
    return { name: section.name, clips: () => this.clipsSeen([section]) };
  }

  // What is in the window: the rest of a page of 680 could not play at once, nor be seen.
  pageScope() {
    return {
      name: "page",
      clips: () => this.clipsSeen(this.sections),
    };
  }

  clipsSeen(sections) {
    return sections.flatMap((section) => {
      const rows = section.shown.filter((row) => row.isSeen);
      if (!rows.length) return [];
      return [...this.referencesSeen(section), ...rows.flatMap((row) => this.clipsOf(row))];
    });
  }

  // One stays beside its outputs as they scroll; of many, those at hand.
  referencesSeen(section) {
    const clips = section.referenceClips;
    return clips.length > 1 ? clips.filter((clip) => clip.isNear) : clips;
  }

  take(row, column) {
    if (this.current) this.current.row.elements?.[this.current.column]?.setAttribute("tabindex", -1);
    this.current = { row, column };
    row.elements?.[column]?.setAttribute("tabindex", 0);
  }

  get currentCell() {
    return this.current ? this.current.row.cells[this.current.column] || null : null;
  }

  // Move the keyboard by rows and columns, over what is not there.
  move(down, right) {
    if (!this.rows.length) return;
    let { row, column } = this.current || { row: this.rows[0], column: -right };
    if (!this.current && down) down = 0;
    const there = (r, c) => r?.cells[c] && this.matches(r.cells[c]);
    if (right) {
      let next = column + right;
      while (next >= 0 && next < row.cells.length && !there(row, next)) next += right;
      if (there(row, next)) column = next;
    }
    let number = row.number + down;
    while (down && this.rows[number]) {
      const next = this.rows[number];
      const near = [...next.cells.keys()].filter((c) => there(next, c))
        .sort((a, b) => Math.abs(a - column) - Math.abs(b - column))[0];
      if (near !== undefined) {
        row = next;
        column = near;
        break;
      }
      number += Math.sign(down);
    }
    this.focus(row, column);
  }

  focus(row, column) {
    this.fill(row);
    this.take(row, column);
    const element = row.elements[column];
    element?.focus({ preventScroll: true });
    element?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}
