// The table of adapters: sorted by any column, a page at a time.

const PAGE = 25;

function sortedRows(plan, rows, column, sign) {
  const values = plan.adapters[column];
  const last = (value) => value === null || value === undefined;
  return rows.sort((a, b) => {
    const [x, y] = [values[a], values[b]];
    if (last(x) || last(y)) return last(x) - last(y) || a - b;
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return sign * order || a - b;
  });
}

function adapterLine(plan, row, names) {
  const line = make("tr");
  for (const name of names) {
    const kind = data.columns[name][1];
    const cell = make("td", shown(plan.adapters[name][row], kind), kind);
    if (kind === "text") cell.title = cell.textContent;
    line.append(cell);
  }
  return line;
}

function startAdapters(plan) {
  const box = plan.root.querySelector(".adapters");
  plan.showAdapters = () => {};
  if (!box) return;
  const names = Object.keys(data.columns);
  const all = plan.adapters.name.map((_, row) => row);
  const [before, after] = [box.querySelector(".before"), box.querySelector(".after")];
  let state = { rows: all, page: 0, column: null, sign: 1 };

  const render = () => {
    const from = state.page * PAGE;
    const lines = state.rows.slice(from, from + PAGE).map((row) => adapterLine(plan, row, names));
    box.querySelector("tbody").replaceChildren(...lines);
    const to = from + lines.length;
    const where = lines.length ? `${(from + 1).toLocaleString("en")} to ${to.toLocaleString("en")}` : "none";
    box.querySelector(".where").textContent = `${where} of ${state.rows.length.toLocaleString("en")}`;
    before.disabled = state.page === 0;
    after.disabled = to >= state.rows.length;
  };
  const arrange = (rows) => (state.column ? sortedRows(plan, rows, state.column, state.sign) : rows);
  const turn = (step) => {
    state.page += step;
    render();
    say(box.querySelector(".where").textContent);
  };

  plan.showAdapters = (found) => {
    state = { ...state, rows: arrange(found === null ? [...all] : [...found]), page: 0 };
    render();
  };
  before.addEventListener("click", () => turn(-1));
  after.addEventListener("click", () => turn(1));
  box.querySelector("thead").addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading) return;
    const column = heading.dataset.column;
    const sign = state.column === column ? -state.sign : data.columns[column][1] === "text" ? 1 : -1;
    state = { ...state, column, sign, page: 0 };
    for (const other of box.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    state.rows = arrange([...state.rows]);
    render();
  });
  render();
}
