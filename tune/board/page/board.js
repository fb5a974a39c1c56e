"use strict";
// Follows studies: asks the server what has changed, keeps it, and draws what is asked for. All text is set as text.
const ROWS = 100, LINES = 30, EVERY_MS = 1000, HIDDEN_MS = 10000, FAILED_MS = 3000;
const FIXED = ["trial", "score", "epochs", "rung", "state"];

let chosen = Number(location.hash.slice(1)) || 0;  // place of the study on the command line
let asking = 0;

function nothing() {
  return { version: "", trials: new Map(), bars: [], log: [], rows: new Map(), paths: new Map(), boxes: [] };
}

function html(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4))) : String(value);
}

// ---- asking

async function ask() {
  const mine = ++asking;
  let again = FAILED_MS;
  try {
    const asked = `studies?chosen=${chosen}&since=${encodeURIComponent(data.version)}`;
    const response = await fetch(asked).catch(() => undefined);
    if (mine !== asking) return;
    if (!response) return problem("The board's server does not answer. Was it ended?");
    if (response.status === 404 && chosen) return choose(0);  // an address kept from another board
    if (!response.ok) return problem(await response.text());
    const answer = await response.json();
    if (mine !== asking) return;
    take(answer);
    again = document.hidden ? HIDDEN_MS : EVERY_MS;
  } finally {
    setTimeout(() => mine === asking && ask(), again);
  }
}

function problem(text) {
  byId("problem").hidden = !text;
  setText(byId("problem"), text);
}

function choose(place) {
  chosen = place;
  history.replaceState(null, "", `#${place}`);
  data = nothing();
  story.close();
  curves.chart.marks.replaceChildren();
  timeline.chart.marks.replaceChildren();
  ask();
}

function take({ studies, changes }) {
  if (changes.full) {
    const { sort } = data;
    data = nothing();
    if (sort && sort.study === chosen) data.sort = sort;
    curves.chart.marks.replaceChildren();
    timeline.chart.marks.replaceChildren();
  }
  const fresh = changes.full || changes.trials.length > 0 || data.study?.best !== studies[chosen].best;
  data.study = studies[chosen];
  data.changes = changes;
  data.version = changes.version;
  for (const trial of changes.trials) {
    trial.text = [trial.label, trial.state, ...Object.entries(trial.values).flat(), trial.why].join(" ").toLowerCase();
    trial.fresh = true;
    data.trials.set(trial.number, trial);
  }
  for (const bar of changes.timeline) data.bars[bar[0]] = bar;
  if (!data.sort) data.sort = { key: "score", down: changes.mode === "max", study: chosen };
  drawHead(studies);
  if (fresh) { table.draw(); curves.draw(); }
  if (changes.full || changes.log.length) { data.log.push(...changes.log.map(logLine)); log.draw(); }
  if (changes.full || changes.timeline.length || data.study.status === "running") timeline.draw();
  if (changes.trials.some(trial => trial.number === story.number)) story.load();
}

// ---- head

function drawHead(studies) {
  const study = data.study, nav = byId("studies");
  problem(study.problem);
  document.title = `${study.name} · emotune board`;
  setText(byId("name"), study.name);
  nav.hidden = studies.length < 2;
  studies.forEach((one, place) => {
    const button = nav.children[place] || nav.appendChild(html("button", { type: "button", onclick: () => choose(place) }));
    const best = one.score === null ? "" : `, best ${one.score.toFixed(4)}`;
    setText(button, `${one.name}: ${one.status}, ${one.ended} of ${one.expected}${best}`);
    button.title = one.location;
    button.setAttribute("aria-pressed", String(place === chosen));
  });
  const best = study.best === null ? "No trial has a score yet." :
    `Trial ${study.best} is the best${study.seeds ? " that was confirmed" : " so far"}: ${data.changes.objective} ` +
    `${study.score.toFixed(4)}${study.seeds ? `, the mean of ${study.seeds} fresh seeds` : ""}.`;
  setText(byId("status"), `${study.status[0].toUpperCase()}${study.status.slice(1)}. ${best}`);
  const facts = {
    Trials: `${study.ended} of ${study.expected} ended`, "Which are": study.counts,
    [study.status === "running" ? "This session" : "Searched"]: study.time,
    "Still to go": study.left || "–", Spent: study.spent, Lies: study.location,
  };
  byId("facts").replaceChildren(...Object.entries(facts).map(([name, value]) =>
    html("div", {}, html("dt", { textContent: name }), html("dd", { textContent: value }))));
}

// ---- trials

