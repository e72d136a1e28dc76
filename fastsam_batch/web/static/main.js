// The page: reads the address, shows the view it names, and takes the form and the keys.

import { ask } from "./api.js";
import { problem } from "./dom.js";
import { listenForKeys } from "./keys.js";
import { openPhotograph } from "./photograph.js";
import { showPhotographs } from "./photographs.js";
import { openPicks } from "./picks.js";
import { openPictures } from "./pictures.js";
import { showHits } from "./results.js";
import * as address from "./state.js";

const view = document.getElementById("view");
const form = document.getElementById("search");
const filters = document.getElementById("filters");

let corpus = null;
let shown = null; // {close} of the view that is up
let filled = null; // the state that the form was filled from
let behindIt = null; // the view a photograph lies over, kept as it was
let running = new AbortController();

const sameBelow = (state) => address.write(address.behind(state));

async function show(state, kind) {
  fillForm(state, kind);
  if (state.image) return showPhotograph(state, kind);
  document.title = `${state.q || (state.like ? "More like this" : "Photographs")} · ${corpus.name}`;
  if (behindIt && behindIt.shown.url === sameBelow(state)) return backToView();
  running.abort(); // not for a photograph: the view it lies over goes on
  running = new AbortController();
  leave();
  behindIt?.shown.close?.();
  behindIt = null;
  const { signal } = running;
  const made = state.q || state.like ? showHits(state, signal, view.querySelector(".hits:not(:empty), .past")) : showPhotographs(corpus, state.filters, signal);
  view.replaceChildren(made.element);
  if (kind !== "load" && document.activeElement === document.body) view.querySelector("h1").focus({ preventScroll: true });
  shown = { ...made, url: sameBelow(state) };
  const scroll = kind === "push" ? 0 : history.state?.scroll ?? 0;
  scrollTo(0, scroll);
  await made.ready;
  if (shown?.element === made.element && scroll) scrollTo(0, scroll);
}

function showPhotograph(state, kind) {
  document.title = `${state.image} · ${corpus.name}`;
  if (shown?.image === state.image) return shown.update(state);
  if (shown && !shown.image) behindIt = { shown, scroll: scrollY, focus: document.activeElement };
  else leave();
  shown = openPhotograph(state, corpus, leavePhotograph);
  view.replaceChildren(shown.element);
  scrollTo(0, 0);
  if (kind !== "load") shown.focus();
}

function backToView() {
  shown?.close?.();
  shown = behindIt.shown;
  view.replaceChildren(shown.element);
  scrollTo(0, behindIt.scroll);
  if (behindIt.focus?.isConnected) behindIt.focus.focus({ preventScroll: true });
  behindIt = null;
}

function leavePhotograph() {
  address.go(address.behind(address.read()));
}

function leave() {
  shown?.close?.();
  shown = null;
}

function fillForm(state, kind) {
  const put = (field, value, before) => {
    // What was typed and not sent stays, until the address says something new of it.
    if (kind === "load" ? !field.value : kind === "replace" || value !== before) field.value = value;
  };
  put(form.q, state.q, filled?.q);
  for (const name of address.FILTERS) put(form[name], state.filters[name], filled?.filters[name]);
  const used = address.filtersInUse(state).length;
  document.getElementById("filter-count").textContent = used ? ` (${used})` : "";
  filled = state;
}

/** Put what the address says back into one field. */
function restore(name) {
  const state = address.read();
  form[name].value = name === "q" ? state.q : state.filters[name];
}

function clear(names) {
  for (const name of names) form[name].value = "";
}

function formState() {
  const values = Object.fromEntries(address.FILTERS.map((name) => [name, form[name].value.trim()]));
  return { q: form.q.value.trim(), filters: values, like: null, image: "" };
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const state = formState();
  const { like, label } = address.read();
  if (matchMedia("(max-width: 640px)").matches) filters.open = false;
  address.go(state.q ? state : { ...state, like, label });
});
document.getElementById("reset").addEventListener("click", () => {
  const { like, label } = address.read();
  clear(address.FILTERS);
  address.go({ ...formState(), like, label });
});
document.getElementById("home").addEventListener("click", (event) => {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  clear(["q", ...address.FILTERS]);
  address.go({ q: "", filters: {}, like: null, image: "" });
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says what is shown, and that stays
  view.focus();
});
// A field that holds what cannot be sent, such as a number out of an address, must be there to be mended.
filters.addEventListener("invalid", () => { filters.open = true; }, true);
filters.addEventListener("toggle", () => {
  if (filters.open && getComputedStyle(filters.closest(".top")).position === "static") scrollTo(0, 0); // where the fields are
});
const keys = document.getElementById("keys");
keys.addEventListener("click", (event) => {
  const { left, right, top, bottom } = keys.getBoundingClientRect();
  const inside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
  if (event.target === keys && !inside) keys.close();
});
document.getElementById("help").addEventListener("click", () => keys.showModal());
listenForKeys({ help: () => keys.showModal(), search: () => form.q.select(), restore, close: () => shown?.image && leavePhotograph() });

try {
  corpus = await ask("corpus");
  document.getElementById("corpus-name").textContent = corpus.name;
  if (!corpus.searchable) {
    form.q.disabled = form.querySelector(".primary").disabled = filters.hidden = true;
    form.q.placeholder = "This corpus has no embeddings to search";
  }
  openPictures(corpus.version);
  openPicks(corpus.identity);
  address.start(show);
} catch (error) {
  view.replaceChildren(problem(error.message));
}
