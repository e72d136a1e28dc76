// The prompts of a photograph as chips: what was asked for, how well words were answered, and a × to take each back.

import { h } from "./dom.js";
import { promptParts } from "./state.js";

/** Chips of prompts in their order. `texts` are the answers to words so far, `remove(place)` takes a prompt back. */
export function chips(prompts, texts, remove) {
  return prompts.map((prompt, place) => {
    const [name, detail] = named(prompt);
    const [kind, value] = promptParts(prompt);
    const answer = kind === "text" && texts.find(({ text }) => text === value);
    return h("li", {},
      h("span", { class: "asked" }, name, " ", h("span", { class: "detail" }, answer ? `cosine ${answer.similarity.toFixed(3)}` : detail)),
      answer?.weak && h("span", { class: "weak", title: "A search would not show this mask: it may be something else" }, "weak match"),
      h("button", { type: "button", onclick: () => remove(place), title: "Take back" },
        h("span", { "aria-hidden": "true" }, "×"), h("span", { class: "hidden" }, `Take back ${name} ${detail}`)));
  });
}

/** What a prompt of the address is, and its numbers. */
function named(prompt) {
  const [kind, value] = promptParts(prompt);
  const numbers = value.split(",").join(", ");
  if (kind === "add") return ["+ point", numbers];
  if (kind === "not") return ["− point", numbers];
  if (kind === "box") return ["Box", numbers];
  return kind === "text" ? [`“${value}”`, ""] : [prompt, ""];
}
