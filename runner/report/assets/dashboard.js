// The dashboard: how far, who did what when, how busy, how long, and what failed.

class Dashboard {
  constructor(sweep, host, tip, open) {
    Object.assign(this, { sweep, host, tip, open });
  }

  show() {
    const { efforts } = this.sweep.data;
    this.host.replaceChildren(...efforts.flatMap((effort) => this.run(effort, efforts.length > 1)));
  }

  run(effort, isNamed) {
    const failures = new Map();
    for (const [, , , , outcome, , kind] of effort.attempts) {
      if (kind) failures.set(kind, [(failures.get(kind)?.[0] || 0) + 1, outcome]);
    }
    const times = effort.attempts.filter(([, , , , outcome]) => outcome === "done")
      .map(([, , took]) => took);
    return [
      isNamed ? el("h2", { class: "runname" }, effort.name) : null,
      this.numbers(effort, times),
      this.notices(effort),
      this.card("Progress", this.progress(effort)),
      effort.attempts.length
        ? this.card("Workers over time", this.legend(effort), timeline(effort, this.pick.bind(this)))
        : this.card("Workers over time", el("p", { class: "quiet" }, "Nothing has run yet.")),
      el("div", { class: "pair" },
        this.card("Time of a job", times.length ? histogram(times, "seconds a job")
          : el("p", { class: "quiet" }, "No job is done yet.")),
        this.card("GPUs busy", this.busy(effort)),
        this.card("Failures by kind", this.failures(failures))),
    ].filter(Boolean);
  }

  card(title, ...children) {
    return el("section", { class: "card" }, el("h3", {}, title), ...children);
  }

  numbers(effort, times) {
    const { counts, makespan } = effort;
    const mean = times.length ? times.reduce((sum, one) => sum + one, 0) / times.length : null;
    const cell = (value, name) => el("div", {}, el("b", {}, value), el("span", {}, name));
    return el("div", { class: "numbers" },
      cell(`${counts.done} / ${counts.total}`, "videos done"),
      counts.running ? cell(String(counts.running), "running") : null,
      counts.failed ? cell(String(counts.failed), "failed") : null,
      counts.stale ? cell(String(counts.stale), "stale") : null,
      mean === null ? null : cell(duration(mean), "a job, from claim to publication"),
      makespan ? cell(duration(makespan.seconds), "from first claim to last video") : null,
      makespan && makespan.ideal_seconds
        ? cell(`${makespan.ratio.toFixed(2)} ×`, "the ideal") : null,
      this.sweep.data.made_at
        ? cell(new Date(this.sweep.data.made_at * 1000).toLocaleString([], {
          dateStyle: "medium", timeStyle: "short",
        }), "as of") : null,
      effort.eta_seconds ? cell(duration(effort.eta_seconds), "left") : null);
  }

  // What a person should know of the sweep: who takes no more jobs, and what waits for what.
  notices(effort) {
    const because = (reason) => (reason ? `: ${reason}` : "");
    const said = Object.entries(effort.set_aside)
      .map(([name, reason]) => `${name} is set aside${because(reason)}`);
    if (effort.stopped_because) said.push(`stopped${because(effort.stopped_because)}`);
    if (effort.waiting) {
      said.push(`${plural(effort.waiting, "job")} to be tried again`
        + (effort.next_try_at ? `, the next not before ${moment(effort.next_try_at)}` : ""));
    }
    if (effort.stop_at) said.push(`no job that would last beyond ${moment(effort.stop_at)} is begun`);
    if (effort.draining && effort.alive) said.push("stopping: each worker ends after its job");
    if (!said.length) return null;
    return this.card("To know", el("ul", { class: "notices" }, said.map((one) => el("li", {}, one))));
  }

  progress(effort) {
    const rows = Object.entries(effort.categories).map(([name, counts]) => {
      const parts = STATES.filter((state) => state !== "pending").map((s) => [counts[s], s]);
      const said = STATES.filter((s) => counts[s]).map((s) => `${counts[s]} ${STATE_WORDS[s]}`);
      return el("tr", {}, el("th", { scope: "row" }, name),
        el("td", { class: "wide" }, stacked(parts, counts.total, said.join(", "))),
        el("td", { class: "number" }, `${counts.done} / ${counts.total}`),
        el("td", { class: "quiet" }, said.filter((one) => !one.endsWith(" done")).join(", ")));
    });
    return el("table", { class: "progress" }, el("tbody", {}, rows));
  }

  legend(effort) {
    const words = { done: "on the device", finish: "encoding and checking", interrupted: "given back",
      died: "killed or died", failed: "failed", lost_claim: "claim lost",
      again: "a job's further attempt begins" };
    const there = new Set(effort.attempts.map(([, , , , outcome]) => outcome));
    there.add("finish");
    if (turns(effort).some((turn) => turn > 1)) there.add("again");
    return el("p", { class: "legend" }, Object.entries(words).filter(([key]) => there.has(key))
      .map(([key, word]) => el("span", {}, el("i", { class: `swatch ${key}` }), word)));
  }

  busy(effort) {
    const shares = Object.entries(effort.busy);
    if (!shares.length) return el("p", { class: "quiet" }, "Not known for this launch.");
    return el("table", { class: "progress" }, el("tbody", {}, shares.map(([gpu, share]) => el("tr", {},
      el("th", { scope: "row" }, `GPU ${gpu}`),
      el("td", { class: "wide" }, stacked([[share, "done"]], 1, `${Math.round(100 * share)} % busy`)),
      el("td", { class: "number" }, `${Math.round(100 * share)} %`)))));
  }

  failures(failures) {
    if (!failures.size) return el("p", { class: "quiet" }, "None.");
    const most = Math.max(...[...failures.values()].map(([number]) => number));
    const sorted = [...failures].sort(([, [a]], [, [b]]) => b - a);
    return el("table", { class: "progress" }, el("tbody", {}, sorted.map(([kind, [number, outcome]]) => el(
      "tr", {}, el("th", { scope: "row" }, kind.replaceAll("_", " ")),
      el("td", { class: "wide" }, stacked([[number, outcome]], most, plural(number, "attempt"))),
      el("td", { class: "number" }, String(number))))));
  }

  pick(attempt, event, isClick) {
    if (!attempt) {
      this.tip.hide();
      return;
    }
    const [, start, took, , outcome, number, kind] = attempt;
    const { efforts } = this.sweep.data;
    const effort = efforts.find((one) => one.attempts.includes(attempt));
    const turn = turns(effort)[effort.attempts.indexOf(attempt)];
    const cell = number === null ? null : this.sweep.cells[number];
    if (isClick) {
      if (cell) this.open(cell);
      return;
    }
    this.tip.showAt(event.clientX, event.clientY, [
      el("b", {}, cell ? this.sweep.label(cell) : "a job that is no longer in the sweep"),
      el("span", {}, [outcome, kind, turn > 1 ? `attempt ${turn} at it` : null].filter(Boolean)
        .map((one) => one.replaceAll("_", " ")).join(" · ")),
      el("span", {}, `after ${shortTime(Number(start.toFixed(1)))}, took ${duration(took)}`)]);
  }
}
