// Favourites and rejects: kept in the browser by run name and job id, exported and taken in.

const MARKS = { favourite: "★", reject: "✕" };

class Marks {
  constructor(sweep) {
    this.sweep = sweep;
    this.key = `sweep-marks:${sweep.data.runs.map((run) => run.name).join("+")}`;
    this.listeners = [];
    let kept = {};
    try {
      kept = JSON.parse(memory.get(this.key) || "{}");
    } catch { /* of another version: begin anew */ }
    this.marks = new Map(Object.entries(kept).filter(([, mark]) => mark in MARKS));
  }

  of(cell) {
    return this.marks.get(cell.key) || null;
  }

  count(mark) {
    return this.sweep.cells.filter((cell) => this.of(cell) === mark).length;
  }

  // Set a mark, or take it back where it is set already.
  toggle(cell, mark) {
    if (this.of(cell) === mark) this.marks.delete(cell.key);
    else this.marks.set(cell.key, mark);
    this.keep(cell);
  }

  keep(cell) {
    memory.set(this.key, JSON.stringify(Object.fromEntries(this.marks)));
    this.listeners.forEach((listener) => listener(cell));
  }

  // What a text is called in a table.
  get texts() {
    return this.sweep.ofKind("text").slice(0, 1).map((name) => `${name}_text`);
  }

  rows() {
    return this.sweep.cells.filter((cell) => this.of(cell)).map((cell) => {
      const row = { mark: this.of(cell), run: this.sweep.data.runs[cell.run].name, job: cell.id };
      this.sweep.names.forEach((name) => { row[name] = this.sweep.value(cell, name); });
      this.texts.forEach((name) => { row[name] = this.sweep.text(cell); });
      return { ...row, video_file: cell.video || null };
    });
  }

  toJson() {
    return `${JSON.stringify({ schema: 1, marks: this.rows() }, null, 2)}\n`;
  }

  toCsv() {
    const rows = this.rows();
    const names = ["mark", "run", "job", ...this.sweep.names, ...this.texts, "video_file"];
    const unique = [...new Set(names)];
    const field = (value) => {
      const text = value === null || value === undefined ? ""
        : typeof value === "string" ? asText(value) : JSON.stringify(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [unique, ...rows.map((row) => unique.map((name) => row[name]))];
    return lines.map((line) => `${line.map(field).join(",")}\r\n`).join("");
  }

  // Take in what another browser has exported; returns how many marks of this sweep it had.
  takeIn(text) {
    const known = new Map(this.sweep.cells.map((cell) => [cell.key, cell]));
    const { marks } = JSON.parse(text);
    let number = 0;
    for (const { run, job, mark } of marks) {
      if (known.has(`${run}/${job}`) && mark in MARKS) {
        this.marks.set(`${run}/${job}`, mark);
        number += 1;
      }
    }
    this.keep(null);
    return number;
  }
}

// A cell's text, with an apostrophe before what a spreadsheet would take for a formula.
function asText(value) {
  const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value);
  const isFormula = /^[\s\u200b-\u200f\u2060]*[=+\-@＝＋－＠﹦﹢﹣﹫]|^[\t\r\n]/.test(value);
  return isFormula && !isNumber ? `'${value}` : value;
}

function download(name, type, text) {
  // A mark at the start tells a spreadsheet that the text is UTF-8.
  const start = type === "text/csv" ? "\ufeff" : "";
  const url = URL.createObjectURL(new Blob([start, text], { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
