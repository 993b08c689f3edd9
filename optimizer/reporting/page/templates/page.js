// The page: one plan at a time, light or dark, and commands to copy.

const root = document.documentElement;
const plans = data.plans.map((plan) => ({ ...plan, root: document.getElementById(plan.key) }));

function fillScenario(plan) {
  const same = plan.root.querySelector("[data-scenario-of]");
  if (same) same.textContent = document.querySelector(`#${same.dataset.scenarioOf} .scenario`).textContent;
}

function startPlan(plan) {
  if (plan.started) return;
  plan.started = true;
  fillScenario(plan);
  startAdapters(plan);
  startMap(plan);
  startOverTime(plan);
  startWhatIf(plan);
}

function showPlan(plan) {
  for (const other of plans) {
    other.root.hidden = other !== plan;
    const tab = document.getElementById(`${other.key}-tab`);
    tab?.setAttribute("aria-selected", String(other === plan));
    if (tab) tab.tabIndex = other === plan ? 0 : -1;
  }
  for (const link of document.querySelectorAll("nav [data-part]")) link.href = `#${plan.key}-${link.dataset.part}`;
  startPlan(plan);
  window.dispatchEvent(new Event("resize")); // charts are as wide as what was hidden before
}

function startTabs() {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  tabs.forEach((tab, at) => {
    tab.addEventListener("click", () => showPlan(plans[at]));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (at + step + tabs.length) % tabs.length;
      showPlan(plans[next]);
      tabs[next].focus();
    });
  });
}

function startTheme() {
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const tell = () => button.setAttribute("aria-pressed", String(dark()));
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    tell();
  });
  system.addEventListener("change", tell);
  tell();
}

async function copyCommand(event) {
  const button = event.target.closest(".copy");
  if (!button) return;
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    say("Copied");
  } catch {
    window.getSelection().selectAllChildren(code);
    say("The command is selected: copy it with the keyboard");
  }
}

function drawComparison() {
  const box = document.querySelector('[data-chart="comparison"]');
  if (!box) return;
  const rows = plans.map((plan, at) => ({
    plan: `${at + 1}. ${plan.label}`,
    gpus: plan.gpus ?? 0,
    accepted: plan.accepted,
    words: plan.gpus === null ? "no plan" : `${plan.gpus}${plan.accepted ? "" : ", rejected by the simulation"}`,
  }));
  drawChart(box, rows, [["plan", "plan"], ["words", "GPUs"]]);
}

root.classList.add("scripted");
document.addEventListener("click", copyCommand);
startTheme();
startTabs();
if (plans.length) showPlan(plans[0]);
drawComparison();
