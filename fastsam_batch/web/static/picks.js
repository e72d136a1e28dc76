// Masks that were picked: kept in this tab until it closes, exported as COCO.

import { post } from "./api.js";
import { count, download, h, say } from "./dom.js";

let place = "picks";
let picks = new Map();
const watchers = new Set();

const key = (mask) => `${mask.mask_index}@${mask.image_id}`;

/** Take up the picks of this corpus: its identity stays while it grows. */
export function openPicks(identity) {
  place = `picks ${identity}`;
  try {
    picks = new Map(JSON.parse(sessionStorage.getItem(place) ?? "[]").map((mask) => [key(mask), mask]));
  } catch {
    picks = new Map();
  }
  changed();
}

export const picked = (mask) => picks.has(key(mask));

/** Pick masks {image_id, mask_index} under a label, or put back those that are picked where `off`. */
export function pick(masks, label, off = false) {
  for (const mask of masks) {
    if (off) picks.delete(key(mask));
    else picks.set(key(mask), { image_id: mask.image_id, mask_index: mask.mask_index, label });
  }
  say(`${off ? "Put back" : "Picked"} ${count(masks.length, "mask")}; ${count(picks.size, "mask")} picked.`);
  changed();
}

/** A button that picks one mask and shows whether it is picked. */
export function pickButton(mask, label, name) {
  const word = h("span");
  const button = h("button", {
    type: "button",
    class: "pick",
    "aria-pressed": "false",
    title: "Pick for the export (X)",
    onclick: () => pick([mask], label(), picked(mask)),
  }, word, h("span", { class: "hidden" }, ` ${name}`));
  watch(button, () => {
    button.setAttribute("aria-pressed", String(picked(mask)));
    word.textContent = picked(mask) ? "✓ Picked" : "Pick";
  });
  return button;
}

/** Call `update` now and after each change while the element is in the page. */
export function watch(element, update) {
  update();
  watchers.add({ element, update, seen: false });
}

function changed() {
  sessionStorage.setItem(place, JSON.stringify([...picks.values()]));
  for (const watcher of watchers) {
    watcher.seen ||= watcher.element.isConnected;
    if (watcher.seen && !watcher.element.isConnected) watchers.delete(watcher);
    else watcher.update();
  }
  drawTray();
}

function drawTray() {
  const tray = document.getElementById("tray");
  tray.hidden = picks.size === 0;
  document.body.classList.toggle("with-tray", picks.size > 0);
  const labels = new Map();
  for (const { label } of picks.values()) labels.set(label, (labels.get(label) ?? 0) + 1);
  const focused = document.activeElement?.id;
  tray.replaceChildren(
    h("p", {}, h("strong", {}, `${count(picks.size, "mask")} picked`), " ",
      h("span", { class: "labels" }, [...labels].map(([label, number]) => `${label} (${number})`).join(", "))),
    h("button", { type: "button", id: "clear-picks", class: "quiet", onclick: clear }, "Put all back"),
    h("button", { type: "button", id: "export", class: "primary", onclick: save }, "Export COCO"),
  );
  if (focused) document.getElementById(focused)?.focus();
}

function clear() {
  picks.clear();
  say("Nothing is picked.");
  changed();
  document.getElementById("view").focus();
}

async function save() {
  const button = document.getElementById("export");
  button.disabled = true;
  try {
    const response = await post("export", { masks: [...picks.values()] });
    const leftOut = Number(response.headers.get("x-left-out"));
    download(await response.blob(), "picked.coco.json");
    const exported = `Exported ${count(picks.size - leftOut, "mask")} as picked.coco.json.`;
    if (leftOut) tell(`${exported} ${count(leftOut, "pick")} left out: not in this corpus.`);
    else say(exported);
  } catch (error) {
    tell(error.message);
  }
  button.disabled = false;
}

/** A sentence in the tray, until it is drawn anew. */
function tell(sentence) {
  say(sentence);
  const tray = document.getElementById("tray");
  tray.querySelector(".problem")?.remove();
  tray.append(h("p", { class: "problem" }, sentence));
}
