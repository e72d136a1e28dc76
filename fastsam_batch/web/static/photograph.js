// One photograph: the stage, the prompts in the address, their answer, and the list of masks.

import { address, ask } from "./api.js";
import { chips } from "./chips.js";
import { count, h, problem, say } from "./dom.js";
import { letter } from "./keys.js";
import { pick, pickButton, toggle } from "./picks.js";
import { makeStage } from "./stage.js";
import { go, goLike } from "./state.js";

const MODES = [["add", "Add"], ["not", "Take away"], ["box", "Box"]];
const selects = (prompt) => !prompt.startsWith("not:");

/** The view of state.image. `leave` goes back to what lies behind it. */
export function openPhotograph(first, corpus, leave) {
  let state = first;
  let image = null;
  let stage = null;
  let mode = "add";
  let running = new AbortController();
  let answered = { mask_indices: [], texts: [] }; // by /api/select
  const rows = new Map(); // mask_index to its line in the list

  const title = h("h1", { tabindex: "-1" }, state.image);
  const note = h("p", { class: "note" });
  const frame = h("div", { class: "frame", "aria-busy": "true" });
  const asks = h("ul", { class: "chips", "aria-label": "Prompts", hidden: true });
  const answer = h("div", { class: "told" });
  const list = h("ul", { class: "mask-list" });
  const tools = makeTools();
  const panel = h("aside", { class: "panel", "aria-label": "Prompts and masks" }, tools.element,
    h("div", { class: "answer" }, asks, answer), h("h2", { id: "masks-title" }, "Masks"), list);
  const element = h("section", { class: "photograph", "aria-label": state.image },
    h("div", { class: "heading" },
      h("button", { type: "button", class: "quiet back", onclick: leave, "aria-label": "Back (Escape)" }, "← Back"), title, note),
    h("div", { class: "desk" }, frame, panel));
  const closing = new AbortController();
  // Wherever the focus is: a click on the ground leaves it nowhere.
  document.addEventListener("keydown", (event) => {
    if (letter(event) === "u") undo();
    if (letter(event) === "v") tools.toggleMasks();
  }, { signal: closing.signal });
  load();

  async function load() {
    try {
      image = await ask("image", { image: state.image }, { signal: closing.signal });
    } catch (error) {
      return fail(error);
    }
    frame.removeAttribute("aria-busy");
    note.textContent = [count(image.masks.length, "mask"), image.width && `${image.width} × ${image.height}`].filter(Boolean).join(" · ");
    if (image.status !== "ok") return fail(new Error(image.error_message ?? image.error_kind));
    stage = makeStage(image, { onprompt: prompt, onhover: (index) => lightRow(index), mode: () => mode });
    stage.element.classList.toggle("without-masks", !tools.masksShown());
    frame.append(stage.element);
    for (const mask of image.masks) rows.set(mask.mask_index, line(mask));
    list.append(...rows.values());
    await update(state);
  }

  function fail(error) {
    if (error.name === "AbortError") return;
    frame.removeAttribute("aria-busy");
    frame.replaceChildren(problem(error.message));
    panel.hidden = true; // there is nothing to select on
  }

  function prompt(text) {
    go({ ...state, mask: null, prompts: [...state.prompts, text] });
  }

  function undo() {
    if (state.prompts.length) go({ ...state, prompts: state.prompts.slice(0, -1) });
  }

  function asked() {
    return { image: state.image, prompt: state.prompts, smallest: state.smallest ? 1 : "" };
  }

  /** Show another state of the same photograph. */
  async function update(next) {
    state = next;
    tools.update();
    if (!stage) return;
    running.abort();
    running = new AbortController();
    const { signal } = running;
    stage.mark(state.prompts);
    const asking = state.prompts.some(selects);
    answer.inert = asking; // until there is one to what is asked now
    showPrompts({ mask_indices: [], texts: asking ? answered.texts : [] });
    if (!asking) {
      const mask = image.masks.find((each) => each.mask_index === state.mask);
      stage.light(state.prompts.length ? "" : mask?.path ?? "");
      showChosen(mask ? [mask.mask_index] : []);
      answer.replaceChildren(mask ? chosenMask(mask) : h("p", {}, hint()));
      reveal(rows.get(state.mask));
      return;
    }
    try {
      const found = await ask("select", asked(), { signal });
      showPrompts(found);
      stage.light(found.path);
      showChosen(found.mask_indices);
      answer.inert = false;
      answer.replaceChildren(...union(found));
    } catch (error) {
      if (error.name === "AbortError") return;
      stage.light("");
      answer.inert = false;
      showPrompts({ mask_indices: [], texts: [] });
      showChosen([]);
      answer.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
    }
  }

  /** The prompts as chips, above what they give. */
  function showPrompts(found) {
    answered = found;
    const focused = [...asks.querySelectorAll("button")].indexOf(document.activeElement);
    const remove = (place) => go({ ...state, prompts: state.prompts.filter((_, each) => each !== place) });
    asks.replaceChildren(...chips(state.prompts, found.texts, remove));
    asks.hidden = !state.prompts.length;
    if (focused < 0) return;
    const left = asks.querySelectorAll("button"); // the focus stays in the line, or goes to what is left without it
    (left[Math.min(focused, left.length - 1)] ?? title).focus({ preventScroll: true });
  }

  function hint() {
    return state.prompts.length
      ? "A background point alone takes nothing away. Add a point, a box or words."
      : "Click a thing to select the masks around it, drag a box, or say what it is.";
  }

  function union(found) {
    const share = found.area / (image.width * image.height);
    const words = found.area
      ? `${count(found.mask_indices.length, "mask")}, ${found.area.toLocaleString("en")} px, ${(100 * share).toFixed(1)} % of the photograph`
      : "No mask answers.";
    say(found.area ? `Selected ${words}` : words);
    if (!found.area) return [h("p", {}, words)];
    const masks = found.mask_indices.map((mask_index) => ({ image_id: state.image, mask_index, label: label(mask_index) }));
    return [h("p", {}, h("strong", {}, "Union "), words),
      h("div", { class: "actions" },
        masks.length > 0 && h("button", { type: "button", onclick: () => pick(masks) }, `Pick ${masks.length === 1 ? "it" : "them"}`),
        h("a", { class: "button", download: "selection.json", href: address("selection.json", asked()) }, "JSON"),
        h("a", { class: "button", download: "selection.png", href: address("selection.png", asked()) }, "PNG"))];
  }

  /** The words that select a mask here, or else those it was found by. */
  function words(index) {
    const own = answered.texts.filter(({ mask_index }) => mask_index === index).sort((a, b) => b.similarity - a.similarity);
    if (own.length) return own[0].text;
    const asked = new Set(answered.texts.map(({ text }) => text));
    const alone = asked.size === 1 && answered.mask_indices.includes(index); // points and boxes that complete one thing
    return (alone && [...asked][0]) || state.q || state.label;
  }

  /** What a mask is picked as. */
  const label = (index) => words(index) || "object";

  function chosenMask(mask) {
    return h("p", {}, h("strong", {}, `Mask ${mask.mask_index} `),
      `${mask.area.toLocaleString("en")} px, score ${mask.score.toFixed(2)}, stability ${mask.stability.toFixed(2)}`);
  }

  function showChosen(indices) {
    const chosen = new Set(indices);
    for (const [index, row] of rows) {
      row.classList.toggle("chosen", chosen.has(index));
      row.querySelector(".chosen-note").textContent = chosen.has(index) ? ", selected" : "";
    }
    const focused = list.contains(document.activeElement) && document.activeElement;
    const order = [...rows].sort(([a], [b]) => chosen.has(b) - chosen.has(a)).map(([, row]) => row);
    list.append(...order); // the chosen first; a line that is moved loses the focus
    if (focused) focused.focus({ preventScroll: true });
  }

  const listScrolls = () => list.scrollHeight > list.clientHeight;

  /** Bring a row into the list's window; never by moving the page, which would scroll the photograph away. */
  function reveal(row) {
    if (!row || !listScrolls()) return;
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight];
    list.scrollTop = Math.min(top, Math.max(list.scrollTop, bottom - list.clientHeight));
  }

  function choose(mask) {
    go({ ...state, prompts: [], mask: mask.mask_index });
    if (!listScrolls()) frame.scrollIntoView({ block: "nearest" }); // below the photograph: what is lit is up there
  }

  function lightRow(index) {
    for (const [each, row] of rows) row.classList.toggle("on", each === index);
  }

  function line(mask) {
    const target = { image_id: state.image, mask_index: mask.mask_index };
    const hover = (on) => () => stage.hover(on ? mask.mask_index : null);
    const more = () => goLike(state, target, words(mask.mask_index));
    const key = (event) => {
      if (letter(event) === "x") toggle(target, label(mask.mask_index));
      if (letter(event) === "m" && corpus.searchable) more();
    };
    return h("li", { onpointerenter: hover(true), onpointerleave: hover(false), onfocusin: hover(true), onfocusout: hover(false), onkeydown: key },
      h("button", { type: "button", class: "name", style: { "--colour": mask.colour },
        onclick: () => choose(mask) },
        h("span", { class: "swatch", "aria-hidden": "true" }), h("span", {}, `Mask ${mask.mask_index}`),
        h("span", { class: "detail" }, `${mask.area.toLocaleString("en")} px · ${mask.score.toFixed(2)}`),
        h("span", { class: "hidden chosen-note" })),
      corpus.searchable && h("button", { type: "button", class: "more", onclick: more, title: "More like this (M)" },
        "More like this", h("span", { class: "hidden" }, ` mask ${mask.mask_index}`)),
      pickButton(target, () => label(mask.mask_index), `mask ${mask.mask_index} of ${state.image}`));
  }

  function makeTools() {
    const modes = MODES.map(([value, name]) => {
      const radio = h("input", { type: "radio", name: "mode", value, checked: value === mode, onchange: () => setMode(value) });
      return h("label", {}, radio, h("span", {}, name));
    });
    const smallest = h("input", { type: "checkbox", onchange: () => go({ ...state, smallest: smallest.checked }) });
    const masks = h("input", { type: "checkbox", checked: true, onchange: () => stage?.element.classList.toggle("without-masks", !masks.checked) });
    const words = h("input", { type: "text", maxlength: "300", placeholder: "a cup", "aria-label": "Select by words", spellcheck: "false" });
    const undoButton = h("button", { type: "button", onclick: undo, title: "Undo (U)" }, "Undo");
    const clearButton = h("button", { type: "button", onclick: () => go({ ...state, prompts: [], mask: null }) }, "Clear");
    const byWords = h("form", { class: "by-words", onsubmit: (event) => {
      event.preventDefault();
      if (words.value.trim()) prompt(`text:${words.value.trim()}`);
      words.value = "";
    } }, words, h("button", { type: "submit" }, "Select"));
    const box = h("div", { class: "tools" },
      h("fieldset", { class: "modes" }, h("legend", { class: "hidden" }, "A click or tap"), modes),
      corpus.searchable && byWords,
      h("div", { class: "checks" },
        h("label", {}, smallest, " Smallest mask only"),
        h("label", {}, masks, " Show all masks")),
      h("div", { class: "actions" }, undoButton, clearButton));
    function setMode(value) {
      mode = value;
      stage?.element.classList.toggle("boxing", value === "box");
    }
    return {
      element: box,
      masksShown: () => masks.checked,
      toggleMasks: () => masks.click(),
      update() {
        smallest.checked = state.smallest;
        clearButton.disabled = !state.prompts.length && state.mask === null;
        undoButton.disabled = !state.prompts.length;
      },
    };
  }

  return {
    element,
    image: state.image,
    update,
    focus: () => title.focus({ preventScroll: true }),
    close() {
      running.abort();
      closing.abort();
    },
  };
}
