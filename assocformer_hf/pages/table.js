"use strict";
// Tables that are sorted by a click on their heads and filtered by a field; labels that open their photographs.
const read = id => { const at = document.getElementById(id); return at ? JSON.parse(at.textContent) : {}; };
const photographs = read("photographs"), examples = read("examples");
const create = (tag, text, css) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (css) made.className = css;
  return made;
};

function closeDetails(table) {
  for (const row of table.querySelectorAll("tr.detail-row")) row.remove();
  for (const button of table.querySelectorAll("button.label")) button.setAttribute("aria-expanded", "false");
}

function sort(table, column, head) {
  closeDetails(table);
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const key = row => { const value = row.cells[column].dataset.value; return value === undefined ? row.cells[column].textContent.trim() : value; };
  const isNumber = head.classList.contains("number");
  const compare = (a, b) => isNumber ? a - b : a.localeCompare(b, undefined, { numeric: true });
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const a = key(one), b = key(other);
    if (a === "" || b === "") return (a === "") - (b === "");  // what does not exist stays last
    return ascending ? compare(a, b) : compare(b, a);
  });
  table.tBodies[0].append(...rows);
}

function filter(table, text, count, what) {
  closeDetails(table);
  const wanted = text.trim().toLowerCase();
  let left = 0;
  for (const row of table.tBodies[0].rows) {
    row.hidden = ![...row.querySelectorAll("td.name")].some(cell => cell.textContent.toLowerCase().includes(wanted));
    left += !row.hidden;
  }
  count.textContent = `${left} of ${table.tBodies[0].rows.length} ${what}`;
}

function pictures(rows) {
  const grid = create("div", undefined, "pictures");
  for (const [image, score] of rows) {
    const figure = create("figure"), picture = create("img"), caption = create("figcaption");
    const [name, source] = photographs[image];
    picture.src = source;
    picture.alt = name;
    caption.append(create("small", `${name}, score ${score.toFixed(2)}`));
    figure.append(picture, caption);
    grid.append(figure);
  }
  return grid;
}

function toggle(button) {
  const row = button.closest("tr"), table = button.closest("table");
  const wasOpen = button.getAttribute("aria-expanded") === "true";
  closeDetails(table);
  if (wasOpen) return;
  button.setAttribute("aria-expanded", "true");
  const detail = create("tr", undefined, "detail-row"), cell = create("td"), parts = create("div", undefined, "detail");
  cell.colSpan = row.cells.length;
  const chart = document.querySelector(`.curves figure[data-label="${button.dataset.label}"] svg`);
  const left = create("div"), right = create("div");
  if (chart) left.append(chart.cloneNode(true));
  for (const group of examples[button.dataset.label]) {
    right.append(create("h3", `${group.what}: ${group.count}`));
    if (group.images.length) right.append(pictures(group.images));
    if (group.count > group.images.length) right.append(create("p", `${group.images.length} of ${group.count} are shown, ${group.order}.`, "quiet"));
  }
  parts.append(left, right);
  cell.append(parts);
  detail.append(cell);
  row.after(detail);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = create("button", head.textContent.trim());
    button.type = "button";
    button.addEventListener("click", () => sort(table, column, head));
    head.replaceChildren(button);
  });
  const field = document.querySelector(`input[data-table="${table.id}"]`);
  if (field) {
    const count = field.closest(".tools").querySelector("[role=status]");
    const update = () => filter(table, field.value, count, field.dataset.what || "labels");
    field.addEventListener("input", update);
    update();
  }
}
document.addEventListener("click", event => {
  const button = event.target.closest("button.label");
  if (button) toggle(button);
});
