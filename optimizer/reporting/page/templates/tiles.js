// The map: figures of an adapter under the pointer or the focus, arrow keys within a tile, order of the tiles.

const TOLD = ["gpu", "rank", "rate", "load_share", "served_share", "ttft_p50_ms", "ttft_p99_ms", "itl_ms", "loads"];

function makeCell([rows, step, label, spoken, left, top, width, height]) {
  const cell = make("button", undefined, `cell r${step}`);
  cell.type = "button";
  cell.dataset.rows = rows.join(" ");
  cell.setAttribute("aria-label", spoken);
  Object.assign(cell.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
  if (label) cell.append(make("span", label));
  return cell;
}

function fillTile(tile) {
  const made = tile.cells.map(makeCell);
  for (const other of made.slice(1)) other.tabIndex = -1; // the arrow keys go there
  tile.element.querySelector(".treemap").append(...made);
  tile.drawn = made.map((cell) => [cell, cellRows(cell)]);
}

function cellRows(cell) {
  return cell.dataset.rows.split(" ").map(Number);
}

function tellCell(plan, cell, x, y) {
  const rows = cellRows(cell);
  const table = plan.adapters;
  if (rows.length > 1) {
    const share = rows.reduce((sum, row) => sum + table.load_share[row], 0);
    tipFor(cell, `${rows.length.toLocaleString("en")} smaller adapters`, [["share of its GPU", shown(share, "share")]], x, y);
    return;
  }
  const pairs = TOLD.map((name) => [data.columns[name][0], shown(table[name][rows[0]], data.columns[name][1])]);
  const [name, served] = [table.name[rows[0]], table.served_name[rows[0]]];
  tipFor(cell, name, served === name ? pairs : [["asked for as", served], ...pairs], x, y);
}

function walkCells(event) {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  const cells = [...cell.parentElement.children];
  const at = cells.indexOf(cell);
  const next = {
    ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: cells.length - 1,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  focusCell(cells[Math.min(Math.max(next, 0), cells.length - 1)]);
}

function focusCell(cell) {
  for (const other of cell.parentElement.querySelectorAll('[tabindex="0"], :not([tabindex])')) {
    if (other.classList.contains("cell")) other.tabIndex = -1;
  }
  cell.tabIndex = 0;
  cell.focus();
}

function sortTiles(plan, name) {
  const sign = data.orders[name] ? -1 : 1;
  const value = (tile) => tile.order[name] ?? (sign > 0 ? Infinity : -Infinity);
  const sorted = [...plan.tiles].sort((a, b) => sign * (value(a) - value(b)) || a.gpu - b.gpu);
  plan.root.querySelector(".tiles").append(...sorted.map((tile) => tile.element));
}

function matchingRows(plan, words) {
  const asked = words.trim().toLowerCase();
  if (!asked) return null;
  const found = new Set();
  plan.searched.forEach((text, row) => text.includes(asked) && found.add(row));
  return found;
}

function markFound(plan, found) {
  plan.root.querySelector(".tiles").classList.toggle("searching", found !== null);
  for (const tile of plan.tiles) {
    let hits = 0;
    for (const [cell, rows] of tile.drawn) {
      const hit = found !== null && rows.some((row) => found.has(row));
      cell.classList.toggle("hit", hit);
      hits += hit;
    }
    tile.element.classList.toggle("with-hit", hits > 0);
  }
}

function foundWords(plan, found) {
  if (found === null) return "";
  const all = plan.searched.length.toLocaleString("en");
  const first = [...found].slice(0, 3).map((row) => `${plan.adapters.name[row]} on GPU ${plan.adapters.gpu[row]}`);
  const more = found.size > first.length ? " …" : "";
  return `${found.size.toLocaleString("en")} of ${all}${first.length ? ": " : ""}${first.join(", ")}${more}`;
}

const FEW_TILES = 12;

function startShort(plan, tiles) {
  if (plan.tiles.length <= FEW_TILES) return;
  const button = plan.root.querySelector(".all-tiles");
  button.hidden = false;
  tiles.classList.add("short");
  button.addEventListener("click", () => {
    tiles.classList.remove("short");
    button.hidden = true;
    tiles.children[FEW_TILES].querySelector(".cell")?.focus();
  });
}

function startMap(plan) {
  const tiles = plan.root.querySelector(".tiles");
  if (!tiles) return;
  for (const tile of plan.tiles) {
    tile.element = tiles.querySelector(`.tile[data-gpu="${tile.gpu}"]`);
    fillTile(tile);
  }
  startShort(plan, tiles);
  plan.searched = plan.adapters.name.map((name, row) => `${name}\n${plan.adapters.served_name[row]}`.toLowerCase());
  const cellOf = (event) => event.target.closest(".cell");
  tiles.addEventListener("pointermove", (event) => {
    const cell = cellOf(event);
    if (cell && cell !== tipOwner) tellCell(plan, cell, event.clientX, event.clientY);
    else if (cell) placeTip(event.clientX, event.clientY);
    else hideTip();
  });
  tiles.addEventListener("pointerleave", hideTip);
  tiles.addEventListener("focusin", (event) => cellOf(event) && tellCell(plan, cellOf(event)));
  tiles.addEventListener("focusout", hideTip);
  tiles.addEventListener("keydown", walkCells);
  plan.root.querySelector(".order").addEventListener("change", (event) => sortTiles(plan, event.target.value));
  const search = plan.root.querySelector(".search");
  const words = plan.root.querySelector(".found");
  search.addEventListener("input", () => {
    const found = matchingRows(plan, search.value);
    markFound(plan, found);
    words.textContent = foundWords(plan, found);
    say(words.textContent);
    plan.showAdapters(found);
  });
  search.addEventListener("keydown", (event) => {
    const hit = event.key === "Enter" && tiles.querySelector(".cell.hit");
    if (hit) focusCell(hit);
  });
}
