// What is shown is in the address, all of it, so that back, forward, reload and a sent link work.

export const FILTERS = ["not", "where", "min_calibrated", "min_score", "min_area", "max_area", "per_image", "distinct", "top_k"];

/** The state of an address: q, filters, like {image, mask}, label (the words that led to like), image, mask, prompts (in order), smallest. */
export function read(url = new URL(location.href)) {
  const get = (name) => url.searchParams.get(name) ?? "";
  const like = get("like").match(/^(\d+)@(.+)$/s);
  return {
    q: get("q"),
    filters: Object.fromEntries(FILTERS.map((name) => [name, get(name)])),
    like: like && { mask: Number(like[1]), image: like[2] },
    label: get("label"),
    image: get("image"),
    mask: /^\d+$/.test(get("mask")) ? Number(get("mask")) : null,
    prompts: url.searchParams.getAll("prompt"),
    smallest: get("smallest") === "1",
  };
}

/** The address of a state. */
export function write(state) {
  const query = new URLSearchParams();
  const put = (name, value) => value && query.append(name, value);
  put("q", state.q);
  put("like", state.like && `${state.like.mask}@${state.like.image}`);
  put("label", state.like && state.label);
  for (const name of FILTERS) put(name, state.filters?.[name]);
  put("image", state.image);
  if (state.image) {
    if (state.mask !== null && state.mask !== undefined) query.append("mask", state.mask);
    for (const prompt of state.prompts ?? []) put("prompt", prompt);
    if (state.smallest) query.append("smallest", "1");
  }
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

/** The filters that a state's search goes by: with an example there is no calibrated score. */
export function filtersInUse({ q, like, filters }) {
  return FILTERS.filter((name) => filters[name] && (q || !like || name !== "min_calibrated"));
}

/** The state without its photograph: what lies behind it. */
export function behind(state) {
  return { ...state, image: "", mask: null, prompts: [], smallest: false };
}

let render = () => {};

/** Call `show(state, kind)` now and whenever the address changes; kind is "load", "push", "replace" or "pop". */
export function start(show) {
  render = show;
  history.scrollRestoration = "manual";
  addEventListener("popstate", () => render(read(), "pop"));
  let waiting = 0;
  addEventListener("scroll", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => remember({ scroll: scrollY }), 150);
  }, { passive: true });
  render(read(), "load");
}

/** Go to a state: a new entry of the history. */
export function go(state) {
  const url = write(state);
  if (url === location.pathname + location.search) return render(read(), "replace");
  remember({ scroll: scrollY });
  history.pushState({}, "", url);
  render(read(), "push");
}

/** Search for what looks like a mask; `label` are the words that led to it. */
export function goLike({ filters }, { image_id, mask_index }, label) {
  go({ q: "", filters, like: { image: image_id, mask: mask_index }, label, image: "" });
}

/** A prompt's kind (add, not, box or text) and what it says. */
export function promptParts(prompt) {
  const end = prompt.indexOf(":");
  return [prompt.slice(0, end), prompt.slice(end + 1)];
}

/** Properties of a link to a state: a plain click goes there in this page, any other is the browser's. */
export function link(state) {
  return {
    href: write(state),
    onclick: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      go(state);
    },
  };
}

/** Keep something with the present entry of the history. */
export function remember(notes) {
  history.replaceState({ ...history.state, ...notes }, "");
}
