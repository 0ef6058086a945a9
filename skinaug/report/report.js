"use strict";
// Sorts tables by a click on a heading, and shows what a mark of a figure stands for. Without it the page is as complete.

// A number of a cell's own text, without the small print: 1,234; −2.1; <0.001; more than 50. Null where there is none.
const figure = (cell) => {
  const text = [...cell.childNodes].filter((n) => n.nodeName !== "SMALL").map((n) => n.textContent).join("").trim();
  const found = text.replace(/,/g, "").replace(/−/g, "-").match(/-?\d+(\.\d+)?/);
  const beyond = /^(more than|>)/.test(text) ? 1e-9 : /^(less than|<)/.test(text) ? -1e-9 : 0;
  return found ? Number(found[0]) + beyond : null;
};

const order = (a, b) => (a === null) - (b === null) || a - b;

const sort = (table, column, heading) => {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const words = !heading.classList.contains("figure");
  const rows = [...table.tBodies[0].rows];
  const keys = new Map(rows.map((row) => [row, words ? row.cells[column].textContent.trim() : figure(row.cells[column])]));
  rows.sort((a, b) => {
    const [one, other] = [keys.get(a), keys.get(b)];
    if (words) return (down ? -1 : 1) * one.localeCompare(other, "en", { numeric: true });
    return one === null || other === null ? order(one, other) : (down ? -1 : 1) * order(one, other);
  });
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
};

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((heading, column) => {
    const button = document.createElement("span"); // browsers repeat no headings with a <button> on further printed pages
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, column, heading));
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault(); // a space would scroll
      sort(table, column, heading);
    });
  });
}

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);

for (const title of document.querySelectorAll("svg title")) {
  title.parentNode.dataset.tip = title.textContent; // the browser's own tooltip would lie over ours
  title.remove();
}

// The mark under the pointer, else the nearest within a finger's width.
const mark = (event) => {
  const svg = event.target.closest("svg");
  const under = event.target.closest("[data-tip]");
  if (under || !svg) return under;
  let [nearest, least] = [null, 14];
  for (const element of svg.querySelectorAll("use[data-tip], g[data-tip] use")) {
    const box = element.getBoundingClientRect();
    const far = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
    if (far < least) [nearest, least] = [element.closest("[data-tip]"), far];
  }
  return nearest;
};

const show = (event) => {
  const found = mark(event);
  tip.hidden = !found;
  if (!found) return;
  tip.textContent = found.dataset.tip;
  const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
  const above = event.clientY - tip.offsetHeight - 12;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above < 8 ? event.clientY + 16 : above}px`;
};

document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
