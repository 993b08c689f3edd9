// Charts: made once of Vega's specifications, their data put in anew whenever something else is chosen.

const views = new WeakMap();

function tellMark(_, event, __, value) {
  if (!value) return void (tip.hidden = true);
  fillTip("", Object.entries(value).map(([name, one]) => [name, String(one)]));
  placeTip(event.clientX, event.clientY);
}

async function makeView(container, spec, rows) {
  const filled = { ...spec, data: spec.data.map((one) => (one.name === "rows" ? { ...one, values: rows } : one)) };
  const settings = { mode: "vega", renderer: "svg", actions: false, defaultStyle: false, hover: false, tooltip: tellMark };
  return (await vegaEmbed(container, filled, settings)).view;
}

async function drawChart(box, rows, columns) {
  const container = box.querySelector(".chart");
  const own = rows.map((row) => ({ ...row })); // Vega marks what it gets
  box.figures = { rows, columns };
  if (!views.has(container)) {
    views.set(container, makeView(container, data.charts[box.dataset.chart], own));
    box.querySelector(".figures").addEventListener("toggle", () => fillFigures(box));
    return;
  }
  fillFigures(box);
  const view = await views.get(container);
  if (box.figures.rows === rows) await view.data("rows", own).runAsync(); // else something newer was chosen
}

function fillFigures(box) {
  const details = box.querySelector(".figures");
  if (!details.open) return;
  const { rows, columns } = box.figures;
  const head = make("tr");
  for (const [, heading] of columns) {
    const cell = make("th", heading, "number");
    cell.scope = "col";
    head.append(cell);
  }
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    for (const [name, , kind] of columns) line.append(make("td", shown(row[name], kind), "number"));
    body.append(line);
  }
  const table = make("table", undefined, "plain");
  const top = make("thead");
  top.append(head);
  table.append(top, body);
  details.querySelector(".scroll").replaceChildren(table);
}
