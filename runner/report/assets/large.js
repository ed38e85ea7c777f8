// The large view: an output beside its reference, the whole record, and what was tried.

class LargeView {
  constructor(sweep, marks, player, dialog, transport) {
    Object.assign(this, { sweep, marks, player, dialog, transport });
    this.home = transport.parentNode;
    this.cell = null;
    this.wide = false; // Whether the whole row is shown.
    this.clips = [];
    this.onMove = () => {};
    dialog.addEventListener("close", () => this.closed());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    marks.listeners.push(() => { if (this.cell) this.showMarks(); });
  }

  get isOpen() {
    return this.dialog.open;
  }

  open(cell, row) {
    this.player.forget(this.clips);
    this.cell = cell;
    this.row = row;
    const label = this.sweep.label(cell);
    this.clips = [];
    const shown = this.wide ? row.cells.filter(Boolean) : [cell];
    const pictures = [this.reference(cell), ...shown.map((one) => this.output(one))].filter(Boolean);
    this.markButtons = Object.keys(MARKS).map((mark) => el("button", {
      type: "button", "data-mark": mark, title: `${mark} (${mark === "favourite" ? "f" : "x"})`,
      onclick: () => this.marks.toggle(this.cell, mark),
    }, `${MARKS[mark]} ${mark}`));
    this.dialog.setAttribute("aria-label", label);
    this.dialog.replaceChildren(...[
      el("header", { class: "largehead" },
        el("h2", {}, label),
        el("span", { class: "state", "data-state": cell.state }, STATE_WORDS[cell.state]),
        this.markButtons,
        el("button", {
          type: "button", "aria-pressed": String(this.wide), title: "the whole row (r)",
          onclick: () => this.toggleRow(),
        }, "row"),
        el("button", {
          type: "button", title: "the one before (←)", "aria-label": "the one before",
          onclick: () => this.onMove(0, -1),
        }, "←"),
        el("button", {
          type: "button", title: "the next (→)", "aria-label": "the next",
          onclick: () => this.onMove(0, 1),
        }, "→"),
        el("button", { type: "button", "aria-label": "close", onclick: () => this.dialog.close() },
          "✕")),
      el("div", { class: "pictures" }, pictures),
      cell.reason ? el("p", { class: "reason", "data-state": cell.state }, cell.reason) : null,
      cell.state === "failed" ? el("p", { class: "quiet" }, "its whole story: ",
        el("code", {}, `sweep explain ${this.sweep.data.runs[cell.run].folder} ${cell.id}`)) : null,
      el("blockquote", {}, this.sweep.text(cell)),
      this.attempts(cell),
      this.record(cell),
      // A modal dialog alone can be clicked, so what plays its videos is in it while it is open.
      this.transport,
    ].filter(Boolean));
    this.showMarks();
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
    const clips = this.clips;
    this.player.setScope({ name: `large ${cell.key} ${this.wide}`, clips: () => clips });
    this.player.seek(this.player.time);
    this.player.tell();
  }

  toggleRow() {
    this.wide = !this.wide;
    this.open(this.cell, this.row);
  }

  figure(caption, url, poster, cell, missing) {
    const { width, height, frames, fps } = this.sweep.shape(cell);
    const frame = el("div", { class: "frame" });
    if (width && height) frame.style.aspectRatio = `${width} / ${height}`;
    if (url) {
      this.clips.push(new Clip(frame, {
        url, poster, label: caption, fps, seconds: fps ? frames / fps : 0,
      }));
    } else {
      frame.append(el("div", { class: "why" }, missing));
    }
    return el("figure", {}, frame, el("figcaption", {}, caption));
  }

  reference(cell) {
    const own = this.sweep.reference(cell);
    if (!own) return null;
    const { url, path, problem } = own;
    return this.figure(`reference · ${path}`, url, null, cell, problem || "no clip");
  }

  output(cell) {
    const url = this.sweep.largeUrl(cell);
    const why = [STATE_WORDS[cell.state], cell.reason].filter(Boolean).join(": ");
    const caption = this.wide ? this.sweep.label(cell) : decodeURIComponent(cell.video || "output");
    return this.figure(caption, url, this.sweep.poster(cell), cell, why);
  }

  showMarks() {
    const mark = this.marks.of(this.cell);
    for (const button of this.markButtons) {
      button.setAttribute("aria-pressed", String(button.dataset.mark === mark));
    }
  }

  attempts(cell) {
    if (!cell.attempts) return null;
    const rows = cell.attempts.map(([outcome, worker, start, seconds, error, kind]) => el("tr", {},
      el("td", {}, outcome), el("td", {}, worker),
      el("td", {}, start ? new Date(start * 1000).toLocaleString() : ""),
      el("td", { class: "number" }, duration(seconds)),
      el("td", {}, error && kind && error.startsWith(kind) ? error
        : [kind?.replaceAll("_", " "), error].filter(Boolean).join(" · "))));
    const heads = ["outcome", "worker", "started", "took", "reason"];
    return el("section", {}, el("h3", {}, plural(cell.attempts.length, "attempt")),
      el("div", { class: "scroll" }, el("table", { class: "attempts" },
        el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, rows))));
  }

  record(cell) {
    return el("section", { class: "record" }, el("h3", {}, cell.made ? "record" : "as planned"),
      this.values(this.sweep.record(cell)));
  }

  values(value) {
    if (Array.isArray(value)) return el("span", {}, JSON.stringify(value));
    if (value && typeof value === "object") {
      return el("dl", {}, Object.entries(value).flatMap(([key, inner]) => [
        el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, this.shown(key, inner))]));
    }
    return el("span", {}, String(value ?? "–"));
  }

  shown(key, value) {
    if (key.endsWith("_at") && typeof value === "number") {
      return new Date(value * 1000).toLocaleString();
    }
    return this.values(value);
  }

  closed() {
    this.player.forget(this.clips);
    this.player.pause();
    this.player.scope = null;
    this.clips = [];
    this.cell = null;
    this.home.append(this.transport);
    this.dialog.replaceChildren();
    this.onClose?.();
  }
}
