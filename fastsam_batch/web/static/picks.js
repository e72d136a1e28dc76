// Masks that were picked: kept in this tab until it closes, exported as COCO.

import { post } from "./api.js";
import { count, download, h, say } from "./dom.js";

let place = "picks";
let picks = new Map();
const updates = new WeakMap(); // of elements that may lie behind a photograph, or be gone for good
const watched = new Set(); // weak references to them

const key = (mask) => `${mask.mask_index}@${mask.image_id}`;

/** Take up the picks of this corpus: its identity stays while it grows. */
export function openPicks(identity) {
  place = `picks ${identity}`;
  try {
    picks = new Map(JSON.parse(sessionStorage.getItem(place) ?? "[]").map((mask) => [key(mask), mask]));
  } catch {
    picks = new Map();
  }
  const tray = document.getElementById("tray");
  const keepClear = () => document.documentElement.style.setProperty("--tray", `${tray.offsetHeight}px`);
  new ResizeObserver(keepClear).observe(tray); // nothing of the page lies under it for good
  changed();
}

export const picked = (mask) => picks.has(key(mask));

/** Pick masks {image_id, mask_index, label}. One that is picked already keeps its label: it may have been renamed. */
export function pick(masks) {
  const added = masks.filter((mask) => !picked(mask));
  for (const { image_id, mask_index, label } of added) picks.set(key({ image_id, mask_index }), { image_id, mask_index, label });
  say(`Picked ${count(added.length, "mask")}; ${count(picks.size, "mask")} picked.`);
  changed();
}

/** Pick a mask under a label, or put it back where it is picked. */
export function toggle(mask, label) {
  if (!picked(mask)) return pick([{ ...mask, label }]);
  picks.delete(key(mask));
  say(`Put back 1 mask; ${count(picks.size, "mask")} picked.`);
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
    onclick: () => toggle(mask, label()),
  }, word, h("span", { class: "hidden" }, ` ${name}`));
  watch(button, () => {
    button.setAttribute("aria-pressed", String(picked(mask)));
    word.textContent = picked(mask) ? "✓ Picked" : "Pick";
  });
  return button;
}

/** Call `update` now and after each change as long as anyone has the element, in the page or not. */
function watch(element, update) {
  update();
  updates.set(element, update);
  watched.add(new WeakRef(element));
}

function keep() {
  try {
    sessionStorage.setItem(place, JSON.stringify([...picks.values()]));
  } catch { /* the browser keeps nothing of this page, or no more: they stay until it is loaded anew */ }
}

function changed() {
  keep();
  for (const reference of watched) {
    const element = reference.deref();
    if (element) updates.get(element)();
    else watched.delete(reference);
  }
  drawTray();
}

function drawTray() {
  const tray = document.getElementById("tray");
  tray.hidden = picks.size === 0;
  const labels = new Map();
  for (const { label } of picks.values()) labels.set(label, (labels.get(label) ?? 0) + 1);
  const { id, dataset: { label: ofLabel } } = document.activeElement ?? document.body;
  tray.replaceChildren(
    h("p", {}, h("strong", {}, `${count(picks.size, "mask")} picked`)),
    h("ul", { class: "labels", "aria-label": "Labels" }, [...labels].map(([label, number]) => labelItem(label, number))),
    h("button", { type: "button", id: "clear-picks", class: "quiet", onclick: clear }, "Put all back"),
    h("button", { type: "button", id: "export", class: "primary", onclick: save }, "Export COCO"),
  );
  if (id) document.getElementById(id)?.focus();
  if (ofLabel !== undefined) labelButton(ofLabel)?.focus();
}

const labelButton = (label) => document.querySelector(`#tray [data-label="${CSS.escape(label)}"]`);

/** Draw the tray anew once the click that took the focus from a field is over, or the field that it opened is. */
function drawTrayLater() {
  const tray = document.getElementById("tray");
  setTimeout(() => {
    if (tray.matches(":active")) drawTrayLater();
    else if (!tray.querySelector("input:enabled")) changed();
  }, 150);
}

/** A label of the tray with its masks; a click makes it a field to rename it in. */
function labelItem(label, number) {
  const button = h("button", { type: "button", class: "quiet", title: "Rename", "data-label": label, onclick: () => edit(button, label) },
    h("span", { class: "hidden" }, "Rename "), `${label} (${number})`);
  return h("li", {}, button);
}

function edit(button, label) {
  let open = true; // leaving the page, the field loses the focus, which is no second renaming
  const end = (name) => {
    if (!open) return false;
    open = false;
    field.disabled = true;
    rename(label, name);
    return true;
  };
  const endHere = (name) => {
    if (!end(name)) return;
    changed();
    labelButton(name)?.focus();
  };
  const field = h("input", { type: "text", maxlength: "300", "aria-label": `New name of ${label}`, spellcheck: "false",
    onblur: () => end(field.value.trim() || label) && drawTrayLater(),
    onkeydown: (event) => {
      if (event.key !== "Escape" && event.key !== "Enter") return;
      event.preventDefault();
      endHere((event.key === "Enter" && field.value.trim()) || label);
    } });
  field.value = label;
  button.replaceWith(field);
  field.select();
}

function rename(label, name) {
  for (const mask of picks.values()) if (mask.label === label) mask.label = name;
  keep();
  if (name !== label) say(`${label} is ${name} now.`);
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
