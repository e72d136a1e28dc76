// Elements without a framework: what the other modules build the page with.

const SVG = "http://www.w3.org/2000/svg";

/** An element; properties that start with "on" are listeners, null and false ones are left out. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, set] of Object.entries(value)) element.style.setProperty(key, set);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A sentence on what went wrong, in the place of what was asked for. */
export function problem(text) {
  return h("p", { class: "none problem", role: "alert" }, text);
}

/** Tell those who listen to the page rather than look at it. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** A name whose middle is left out where there is no room for it: names of one folder differ at their ends. */
export function shortened(name) {
  const letters = [...name];
  const ending = letters.length > 14 ? 10 : 0;
  return h("span", { class: "title", title: name, dir: "auto" },
    h("span", {}, letters.slice(0, letters.length - ending).join("")),
    ending > 0 && h("span", { class: "ending" }, letters.slice(-ending).join("")));
}

/** A file the user gets under a name. */
export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
