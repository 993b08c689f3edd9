// Over time: the run of the chosen GPU, its latencies and its slowest adapters.

const SLOWEST = 8;
const MINUTES = [["start", "from minute"], ["end", "to minute"]];
const SERIES = {
  requests: [["running", "running"], ["waiting", "waiting"]],
  memory: [["kv_use", "KV cache in use", "share"]],
  loads: [["loads_per_min", "loads per minute"]],
  tokens: [["offered_tok_per_s", "offered"], ["served_tok_per_s", "served"]],
};
const LATENCIES = { ttft: "ttft_ms", itl: "itl_ms", e2e: "e2e_ms" };

function seriesRows(run, series) {
  return run[series[0][0]].map((_, part) => {
    const start = run.first_s + part * run.width_s;
    const row = { start: start / 60, end: (start + run.width_s) / 60 };
    for (const [field, name] of series) row[name] = run[field][part];
    return row;
  });
}

function latencyRows(run, field) {
  return run[field]
    .map((ms, level) => ({ ms, share: run.quantiles[level] }))
    .filter((row) => row.ms > 0); // the axis is logarithmic
}

function runWords(tile, run) {
  const words = [`A run at ${figure(run.load_factor)} times the rates, seed ${run.seed}.`];
  if (tile.like !== tile.gpu) words.unshift(`GPU ${tile.gpu} holds adapters of the same kinds as GPU ${tile.like}, whose run is shown.`);
  return words.join(" ");
}

function showSlowest(plan, gpu) {
  const table = plan.adapters;
  const rows = table.gpu.flatMap((one, row) => (one === gpu && table.ttft_p99_ms[row] !== null ? [row] : []));
  rows.sort((a, b) => table.ttft_p99_ms[b] - table.ttft_p99_ms[a] || a - b);
  const names = Object.keys(data.columns).filter((name) => name !== "gpu");
  const lines = rows.slice(0, SLOWEST).map((row) => adapterLine(plan, row, names));
  plan.root.querySelector(".slowest tbody").replaceChildren(...lines);
}

function showGPU(plan, gpu) {
  const tile = plan.tiles.find((one) => one.gpu === gpu);
  const run = plan.runs.find((one) => one.gpu === tile.like);
  const section = plan.root.querySelector(".over-time");
  for (const one of plan.tiles) one.element.classList.toggle("chosen", one === tile);
  section.querySelector(".gpu").value = String(gpu);
  section.querySelector(".run-note").textContent = run ? runWords(tile, run) : `The run of GPU ${gpu} was left out.`;
  for (const box of section.querySelectorAll(".chart-box")) {
    box.hidden = !run;
    if (!run) continue;
    const name = box.dataset.chart;
    if (name in SERIES) {
      const columns = SERIES[name].map(([, label, kind]) => [label, label, kind]);
      drawChart(box, seriesRows(run, SERIES[name]), [...MINUTES, ...columns]);
    } else {
      const rows = latencyRows(run, LATENCIES[name]);
      box.hidden = rows.length === 0;
      if (rows.length) drawChart(box, rows, [["share", "of the requests", "share"], ["ms", "within ms"]]);
    }
  }
  showSlowest(plan, gpu);
}

function startOverTime(plan) {
  const section = plan.root.querySelector(".over-time");
  const choice = section.querySelector(".gpu");
  if (!choice) return;
  choice.addEventListener("change", () => showGPU(plan, Number(choice.value)));
  plan.root.querySelector(".tiles").addEventListener("click", (event) => {
    const button = event.target.closest(".to-time");
    if (!button) return;
    showGPU(plan, Number(button.dataset.gpu));
    section.scrollIntoView();
    choice.focus({ preventScroll: true });
  });
  const withRun = plan.tiles.filter((tile) => plan.runs.some((run) => run.gpu === tile.like));
  const fullest = withRun.reduce((best, tile) => ((tile.order.fill ?? 0) > (best.order.fill ?? 0) ? tile : best), withRun[0]);
  if (fullest) showGPU(plan, fullest.gpu);
}
