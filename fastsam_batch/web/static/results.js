// Hits of a search as cards.

import { ask } from "./api.js";
import { count, h, problem, say, shortened } from "./dom.js";
import { letter } from "./keys.js";
import { picture } from "./pictures.js";
import { pickButton, toggle } from "./picks.js";
import { filtersInUse, go, goLike, link } from "./state.js";

/**
 * The view of a search: its element, and `ready` once the hits are there. `past` is the list of the hits shown so far,
 * or null: it stays, dimmed, until there are others.
 */
export function showHits(state, signal, past) {
  const title = state.q ? `“${state.q}”` : "More like this mask";
  const note = h("p", { class: "note" }, "Searching …");
  const cards = h("ol", { class: "cards hits" });
  const heading = h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, title), note);
  const element = h("section", { "aria-label": title, "aria-busy": "true" }, heading, state.like && source(state), cards, past);
  past?.setAttribute("class", "cards past");
  past?.toggleAttribute("inert", true);
  return { element, ready: load(state, signal, element, note, cards, past) };
}

async function load(state, signal, element, note, cards, past) {
  try {
    const { filters, q, like } = state;
    const { hits } = q
      ? await ask("search", { q, ...filters }, { signal })
      : await ask("like", { image: like.image, mask: like.mask, ...filters }, { signal });
    past?.remove();
    const words = [hits.length ? summary(hits) : nothing(state), !q && filters.min_calibrated && "least certainty is for words alone"]
      .filter(Boolean).join(" · ");
    note.textContent = words;
    say(words);
    cards.append(...hits.map((hit, place) => card(hit, place, state)));
    if (!hits.length && q && filters.min_calibrated !== "0" && await anyNear(state, signal)) {
      const anyway = () => go({ ...state, filters: { ...filters, min_calibrated: "0" } });
      element.append(h("button", { type: "button", onclick: anyway }, "Show the nearest masks anyway"));
    }
  } catch (error) {
    if (error.name === "AbortError") return; // the hits of the past lie in the view that comes after
    past?.remove();
    note.textContent = "";
    element.append(problem(error.message));
  }
  element.setAttribute("aria-busy", "false");
}

/** Whether the threshold alone left nothing: no other filter is widened by showing the nearest. */
async function anyNear({ q, filters }, signal) {
  const { hits } = await ask("search", { q, ...filters, min_calibrated: "0", top_k: "1" }, { signal });
  return hits.length > 0;
}

function summary(hits) {
  const [best, last] = [hits[0], hits.at(-1)].map((hit) => hit.similarity.toFixed(3));
  const photographs = new Set(hits.map((hit) => hit.image_id)).size;
  return `${count(hits.length, "mask")} in ${count(photographs, "photograph")}, cosine ${best}${best === last ? "" : ` to ${last}`}`;
}

function nothing(state) {
  return filtersInUse(state).some((name) => name !== "top_k") ? "No mask passes the filters." : "No mask looks enough like this.";
}

function source({ like }) {
  return h("p", { class: "source" },
    picture("card", { image: like.image, mask: like.mask }, { alt: "", width: 128, height: 96 }),
    h("span", {}, `Mask ${like.mask} of ${like.image}`));
}

/** The calibrated score; none is certain. */
const sure = (hit) => `sure ${Math.min(Math.floor(100 * hit.calibrated), 99)} %`;

function card(hit, place, state) {
  const name = `mask ${hit.mask_index} of ${hit.image_id}`;
  const cosine = `cosine ${hit.similarity.toFixed(3)}`;
  const label = () => state.q || state.label || "object";
  const open = link({ ...state, image: hit.image_id, mask: hit.mask_index, prompts: [], smallest: false });
  const more = () => goLike(state, hit, state.q || state.label);
  return h("li", {
    onkeydown: (event) => {
      if (letter(event) === "x") toggle(hit, label());
      if (letter(event) === "m") more();
    },
  },
    h("a", { class: "open", ...open,
      "aria-label": `Open ${[name, hit.calibrated !== null && sure(hit), cosine].filter(Boolean).join(", ")}` },
      picture("card", { image: hit.image_id, mask: hit.mask_index },
        { alt: "", width: 512, height: 384, loading: place < 8 ? "eager" : "lazy" })),
    h("div", { class: "words" },
      hit.calibrated === null
        ? h("span", { class: "score", title: "How much the masks look alike" }, cosine)
        : h("span", { class: "score", title: "That it is this rather than some hundred other things" }, sure(hit)),
      hit.calibrated !== null && h("span", { class: "detail", title: "Between text and mask" }, cosine),
      shortened(hit.image_id),
      h("span", { class: "detail extra" }, `${hit.area.toLocaleString("en")} px`)),
    h("div", { class: "actions" },
      h("button", { type: "button", class: "more", onclick: more, title: "More like this (M)" },
        "More like this", h("span", { class: "hidden" }, ` ${name}`)),
      pickButton(hit, label, name)));
}
