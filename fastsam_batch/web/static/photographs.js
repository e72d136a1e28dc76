// All photographs of the corpus, fetched a page at a time as one scrolls.

import { ask } from "./api.js";
import { count, h, problem, say, shortened } from "./dom.js";
import { picture } from "./pictures.js";
import { link, remember } from "./state.js";

const PAGE = 60;
const MOST = 200; // the server gives at once

/** The grid of photographs: its element, and `ready` once the first page is there. `filters` are those of a search to come. */
export function showPhotographs(corpus, filters, signal) {
  const note = [count(corpus.images, "photograph"), count(corpus.masks, "mask"), corpus.failed && `${corpus.failed} failed`,
    Object.values(filters).some(Boolean) && "filters apply once you search"];
  const cards = h("ul", { class: "cards photographs" });
  const more = h("button", { type: "button", class: "wide" }, "Show more photographs");
  const element = h("section", { "aria-label": "Photographs" },
    h("div", { class: "heading" }, h("h1", { tabindex: "-1" }, "Photographs"), h("p", { class: "note" }, note.filter(Boolean).join(" · "))),
    cards, more);

  let offset = 0;
  const before = history.state?.loaded ?? 0; // how many there were when one left this entry of the history
  let loading = null;
  let trouble = null; // the sentence on a page that did not come; the button asks for it again
  const load = () => (loading ??= next().finally(() => {
    loading = null;
    seen.unobserve(more); // observed anew, it tells whether there is still room to fill
    seen.observe(more);
  }));
  async function next() {
    try {
      const limit = Math.min(Math.max(before - offset, PAGE), MOST);
      const { images, total } = await ask("images", { offset, limit }, { signal });
      trouble?.remove();
      trouble = null;
      cards.append(...images.map((image) => card(image, filters)));
      offset += images.length;
      if (element.isConnected) remember({ loaded: offset }); // and not with a photograph that lies over it
      if (offset < Math.min(before, total) && images.length) return next();
      more.hidden = offset >= total || !images.length;
      if (offset > PAGE) say(`${offset} of ${count(total, "photograph")} shown.`);
    } catch (error) {
      if (error.name === "AbortError") return;
      trouble?.remove();
      trouble = problem(error.message);
      more.before(trouble);
    }
  }
  more.addEventListener("click", load);
  const seen = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && !more.hidden && !trouble) load();
  }, { rootMargin: "800px" });
  return { element, ready: load(), close: () => seen.disconnect() };
}

function card(image, filters) {
  if (image.status !== "ok") {
    return h("li", { style: { "--shape": 4 / 3 } },
      h("p", { class: "missing" }, `${image.image_id}: ${image.error_message ?? image.error_kind}`));
  }
  const shape = Math.min(Math.max(image.width / image.height, 0.6), 2.6);
  return h("li", { style: { "--shape": shape.toFixed(3) } },
    h("a", { class: "open", "aria-label": `Open ${image.image_id}, ${count(image.n_masks, "mask")}`,
      ...link({ q: "", filters, like: null, image: image.image_id, mask: null, prompts: [] }) },
      picture("thumbnail", { image: image.image_id }, { alt: "" })),
    h("div", { class: "words" },
      shortened(image.image_id),
      h("span", { class: "detail" }, count(image.n_masks, "mask"))));
}