const table = {
  shown: ROWS, order: "",
  columns() { return [...FIXED, ...data.changes.parameters, "why"]; },
  value(trial, key) {
    const found = key === "trial" ? trial.number : key in trial && key !== "values" ? trial[key] : trial.values[key];
    return found === undefined || found === "" ? null : found;
  },
  sorted() {
    const words = byId("trial-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const { key, down } = data.sort;
    const found = [...data.trials.values()].filter(trial => words.every(word => trial.text.includes(word)));
    const keyed = found.map(trial => [this.value(trial, key), trial]);
    keyed.sort(([a, x], [b, y]) => {
      if (a === null || b === null) return (a === null) - (b === null) || x.number - y.number;
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      return (down ? -order : order) || x.number - y.number;
    });
    return keyed.map(([, trial]) => trial);
  },
  head() {
    const row = byId("trials").tHead.rows[0], columns = this.columns();
    if (row.dataset.columns !== columns.join("\n")) {
      row.dataset.columns = columns.join("\n");
      data.rows.clear();
      row.replaceChildren(...columns.map(key => html("th", { scope: "col" }, html("button", {
        type: "button", textContent: key === "why" ? "why it ended" : key, onclick: () => this.sortBy(key),
      }))));
    }
    columns.forEach((key, i) => {
      if (key === data.sort.key) row.cells[i].setAttribute("aria-sort", data.sort.down ? "descending" : "ascending");
      else row.cells[i].removeAttribute("aria-sort");
    });
  },
  sortBy(key) {
    const first = key === "score" && data.changes.mode === "max";
    data.sort = { key, down: data.sort.key === key ? !data.sort.down : first, study: chosen };
    this.draw();
  },
  row(trial) {
    const known = data.rows.get(trial.number);
    if (known && !trial.fresh) return known;
    trial.fresh = false;  // drawn as it is now
    const cells = this.columns().map(key => {
      const cell = html("td", { textContent: number(this.value(trial, key)) });
      if (key === "state") cell.className = `state ${trial.state}`;
      if (key === "why") cell.className = "why";
      if (key === "trial") cell.replaceChildren(html("button", {
        type: "button", className: "open", textContent: trial.label.replace(/^trial /, ""),
        ariaLabel: `${trial.label}: its story`, onclick: () => story.open(trial.number),
      }));
      return cell;
    });
    const row = known || html("tr");
    const focused = row.contains(document.activeElement);
    row.replaceChildren(...cells);
    row.classList.toggle("chosen", trial.number === story.number);
    if (focused) row.querySelector("button").focus();
    data.rows.set(trial.number, row);
    return row;
  },
  draw() {
    this.head();
    const found = this.sorted(), body = byId("trials").tBodies[0], active = document.activeElement;
    const rows = found.slice(0, this.shown).map(trial => this.row(trial));
    if (rows.length !== body.rows.length || rows.some((row, i) => row !== body.rows[i])) {
      body.replaceChildren(...rows);
      if (body.contains(active)) active.focus({ preventScroll: true });
    }
    setText(byId("trial-count"), `${found.length} of ${data.trials.size}`);
    more(byId("more-trials"), found.length - this.shown, "trials");
  },
};

function more(button, left, what) {
  button.hidden = left <= 0;
  setText(button, `Show ${left} more ${what}`);
}

// ---- a trial's story

const story = {
  async open(key) {
    this.number = key;
    await this.load();
    this.mark();
    byId("story").hidden = false;
    byId("story-title").focus();
    byId("story").scrollIntoView({ block: "nearest" });
  },
  async load() {
    const key = this.number;
    const response = await fetch(`studies/${chosen}/trials/${key}`).catch(() => undefined);
    if (!response || !response.ok || key !== this.number) return;
    const { label, lines } = await response.json();
    setText(byId("story-title"), `${label[0].toUpperCase()}${label.slice(1)}`);
    byId("story-lines").replaceChildren(...lines.map(line => html("li", { textContent: line })));
  },
  mark() {
    for (const [key, row] of data.rows) row.classList.toggle("chosen", key === this.number);
    if (data.study) { curves.draw(); timeline.draw(); }
  },
  close() {
    this.number = undefined;
    byId("story").hidden = true;
    this.mark();
  },
};

// ---- decisions

function logLine([time, kind, , text]) {
  return { when: new Date(time * 1000), text, searched: `${kind} ${text}`.toLowerCase() };
}

const log = {
  shown: LINES,
  draw() {
    const words = byId("log-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.log.filter(line => words.every(word => line.searched.includes(word))).reverse();
    byId("log").replaceChildren(...found.slice(0, this.shown).map(({ when, text }) => html("li", {},
      html("time", { dateTime: when.toISOString(), textContent: when.toLocaleTimeString(), title: when.toLocaleString() }),
      text)));
    setText(byId("log-count"), `${found.length} of ${data.log.length}, the latest first`);
    more(byId("more-log"), found.length - this.shown, "decisions");
  },
};

byId("trial-filter").addEventListener("input", () => data.study && table.draw());
byId("log-filter").addEventListener("input", () => data.study && log.draw());
byId("more-trials").addEventListener("click", () => { table.shown += 1000; table.draw(); });
byId("more-log").addEventListener("click", () => { log.shown += 1000; log.draw(); });
byId("close-story").addEventListener("click", () => story.close());
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });

data = nothing();
ask();
