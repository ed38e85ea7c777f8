// Which axis is on rows, which on columns, and one value for every other.
class Arrangement {
  constructor(sweep) {
    this.sweep = sweep;
    const several = (name) => sweep.axis(name) >= 0 && sweep.axes[sweep.axis(name)].values.length > 1;
    // Runs or values of a parameter beside each other are what a person came to compare.
    const compared = sweep.ofKind("parameter", "file");
    const texts = sweep.ofKind("text");
    this.columns = ["run", ...compared, "seed", ...texts].find((name) => several(name)) || "seed";
    const rest = [...texts, "seed", ...compared, ...sweep.sectionAxes];
    this.rows = rest.find((name) => name !== this.columns);
    this.picks = new Map();
  }

  get sectionAxes() {
    return this.sweep.sectionAxes.filter((name) => name !== this.rows && name !== this.columns);
  }

  get picked() {
    const used = [this.rows, this.columns, ...this.sweep.sectionAxes];
    const choices = ({ values, absent }) => values.length - (absent === null ? 0 : 1);
    return this.sweep.names.filter(
      (name) => !used.includes(name) && choices(this.sweep.axes[this.sweep.axis(name)]) > 1,
    );
  }

  put(place, name) {
    const other = place === "rows" ? "columns" : "rows";
    if (this[other] === name) this[other] = this[place];
    this[place] = name;
  }

  pick(name) {
    const { absent } = this.sweep.axes[this.sweep.axis(name)];
    return this.picks.get(name) ?? (absent === 0 ? 1 : 0);
  }

  // The cells by section, row and column, in the order of the axes' values.
  sections() {
    const { sweep } = this;
    const [row, column] = [sweep.axis(this.rows), sweep.axis(this.columns)];
    const fixed = this.sectionAxes.map((name) => sweep.axis(name));
    // What has no such parameter stands beside every value of it.
    const picks = this.picked.map((name) => sweep.axis(name))
      .map((axis) => [axis, [this.pick(sweep.names[axis]), sweep.axes[axis].absent]]);
    const sections = new Map();
    for (const cell of sweep.cells) {
      const key = fixed.map((axis) => cell.at[axis]).join(",");
      let section = sections.get(key);
      if (!section) {
        section = { key, cells: new Map(), rows: new Set(), columns: new Set(), first: cell };
        sections.set(key, section);
      }
      section.rows.add(cell.at[row]);
      section.columns.add(cell.at[column]);
      if (picks.every(([axis, fitting]) => fitting.includes(cell.at[axis]))) {
        section.cells.set(`${cell.at[row]},${cell.at[column]}`, cell);
      }
    }
    const order = (set) => [...set].sort((a, b) => a - b);
    return [...sections.values()].map((section) => ({
      key: section.key,
      first: section.first,
      axes: this.sectionAxes,
      columns: order(section.columns),
      rows: order(section.rows).map((value) => ({
        value,
        cells: order(section.columns).map((other) => section.cells.get(`${value},${other}`)),
      })),
    }));
  }
}
