// SPDX-License-Identifier: Apache-2.0
"use strict";
(() => {
  const tip = document.getElementById("tip");
  const format = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

  // What stands for a layer tells about it, and shows the same layer in all charts.
  function show(mark, x, y) {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 18}px`;
  }
  function pick(layer) {
    document.body.classList.toggle("picked", layer !== undefined);
    for (const mark of document.querySelectorAll("[data-layer]")) {
      mark.classList.toggle("on", mark.dataset.layer === layer);
    }
  }
  let picked;
  function point(target, x, y) {
    const mark = target.closest ? target.closest("[data-layer]") : null;
    const layer = mark ? mark.dataset.layer : undefined;
    if (layer !== picked) pick(picked = layer);
    if (mark && mark.dataset.tip) show(mark, x, y); else tip.hidden = true;
  }
  document.addEventListener("pointermove", (event) => point(event.target, event.clientX, event.clientY));
  document.addEventListener("focusin", (event) => {
    const box = event.target.getBoundingClientRect();
    point(event.target, box.right, box.top);
  });
  document.addEventListener("focusout", () => point(document.body));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") point(document.body); });

  // The timeline shows the cycles from `first` to `last`.
  const pane = document.querySelector(".window");
  const chart = pane.querySelector("svg");
  const total = Number(chart.dataset.total);
  const rows = chart.viewBox.baseVal.height;
  const marks = [...pane.querySelectorAll(".axis span")];
  let first = 0, last = total;
  function view(from, to) {
    const width = Math.min(total, Math.max(Math.min(40, total), to - from));
    first = Math.min(Math.max(0, from), total - width);
    last = first + width;
    chart.setAttribute("viewBox", `${first} 0 ${width} ${rows}`);
    marks.forEach((mark, i) => { mark.textContent = format.format(first + width * i / (marks.length - 1)); });
  }
  function zoom(factor, place) {
    const at = first + (last - first) * place;
    view(at - (at - first) * factor, at + (last - at) * factor);
  }
  function move(share) {
    view(first + (last - first) * share, last + (last - first) * share);
  }
  const actions = {
    in: () => zoom(0.5, 0.5), out: () => zoom(2, 0.5), left: () => move(-0.25), right: () => move(0.25),
    all: () => view(0, total),
  };
  const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all" };
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", actions[button.dataset.zoom]);
  }
  pane.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[keys[event.key]]();
  });
  pane.addEventListener("wheel", (event) => {
    // With nothing to zoom out to, the page scrolls.
    if (event.deltaY > 0 && last - first >= total) return;
    event.preventDefault();
    const box = chart.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, (event.clientX - box.left) / box.width);
  }, { passive: false });
  chart.addEventListener("pointerdown", (event) => chart.setPointerCapture(event.pointerId));
  chart.addEventListener("pointermove", (event) => {
    if (chart.hasPointerCapture(event.pointerId)) move(-event.movementX / chart.getBoundingClientRect().width);
  });

  // A title sorts its column: figures from the largest on, words from the first on, and a second time the other way.
  for (const head of document.querySelectorAll(".layers thead tr:last-child th")) {
    head.addEventListener("click", () => {
      const body = head.closest("table").tBodies[0], column = head.cellIndex;
      const before = head.getAttribute("aria-sort");
      const key = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => key(a) === undefined
        ? a.cells[column].textContent.localeCompare(b.cells[column].textContent) : key(b) - key(a);
      const sorted = [...body.rows].sort(compare);
      const falls = key(body.rows[0]) !== undefined;
      const turn = before === (falls ? "descending" : "ascending");
      if (turn) sorted.reverse();
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls !== turn ? "descending" : "ascending");
      body.append(...sorted);
    });
  }
})();
