// The toolbar: axes, pickers and filters; and the transport at the foot of the page.

function choice(label, options, value, onchange) {
  const select = el("select", { "aria-label": label, onchange: () => onchange(select.value) },
    options.map(([key, text]) => el("option", { value: key, selected: String(key) === String(value) },
      text)));
  return el("label", { class: "choice" }, el("span", {}, label), select);
}

class Toolbar {
  constructor(sweep, marks, grid, host, onChange) {
    Object.assign(this, { sweep, marks, grid, host, onChange });
    this.category = "";
    this.words = "";
    this.states = new Set();
    this.mark = "";
    this.search = el("input", {
      type: "search", placeholder: "text, name, error …  ( / )", "aria-label": "filter by text",
      oninput: () => {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => { this.words = this.search.value; this.changed(); }, 120);
      },
    });
    marks.listeners.push(() => this.showMarkCounts());
  }

  build() {
    const { sweep } = this;
    const { arrangement } = this.grid;
    const several = sweep.axes.filter((axis) => axis.values.length > 1 || axis.kind === "text"
      || axis.kind === "seed").map((axis) => [axis.name, axis.name]);
    const place = (where) => choice(where, several, arrangement[where], (name) => {
      arrangement.put(where, name);
      this.build();
      this.onChange(true);
    });
    const pickers = arrangement.picked.map((name) => {
      const axis = sweep.axis(name);
      const options = sweep.axes[axis].values.map((_, n) => [n, sweep.valueLabel(axis, n)])
        .filter(([n]) => n !== sweep.axes[axis].absent);
      return choice(name, options, arrangement.pick(name), (index) => {
        arrangement.picks.set(name, Number(index));
        this.onChange();
      });
    });
    const categories = sweep.axes[sweep.axis("category")].values;
    this.chips = [];
    this.chipGroup = el("div", { class: "group", role: "group", "aria-label": "filter by state" });
    this.showCounts();
    this.markChips = Object.keys(MARKS).map((mark) => el("button", {
      type: "button", class: "chip", "data-mark": mark, "aria-pressed": String(this.mark === mark),
      title: `only ${mark}s`,
      onclick: () => {
        this.mark = this.mark === mark ? "" : mark;
        this.changed();
        this.build();
      },
    }));
    const isTyping = document.activeElement === this.search;
    this.host.replaceChildren(
      el("div", { class: "group" }, place("rows"), place("columns"), pickers),
      el("div", { class: "group grow" },
        categories.length > 1
          ? choice("category", [["", "all categories"], ...categories.map((c) => [c, c])],
            this.category, (value) => { this.category = value; this.changed(); })
          : null,
        this.search),
      this.chipGroup,
      el("div", { class: "group", role: "group", "aria-label": "marks" }, this.markChips,
        el("details", { class: "menu" }, el("summary", {}, "marks"),
          el("div", {},
            el("button", { type: "button", onclick: () => this.export("json") }, "export as JSON"),
            el("button", { type: "button", onclick: () => this.export("csv") }, "export as CSV"),
            el("label", { class: "file" }, "take in …", el("input", {
              type: "file", accept: ".json", onchange: (event) => this.takeIn(event.target),
            }))))),
    );
    this.showMarkCounts();
    if (isTyping) this.search.focus();
  }

  // How many cells are in each state; the buttons stay those that they were where they can, for a
  // hand may be on one while a sweep is made.
  showCounts() {
    const counts = {};
    for (const cell of this.sweep.cells) counts[cell.state] = (counts[cell.state] || 0) + 1;
    const there = STATES.filter((state) => counts[state] || this.states.has(state));
    if (there.join() !== this.chips.map((chip) => chip.dataset.state).join()) {
      this.chips = there.map((state) => el("button", {
        type: "button", class: "chip", "data-state": state,
        "aria-pressed": String(this.states.has(state)),
        onclick: () => this.toggleState(state),
      }, `${STATE_WORDS[state]} `, el("span", {})));
      this.chipGroup.replaceChildren(...this.chips);
    }
    this.chips.forEach((chip) => {
      chip.lastChild.textContent = String(counts[chip.dataset.state] || 0);
    });
  }

  toggleState(state) {
    if (!this.states.delete(state)) this.states.add(state);
    this.chips.forEach((chip) => chip.setAttribute(
      "aria-pressed", String(this.states.has(chip.dataset.state))));
    this.changed();
  }

  showMarkCounts() {
    this.markChips?.forEach((chip) => {
      const { mark } = chip.dataset;
      chip.textContent = `${MARKS[mark]} ${this.marks.count(mark)}`;
      chip.setAttribute("aria-label", plural(this.marks.count(mark), mark));
    });
  }

  changed() {
    this.grid.matches = this.filter();
    this.onChange();
  }

  filter() {
    const words = this.words.toLowerCase().split(/\s+/).filter(Boolean);
    const { sweep } = this;
    const said = (cell) => [sweep.label(cell), sweep.text(cell), cell.reason || "", cell.id]
      .join("\n").toLowerCase();
    return (cell) => (!this.category || sweep.value(cell, "category") === this.category)
      && (!this.states.size || this.states.has(cell.state))
      && (!this.mark || this.marks.of(cell) === this.mark)
      && (!words.length || ((text) => words.every((word) => text.includes(word)))(said(cell)));
  }

  export(kind) {
    const name = `${this.sweep.data.title.replaceAll(/[^\p{L}\p{N}_-]+/gu, "_")}_marks.${kind}`;
    if (kind === "json") download(name, "application/json", this.marks.toJson());
    else download(name, "text/csv", this.marks.toCsv());
  }

  async takeIn(input) {
    const [file] = input.files;
    if (!file) return;
    let said;
    try {
      said = `${plural(this.marks.takeIn(await file.text()), "mark")} taken in`;
    } catch {
      said = `${file.name} holds no marks of a sweep`;
    }
    announce(said);
    input.value = "";
  }
}

