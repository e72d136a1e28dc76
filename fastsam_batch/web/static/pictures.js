// A picture of the server, or in its place the sentence that says why there is none.

import { address, sentence } from "./api.js";
import { h } from "./dom.js";

let version = "";

/** Take up the version of the corpus: the browser keeps pictures, and another corpus has others under the same names. */
export function openPictures(ofCorpus) {
  version = ofCorpus;
}

export function picture(path, parameters, properties) {
  const image = h("img", { loading: "lazy", decoding: "async", ...properties, src: address(path, { ...parameters, v: version }) });
  image.addEventListener("error", async () => {
    let reason = "The picture cannot be shown.";
    try {
      const response = await fetch(image.src);
      if (!response.ok) reason = await sentence(response);
    } catch { /* the server is gone; the sentence above stands */ }
    const named = image.closest("a[aria-label]"); // what is seen of a link is in its name
    if (named) named.setAttribute("aria-label", `${named.getAttribute("aria-label")}. ${reason}`);
    image.replaceWith(h("span", { class: "missing" }, reason));
  }, { once: true });
  return image;
}
