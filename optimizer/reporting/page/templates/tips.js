// What stands in several parts: elements made of text, numbers in words, and the one tip of the page.

const tip = document.getElementById("tip");
let tipOwner = null;

function make(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function figure(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return value.toLocaleString("en", {
    maximumSignificantDigits: Math.abs(value) >= 1000 ? 21 : 4,
    ...(Math.abs(value) >= 1000 && { maximumSignificantDigits: undefined, maximumFractionDigits: 0 }),
  });
}

function shown(value, kind) {
  return kind === "share" && value !== null ? `${(100 * value).toFixed(1)}%` : figure(value);
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function fillTip(title, pairs) {
  const list = make("dl");
  for (const [name, value] of pairs) list.append(make("dt", name), make("dd", value));
  tip.replaceChildren(...(title ? [make("b", title)] : []), list);
}

function placeTip(x, y) {
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, x + 14), window.innerWidth - box.width - 8);
  const above = y - box.height - 12;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : y + 18}px`;
}

function tipFor(element, title, pairs, x, y) {
  hideTip();
  tipOwner = element;
  element.setAttribute("aria-describedby", "tip");
  fillTip(title, pairs);
  if (x === undefined) placeTipAt(element);
  else placeTip(x, y);
}

function placeTipAt(element) {
  const box = element.getBoundingClientRect();
  placeTip(box.left + box.width / 2, box.top);
}

function hideTip() {
  tip.hidden = true;
  tipOwner?.removeAttribute("aria-describedby");
  tipOwner = null;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
document.addEventListener("scroll", () => {
  if (tipOwner !== null && tipOwner === document.activeElement) placeTipAt(tipOwner); // focus scrolls to what it is on
  else hideTip();
}, { passive: true });
