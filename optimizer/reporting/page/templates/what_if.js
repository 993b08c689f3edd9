// What if: the sliders show the grid's cells, in the words that were made with the page.

function gridRows(grid, line, load) {
  return grid.loads.map((factor, k) => ({
    load: factor,
    exact: grid.exact[line][k],
    bound: grid.bound[line][k] ?? grid.exact[line][k],
    greedy: grid.greedy[line][k],
    exact_words: grid.lines[line].exact[k],
    greedy_words: grid.lines[line].greedy[k],
    now: k === load,
  }));
}

function startWhatIf(plan) {
  const section = plan.root.querySelector(".what-if");
  const grid = plan.grid;
  if (!grid) return;
  const part = (name) => section.querySelector(`.${name}`);
  const [load, patience] = [part("load"), part("patience")];

  const show = () => {
    const k = Number(load.value);
    const p = patience ? Number(patience.value) : 0;
    const words = grid.lines[p];
    const factor = `×${grid.loads[k].toFixed(2)}`;
    part("load-words").textContent = factor;
    load.setAttribute("aria-valuetext", `${grid.loads[k].toFixed(2)} times the load`);
    if (patience) {
      part("patience-words").textContent = `${figure(grid.patience[p])} s`;
      patience.setAttribute("aria-valuetext", `${figure(grid.patience[p])} seconds`);
    }
    for (const who of ["exact", "greedy"]) {
      const gpus = words[who][k] === "1" ? " GPU" : " GPUs";
      part(`${who}-words`).textContent = words[who][k] + (/\d$/.test(words[who][k]) ? gpus : "");
      const cost = words[`${who}_cost`][k];
      part(`${who}-cost`).textContent = cost ? `${cost} per month` : "";
    }
    part("asked").textContent = grid.command
      .replaceAll("{load}", String(grid.loads[k]))
      .replaceAll("{patience}", patience || grid.patience.length ? String(grid.patience[p]) : "");
    const columns = [["load", "load"], ["exact_words", "exact"], ["greedy_words", "greedy"]];
    return drawChart(part("chart-box"), gridRows(grid, p, k), columns);
  };

  for (const slider of [load, patience]) {
    slider?.addEventListener("input", () => {
      show();
      say(`exact ${part("exact-words").textContent}, greedy ${part("greedy-words").textContent}`);
    });
  }
  show();
}
