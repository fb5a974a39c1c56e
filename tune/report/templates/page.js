// Highlights for charts, sorting and filtering for tables, a button that copies, all opened on paper. Nothing is fetched.
const marksOfTrial = new Map();
function light(trial, on) {
  for (const mark of marksOfTrial.get(trial) || []) mark.classList.toggle("lit", on);
}

for (const plot of document.querySelectorAll(".plot[data-chart]")) {
  const { tips, trials } = JSON.parse(plot.parentElement.querySelector("script").textContent);
  for (const [gid, texts] of Object.entries(tips)) {
    const group = document.getElementById(plot.dataset.chart + "-" + gid);
    if (!group) continue;
    const marks = [...group.querySelectorAll("path, use")].filter(mark => !mark.closest("defs"));
    marks.forEach((mark, i) => {
      const trial = (trials[gid] || [])[i];
      mark.dataset.tip = texts[i] || "";
      if (trial === undefined) return;
      mark.dataset.trial = trial;
      if (!marksOfTrial.has(trial)) marksOfTrial.set(trial, []);
      marksOfTrial.get(trial).push(mark);
    });
  }
  let lit;
  plot.addEventListener("pointermove", event => {
    const mark = event.target.closest("[data-tip]");
    if (lit !== undefined) light(lit, false);
    lit = mark && mark.dataset.trial ? Number(mark.dataset.trial) : undefined;
    if (lit !== undefined) light(lit, true);
    if (mark) showTip(mark.dataset.tip, event.clientX, event.clientY);
    else hideTip();
  });
  plot.addEventListener("pointerleave", () => {
    if (lit !== undefined) light(lit, false);
    lit = undefined;
    hideTip();
  });
}

function sortTable(table, column, descending) {
  const value = row => {
    const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const number = Number(text);
    return text === "" || text === "–" ? null : Number.isNaN(number) ? text : number;
  };
  const rows = [...table.tBodies[0].rows].map(row => [value(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return descending ? -order : order;
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
  [...table.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === column) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    cell.querySelector("button").addEventListener("click", () =>
      sortTable(table, column, cell.getAttribute("aria-sort") === "ascending"));
  });
}

function filterTable(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    shown += !row.hidden;
  }
  document.getElementById(input.dataset.filter + "-count").textContent = `${shown} of ${rows.length}`;
}
for (const input of document.querySelectorAll("input[data-filter]"))
  input.addEventListener("input", () => filterTable(input));

function choose(row) {
  const was = document.querySelector("tr.chosen");
  if (was) { was.classList.remove("chosen"); light(Number(was.dataset.trial), false); }
  if (was === row) return;
  row.classList.add("chosen");
  light(Number(row.dataset.trial), true);
}
for (const row of document.querySelectorAll("tr[data-trial]")) {
  row.tabIndex = 0;
  row.addEventListener("click", () => choose(row));
  row.addEventListener("keydown", event => { if (event.key === "Enter") choose(row); });
}

for (const button of document.querySelectorAll(".copy"))
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {  // a file:// page may have no clipboard
      getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
  });

const openedForPrint = [];
addEventListener("beforeprint", () => {
  for (const closed of document.querySelectorAll("details:not([open])")) {
    closed.open = true;
    openedForPrint.push(closed);
  }
});
addEventListener("afterprint", () => openedForPrint.splice(0).forEach(details => details.open = false));
