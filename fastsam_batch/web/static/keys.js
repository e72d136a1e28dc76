// Keys that work anywhere on the page. Those of one card or one photograph live with it.

const typing = (target) => target.closest("input:not([type=radio], [type=checkbox]), textarea, select, dialog");

/** The letter of a key that is a command, Caps Lock or not; "" where it is typed into a field or belongs to the browser. */
export function letter(event) {
  const taken = event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.key?.length !== 1;
  return taken || typing(event.target) || document.querySelector("dialog[open]") ? "" : event.key.toLowerCase();
}

/** `restore` puts what the address says back into the field, of the search, that Escape leaves. */
export function listenForKeys({ help, search, restore, close }) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") {
      if (document.querySelector("dialog[open]")) return;
      if (!typing(event.target)) return close();
      event.preventDefault(); // a search field would lose its words
      if (event.target.form?.id === "search") restore(event.target.name);
      event.target.blur();
    } else if (typing(event.target)) {
      return;
    } else if (event.key === "/") {
      event.preventDefault();
      search();
    } else if (event.key === "?") {
      help();
    } else if (event.key.startsWith("Arrow") && !event.target.closest("[role=application]")) {
      if (walk(event.target, event.key)) event.preventDefault();
    }
  });
}

/** Move the focus between cards, over as many columns as there are. */
function walk(from, key) {
  const cards = [...document.querySelectorAll("#view .cards:not(.past) > li .open")];
  if (!cards.length) return false;
  const at = cards.indexOf(from.closest("li")?.querySelector(".open"));
  if (at < 0) {
    const top = Math.max(document.querySelector(".top").getBoundingClientRect().bottom, 0);
    (cards.find((card) => card.getBoundingClientRect().top >= top) ?? cards[0]).focus(); // the first in sight
    return true;
  }
  const next = key === "ArrowRight" ? cards[at + 1] : key === "ArrowLeft" ? cards[at - 1] : beside(cards, at, key === "ArrowDown");
  next?.focus();
  return Boolean(next);
}

/** The card below or above, nearest in the line. */
function beside(cards, at, down) {
  const here = cards[at].getBoundingClientRect();
  const centre = (box) => box.left + box.width / 2;
  const lines = cards.map((card) => ({ card, box: card.getBoundingClientRect() }))
    .filter(({ box }) => (down ? box.top >= here.bottom - 1 : box.bottom <= here.top + 1));
  if (!lines.length) return null;
  const line = down ? Math.min(...lines.map(({ box }) => box.top)) : Math.max(...lines.map(({ box }) => box.top));
  return lines.filter(({ box }) => Math.abs(box.top - line) < 2)
    .sort((a, b) => Math.abs(centre(a.box) - centre(here)) - Math.abs(centre(b.box) - centre(here)))[0].card;
}
