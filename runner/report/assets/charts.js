// Charts drawn by hand in SVG: bars, a timeline, a histogram.

function path(rects) {
  return rects.map(([x, y, width, height]) => {
    const w = Math.max(width, 0.6);
    return `M${x.toFixed(2)} ${y}h${w.toFixed(2)}v${height}h${(-w).toFixed(2)}z`;
  }).join("");
}

// Round numbers that cut a range of seconds into some five parts.
function ticks(most, wanted = 5) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
    14400, 21600, 43200, 86400];
  const step = steps.find((one) => most / one <= wanted) || Math.ceil(most / wanted / 86400) * 86400;
  const found = [];
  for (let at = 0; at <= most * 1.0001; at += step) found.push(Number(at.toFixed(6)));
  return found;
}

function shortTime(seconds) {
  if (seconds === 0) return "0";
  if (seconds < 60) return `${+seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${+(seconds / 60).toFixed(1)} min`;
  return `${+(seconds / 3600).toFixed(2)} h`;
}

// For every attempt of an effort which one at its job it was, from 1; 0 where the job is gone.
const turnsOf = new WeakMap();

function turns(effort) {
  if (!turnsOf.has(effort)) turnsOf.set(effort, countTurns(effort));
  return turnsOf.get(effort);
}

function countTurns(effort) {
  const order = effort.attempts.map((_, n) => n)
    .sort((a, b) => effort.attempts[a][1] - effort.attempts[b][1]);
  const seen = new Map();
  const found = new Array(order.length).fill(0);
  for (const n of order) {
    const cell = effort.attempts[n][5];
    if (cell === null) continue;
    seen.set(cell, (seen.get(cell) || 0) + 1);
    found[n] = seen.get(cell);
  }
  return found;
}

// Every attempt of every worker on one line each: what ran when, and how it ended.
function timeline(effort, onPick) {
  const [left, line, bar] = [118, 20, 11];
  const width = 1000;
  const height = effort.workers.length * line + 22;
  const most = Math.max(1e-3, ...effort.attempts.map(([, start, took]) => start + took));
  const x = (seconds) => left + ((width - left - 4) * seconds) / most;
  const svg = el("svg", {
    viewBox: `0 0 ${width} ${height}`, class: "timeline", role: "img",
    "aria-label": `What ${plural(effort.workers.length, "worker")} did over ${duration(most)}`,
  });
  for (const at of ticks(most)) {
    svg.append(el("line", { class: "rule", x1: x(at), x2: x(at), y1: 0, y2: height - 18 }),
      el("text", { class: "tick", x: x(at), y: height - 5, "text-anchor": at ? "middle" : "start" },
        shortTime(at)));
  }
  const drawn = {};
  const turn = turns(effort);
  for (const [n, [worker, start, took, device, outcome]] of effort.attempts.entries()) {
    const y = worker * line + 6;
    if (turn[n] > 1) (drawn.again ||= []).push([x(start), y - 5, 4, 4]);
    const busy = device === null ? took : Math.min(device, took);
    // However short, what went wrong is seen.
    const least = outcome === "failed" || outcome === "died" ? 3 : 0;
    (drawn[outcome] ||= []).push([x(start), y, Math.max(least, x(start + busy) - x(start)), bar]);
    if (took > busy) {
      (drawn.finish ||= []).push([x(start + busy), y + bar - 3, x(start + took) - x(start + busy), 3]);
    }
  }
  const order = ["finish", "done", "interrupted", "lost_claim", "died", "failed", "again"];
  for (const outcome of order) {
    if (drawn[outcome]) svg.append(el("path", { class: `bar ${outcome}`, d: path(drawn[outcome]) }));
  }
  effort.workers.forEach((name, number) => svg.append(
    el("text", { class: "name", x: left - 8, y: number * line + 15, "text-anchor": "end" }, name)));
  // What is under the pointer: the last to start of those that run there.
  const under = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = width / box.width;
    const worker = Math.floor(((event.clientY - box.top) * scale - 2) / line);
    const seconds = (((event.clientX - box.left) * scale - left) / (width - left - 4)) * most;
    const slack = most / 250;
    return effort.attempts.findLast(([own, start, took]) => own === worker
      && start - slack <= seconds && seconds <= start + took + slack);
  };
  svg.addEventListener("pointermove", (event) => onPick(under(event), event, false));
  svg.addEventListener("pointerleave", (event) => onPick(undefined, event, false));
  svg.addEventListener("click", (event) => onPick(under(event), event, true));
  return svg;
}

// How many of some values lie in each of about twenty equal parts of their range.
function histogram(values, label) {
  const [width, height, foot] = [460, 150, 20];
  const sorted = [...values].sort((a, b) => a - b);
  const [least, most] = [sorted[0], sorted.at(-1)];
  const parts = Math.max(1, Math.min(24, Math.ceil(Math.sqrt(values.length) * 2)));
  const size = (most - least) / parts || 1;
  const counts = new Array(parts).fill(0);
  for (const value of values) counts[Math.min(parts - 1, Math.floor((value - least) / size))] += 1;
  const top = Math.max(...counts);
  const step = (width - 2) / parts;
  const bars = counts.map((count, n) => [n * step + 1, height - foot - ((height - foot - 14) * count) / top,
    step - 1.5, ((height - foot - 14) * count) / top]).filter(([, , , h]) => h > 0);
  const median = sorted[Math.floor(sorted.length / 2)];
  const at = 1 + ((median - least) / (size * parts)) * (width - 2);
  return el("svg", { viewBox: `0 0 ${width} ${height}`, class: "histogram", role: "img",
    "aria-label": `${label}: from ${duration(least)} to ${duration(most)}, median ${duration(median)}` },
  bars.map(([x, y, w, h]) => el("rect", { class: "bar done", x, y, width: Math.max(w, 1), height: h })),
  el("line", { class: "median", x1: at, x2: at, y1: 12, y2: height - foot }),
  el("text", { class: "tick", x: Math.min(Math.max(at, 40), width - 40), y: 9, "text-anchor": "middle" },
    `median ${shortTime(Number(median.toFixed(2)))}`),
  el("text", { class: "tick", x: 1, y: height - 5 }, shortTime(Number(least.toFixed(2)))),
  el("text", { class: "tick", x: width - 1, y: height - 5, "text-anchor": "end" },
    shortTime(Number(most.toFixed(2)))));
}

// One bar of parts: [number, class] each.
function stacked(parts, total, label) {
  let at = 0;
  const rects = parts.filter(([number]) => number > 0).map(([number, name]) => {
    const width = (1000 * number) / total;
    const rect = el("rect", { class: `bar ${name}`, x: at, y: 0, width, height: 10 });
    at += width;
    return rect;
  });
  return el("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", class: "stacked",
    role: "img", "aria-label": label }, rects);
}