function announce(text) {
  document.getElementById("said").textContent = text;
}

class Transport {
  constructor(player, grid, host) {
    Object.assign(this, { player, grid, host });
    this.button = el("button", { type: "button", class: "big", onclick: () => this.toggle() });
    this.bar = el("input", {
      type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": "frame",
      oninput: () => {
        if (!player.scope) player.setScope(grid.pageScope());
        player.scrub((Number(this.bar.value) + 0.5) / player.fps);
      },
    });
    this.clock = el("output", { class: "clock" });
    this.loop = el("button", {
      type: "button", title: "loop (l)", "aria-label": "loop", onclick: () => this.toggleLoop(),
    }, "⟳");
    this.rate = el("select", {
      "aria-label": "speed", onchange: () => player.setRate(Number(this.rate.value)),
    }, [0.25, 0.5, 1, 1.5, 2].map((rate) => el("option", { value: rate, selected: rate === 1 },
      `${rate} ×`)));
    this.what = el("span", { class: "what" });
    host.replaceChildren(this.button, this.bar, this.clock, this.loop, this.rate, this.what);
    player.listeners.push(() => this.show());
    this.show();
  }

  toggle() {
    const { player } = this;
    if (player.playing) player.pause();
    else player.play(player.scope || this.grid.pageScope());
  }

  toggleLoop() {
    this.player.loop = !this.player.loop;
    this.show();
  }

  show() {
    const { player } = this;
    const { fps, seconds } = player;
    const frames = Math.max(1, Math.round(seconds * fps));
    const frame = Math.min(frames - 1, Math.floor(player.time * fps + 1e-3));
    const label = player.playing ? "pause" : "play all in the window in step";
    if (this.button.getAttribute("aria-label") !== label) {
      this.button.textContent = player.playing ? "❚❚" : "▶";
      this.button.setAttribute("aria-label", label);
      this.button.title = `${label} (space)`;
    }
    this.bar.max = frames - 1;
    if (document.activeElement !== this.bar || player.playing) this.bar.value = frame;
    this.bar.setAttribute("aria-valuetext", `frame ${frame + 1} of ${frames}`);
    const text = seconds
      ? `${player.time.toFixed(2)} / ${seconds.toFixed(2)} s · ${frame + 1}/${frames}` : "";
    if (this.clock.textContent !== text) this.clock.textContent = text;
    this.loop.setAttribute("aria-pressed", String(player.loop));
    const playing = player.clips.filter((clip) => clip.video).length;
    const what = player.scope ? `${plural(playing, "video")} in step` : "";
    if (this.what.textContent !== what) this.what.textContent = what;
    const name = player.playing && player.scope ? player.scope.name : null;
    if (name !== this.shownName) {
      this.shownName = name;
      document.querySelectorAll("button.play").forEach((button) => {
        const isOn = button.dataset.scope === name;
        button.textContent = isOn ? "❚❚" : "▶";
        button.classList.toggle("on", isOn);
      });
    }
  }
}

// What hovers beside a cell or a bar: its prompt, its seed, its reason.
class Tip {
  constructor(host) {
    this.host = host;
  }

  hide() {
    clearTimeout(this.timer);
    this.host.hidden = true;
  }

  showAt(x, y, children) {
    this.host.replaceChildren(...children);
    this.host.hidden = false;
    const { width, height } = this.host.getBoundingClientRect();
    this.host.style.left = `${Math.max(8, Math.min(x + 12, innerWidth - width - 8))}px`;
    this.host.style.top = `${y + 16 + height > innerHeight - 60 ? y - height - 12 : y + 16}px`;
  }

  showBy(element, children) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (!element.isConnected) return;
      const box = element.getBoundingClientRect();
      this.showAt(box.left - 12, box.bottom - 10, children());
    }, 150);
  }
}
