"use strict";
// What the board draws of a study: learning curves with rungs and stops, and the runs on their workers.
let data;  // what is known of the chosen study; board.js fills it

const curves = {
  draw() {
    const { rungs, epochs, objective } = data.changes, marks = this.chart.marks;
    let low = Infinity, high = -Infinity;
    for (const trial of data.trials.values()) {
      for (const [, value] of trial.curve) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
      if (trial.drawn === trial.curve) continue;
      trial.drawn = trial.curve;
      let path = "", pen = "M";
      for (const [epoch, value] of trial.curve) {
        if (value === null) { pen = "M"; continue; }
        path += pen + epoch + " " + value;
        pen = "L";
      }
      let known = data.paths.get(trial.number);
      if (!known) data.paths.set(trial.number, known = { line: svgElement("path", {}, marks) });
      known.line.setAttribute("d", path.includes("L") || !path ? path : path + "h0");
      if (trial.stop && trial.stop[1] !== null) {
        known.stop = known.stop || svgElement("path", { class: "stop" }, marks);
        known.stop.setAttribute("d", `M${trial.stop[0]} ${trial.stop[1]}h0`);
      }
    }
    for (const [key, known] of data.paths)
      setClass(known, known.line, `${data.trials.get(key).state}${key === data.study.best ? " best" : ""}` +
        `${key === story.number ? " chosen" : ""}`);
    if (low > high) [low, high] = [0, 1];
    if (low === high) [low, high] = [low - 0.05, high + 0.05];
    const last = Math.max(2, epochs);
    this.chart.fit(320, { low: 1, high: last, ticks: ticks(1, last, 10).filter(Number.isInteger), title: "epoch" },
      { low, high, ticks: ticks(low, high, 6) }, rungs.filter(rung => rung <= last));
    const stopped = [...data.trials.values()].filter(trial => trial.stop).length;
    setText(byId("curves-says"), `${objective} on the selection fold after each epoch, a line a trial; ` +
      `stopped (a dot) at a rung (dashed: ${rungs.join(", ") || "none"}): ${stopped}.`);
  },
  nearest(x, y, per) {
    let found, least = 20;
    for (const trial of data.trials.values())
      for (const [epoch, value] of trial.curve) {
        const far = value === null ? Infinity : Math.hypot((epoch - x) / per.x, (value - y) / per.y);
        if (far < least) { least = far; found = { trial, epoch, value }; }
      }
    return found && {
      key: found.trial.number,
      text: `${found.trial.label}, epoch ${found.epoch}: ${found.value.toFixed(4)}; ${found.trial.state}`,
    };
  },
};

function setClass(known, mark, name) {  // an attribute that is set costs a style, also where it is the same
  if (known.name === name) return;
  known.name = name;
  mark.setAttribute("class", name);
}

const timeline = {
  zero() { return data.bars.reduce((least, bar) => Math.min(least, bar[2]), Infinity); },
  until(bar) { return bar[3] === null ? Math.max(data.study.now, bar[2]) : bar[3]; },
  draw() {
    const zero = this.zero();
    let last = 1, lanes = 1;
    for (const bar of data.bars) {
      last = Math.max(last, this.until(bar) - zero);
      lanes = Math.max(lanes, bar[4] + 1);
    }
    for (const bar of data.bars) {
      const known = data.boxes[bar[0]];
      if (known && known.bar === bar && bar[3] !== null && known.zero === zero) continue;
      const box = known ? known.box : svgElement("rect", {}, this.chart.marks);
      const places = { x: bar[2] - zero, y: bar[4] + 0.62, width: this.until(bar) - bar[2], height: 0.76 };
      for (const [name, value] of Object.entries(places)) box.setAttribute(name, value);
      data.boxes[bar[0]] = { box, bar, zero };
    }
    for (const known of data.boxes)
      setClass(known, known.box, known.bar[5] + (known.bar[1] === story.number ? " chosen" : ""));
    const [unit, name] = last > 7200 ? [3600, "hours"] : [60, "minutes"], labels = ticks(0, last / unit, 8);
    const numbers = lanes <= 16 ? Array.from({ length: lanes }, (_, i) => i + 1) : [1, lanes];
    this.chart.fit(60 + Math.min(26 * lanes, 420),
      { low: 0, high: last / unit, ticks: labels, title: `${name} since the first run` },
      { low: 0.5, high: lanes + 0.5, ticks: numbers, down: true });
    [this.origin, this.unitSeconds] = [zero, unit];
    const s = this.chart.scale;  // the boxes are in seconds
    this.chart.marks.setAttribute("transform", `translate(${s.dx} ${s.dy}) scale(${s.x / unit} ${s.y})`);
    setText(byId("timeline-says"), `${data.bars.length} runs on ${lanes} worker${lanes === 1 ? "" : "s"}. A worker is a ` +
      "place for a run; a run that goes on after a fault or in another session begins a new bar.");
  },
  nearest(x, y) {
    const at = this.origin + x * this.unitSeconds;
    const bar = data.bars.find(one => Math.abs(one[4] + 1 - y) < 0.5 && one[2] <= at && at <= this.until(one));
    return bar && { key: bar[1], text: bar[6] };
  },
};

function light(key) {
  for (const mark of document.querySelectorAll(".marks .lit")) mark.classList.remove("lit");
  if (key === undefined) return;
  const path = data.paths.get(key);
  if (path) path.line.classList.add("lit");
  for (const { box, bar } of data.boxes) if (bar[1] === key) box.classList.add("lit");
}

for (const [drawn, id, left] of [[curves, "curves", 52], [timeline, "timeline", 36]]) {
  drawn.chart = new Chart(byId(id), {
    left, nearest: (x, y, per) => data?.study && drawn.nearest(x, y, per), onHover: light, onChoose: key => story.open(key),
  });
  let width;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width !== width && data?.study) requestAnimationFrame(() => drawn.draw());
    width = contentRect.width;
  }).observe(byId(id).parentElement);
}
