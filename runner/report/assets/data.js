// The page's data: the sweep's cells, their places on the axes, and how each is called.

const STATES = ["done", "running", "pending", "failed", "stale"];
const STATE_WORDS = {
  done: "done", running: "running", pending: "missing", failed: "failed", stale: "stale",
};

class Sweep {
  constructor(data) {
    this.data = data;
    this.axes = data.axes;
    this.cells = data.cells;
    this.names = data.axes.map((axis) => axis.name);
    // Each of these has a section of its own; the last one's items are what is shown beside it.
    this.sectionAxes = this.ofKind("category", "leading");
    [this.leading] = this.ofKind("leading");
    this.cells.forEach((cell, number) => {
      cell.number = number;
      cell.key = `${data.runs[cell.run].name}/${cell.id}`;
      if (cell.retry_at) cell.reason += `; its next attempt not before ${moment(cell.retry_at)}`;
    });
  }

  // The axes of these kinds: category, leading, file, text, seed, parameter, run.
  ofKind(...kinds) {
    return this.data.axes.filter((axis) => kinds.includes(axis.kind)).map((axis) => axis.name);
  }

  axis(name) {
    return this.names.indexOf(name);
  }

  value(cell, name) {
    const axis = this.axis(name);
    return axis < 0 ? undefined : this.axes[axis].values[cell.at[axis]];
  }

  text(cell) {
    return this.data.shared[cell.text];
  }

  // {width, height, frames, fps}; of a range of frames the most.
  shape(cell) {
    const { width, height, num_frames: frames, fps } = this.data.shared[cell.shape];
    return { width, height, frames: Array.isArray(frames) ? frames[1] : frames, fps };
  }

  // The clip that it was made from; null where it was made from none.
  reference(cell) {
    const own = this.data.references[cell.reference];
    return own ? { ...own, url: own.clip && this.data.assets + own.clip } : null;
  }

  url(cell) {
    return cell.video ? this.data.runs[cell.run].base + cell.video : null;
  }

  // The video that the grid plays: the small one where there is one.
  gridUrl(cell) {
    return cell.preview ? this.data.assets + cell.preview : this.url(cell);
  }

  largeUrl(cell) {
    return this.url(cell) || this.gridUrl(cell);
  }

  poster(cell) {
    return cell.poster ? this.data.assets + cell.poster : null;
  }

  // The sidecar as an object; where there is no video, the job as it is planned.
  record(cell) {
    const [keys, ...values] = cell.record;
    const whole = {};
    this.data.record_keys[keys].forEach((key, n) => {
      const value = values[n];
      whole[key] = Array.isArray(value) ? this.data.shared[value[0]] : value;
    });
    return whole;
  }

  // "seed 42", "prompt 0", "denoising_strength 0.7", and plainly a category's or a video's name.
  valueLabel(axis, index) {
    const { name, kind, values, absent } = this.axes[axis];
    if (index === absent) return `no ${name}`;
    const value = values[index];
    const text = typeof value === "string" ? value : JSON.stringify(value);
    const isName = kind === "run" || (this.sectionAxes.includes(name) && typeof value === "string");
    return isName ? text : `${name} ${text}`;
  }

  label(cell) {
    return cell.at.map((index, axis) => this.valueLabel(axis, index)).join(", ");
  }
}

// An element with attributes, listeners (on...) and children; a text child is text, whatever it
// says. There is no other way in this page from data to an element.
function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "line", "text", "title"].includes(tag);
  const element = svg && tag !== "title"
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

// Unix seconds as the reader's clock shows them.
function moment(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
}

function plural(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

// Texts a browser keeps for this page; where it keeps nothing (a private window), for this visit.
const memory = (() => {
  const here = new Map();
  return {
    get(key) {
      try {
        return localStorage.getItem(key) ?? here.get(key) ?? null;
      } catch {
        return here.get(key) ?? null;
      }
    },
    set(key, value) {
      here.set(key, value);
      try {
        localStorage.setItem(key, value);
      } catch { /* kept above */ }
    },
  };
})();
