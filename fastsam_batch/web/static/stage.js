// The photograph with its masks over it: hover, click, drag, and a cross for the keys.

import { count, h, say, svg } from "./dom.js";
import { letter } from "./keys.js";
import { picture } from "./pictures.js";
import { promptParts } from "./state.js";

const DRAG = 6; // pixels on the screen that make a click a box

/**
 * The stage of an image (the answer of /api/image). `onprompt(text)` gets what was asked for, `onhover(mask)`
 * the mask under the pointer or null, `mode()` is what a plain click means: add, not or box.
 */
export function makeStage(image, { onprompt, onhover, mode }) {
  const { width, height } = image;
  const unit = Math.max(width, height) / 1000;
  const rows = new Map(image.masks.map((mask) => [mask.mask_index, mask]));
  const paths = new Map(image.masks.map((mask) => [mask.mask_index,
    svg("path", { d: mask.path, class: "mask", "fill-rule": "evenodd", style: { "--colour": mask.colour }, "data-mask": mask.mask_index })]));
  const masks = svg("g", { class: "masks" }, [...paths.values()]);
  const lit = svg("g", { class: "lit" });
  const boxes = svg("g", { class: "boxes" });
  const points = h("div", { class: "points", "aria-hidden": "true" });
  const drag = svg("rect", { class: "drag", visibility: "hidden" });
  const cross = h("span", { class: "cross", hidden: true, "aria-hidden": "true" });
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    masks, lit, boxes, drag);
  const label = h("span", { class: "hover-label", hidden: true, "aria-hidden": "true" });
  const photograph = picture("photograph", { image: image.image_id }, { alt: "", width, height, loading: "eager", decoding: "auto", draggable: "false" });
  const element = h("div", {
    class: "stage",
    tabindex: "0",
    role: "application",
    "aria-roledescription": "photograph",
    "aria-label": `${image.image_id}, ${count(image.masks.length, "mask")}. Arrow keys move a cross, Enter adds the masks there, `
      + "Shift Enter takes them away, B begins and ends a box.",
    style: { "--shape": (width / height).toFixed(4) },
  }, photograph, drawing, points, cross, label);

  const place = (event) => {
    const box = drawing.getBoundingClientRect();
    const inside = (value, size) => Math.min(Math.max(value, 0), size);
    return [inside((event.clientX - box.left) / box.width * width, width), inside((event.clientY - box.top) / box.height * height, height)];
  };
  const pixel = ([x, y]) => `${Math.min(Math.floor(x), width - 1)},${Math.min(Math.floor(y), height - 1)}`;
  const point = (at, away) => onprompt(`${away ? "not" : "add"}:${pixel(at)}`);

  const put = (mark, x, y) => {
    mark.style.left = `${(x + 0.5) / width * 100}%`;
    mark.style.top = `${(y + 0.5) / height * 100}%`;
  };

  let hovered = null;
  function hover(index, at) {
    if (index !== hovered) {
      paths.get(hovered)?.classList.remove("on");
      paths.get(index)?.classList.add("on");
      hovered = index;
      const mask = rows.get(index);
      label.hidden = !mask;
      if (mask) label.textContent = `Mask ${index} · ${mask.area.toLocaleString("en")} px · score ${mask.score.toFixed(2)}`;
      onhover(index);
    }
    if (!label.hidden) placeLabel(at, rows.get(index).bbox);
  }

  /** The label beside the pointer, or without one at the mask; inside the stage. */
  function placeLabel(pointer, [x, y]) {
    const box = element.getBoundingClientRect();
    label.style.left = label.style.top = 0; // measured where nothing makes it narrower
    const [wide, high] = [label.offsetWidth, label.offsetHeight];
    let [left, top] = [x / width * box.width, y / height * box.height - high - 6];
    if (pointer) {
      [left, top] = [pointer.clientX - box.left + 16, pointer.clientY - box.top - high - 8];
      if (left + wide > box.width - 4) left -= wide + 32;
    }
    label.style.left = `${Math.max(Math.min(left, box.width - wide - 4), 4)}px`;
    label.style.top = `${Math.max(Math.min(top, box.height - high - 4), 4)}px`;
  }
  const under = (event) => {
    const found = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-mask]");
    return found && element.contains(found) ? Number(found.dataset.mask) : null;
  };

  let touched = false; // by a finger, the last time; Safari before 18.4 does not say it of a click
  let start = null; // where the pointer went down
  let box = null; // the box that is drawn, x1 y1 x2 y2
  const corners = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  function showBox(value) {
    box = value;
    drag.setAttribute("visibility", value ? "visible" : "hidden");
    if (!value) return;
    const [x1, y1, x2, y2] = value;
    for (const [name, number] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) drag.setAttribute(name, number);
  }
  const finishBox = () => {
    const [x1, y1, x2, y2] = box.map(Math.round);
    showBox(null);
    if (x2 > x1 && y2 > y1) onprompt(`box:${x1},${y1},${x2},${y2}`);
  };

  drawing.addEventListener("pointerdown", (event) => {
    // A finger scrolls the page unless it is to draw a box; its tap comes as a click.
    touched = event.pointerType === "touch";
    if (event.button !== 0 || (touched && mode() !== "box")) return;
    event.preventDefault();
    element.focus({ preventScroll: true }); // so that Escape gives the box up
    cross.hidden = true;
    drawing.setPointerCapture(event.pointerId);
    start = { at: place(event), x: event.clientX, y: event.clientY };
  });
  drawing.addEventListener("pointermove", (event) => {
    if (!start) return event.pointerType === "touch" ? undefined : hover(under(event), event);
    if (box || Math.hypot(event.clientX - start.x, event.clientY - start.y) > DRAG) {
      hover(null);
      showBox(corners(start.at, place(event)));
    }
  });
  drawing.addEventListener("pointerup", (event) => {
    if (!start) return;
    const { at } = start;
    start = null;
    if (box) finishBox();
    else if (mode() !== "box") point(at, event.shiftKey || event.altKey || mode() === "not");
  });
  drawing.addEventListener("pointercancel", () => {
    start = null;
    showBox(null);
  });
  drawing.addEventListener("pointerleave", () => start || hover(null));
  drawing.addEventListener("click", (event) => {
    if (touched && mode() !== "box") point(place(event), mode() === "not");
  });

  let at = [width / 2, height / 2]; // the cross
  let anchor = null; // where the keys began a box
  let telling = 0; // the sentence that waits for the cross to rest
  function moveCross(to) {
    at = [Math.min(Math.max(to[0], 0), width - 1), Math.min(Math.max(to[1], 0), height - 1)];
    const [x, y] = at;
    put(cross, x, y);
    cross.hidden = false;
    if (anchor) showBox(corners(anchor, at));
    const [found] = [...paths].findLast(([, path]) => path.isPointInFill(new DOMPoint(x + 0.5, y + 0.5))) ?? [null];
    hover(found);
    clearTimeout(telling);
    telling = setTimeout(() => {
      const mask = rows.get(found);
      say(`${mask ? `Mask ${found}, ${mask.area.toLocaleString("en")} px` : "No mask"}; ${at.map(Math.floor).join(", ")}`);
    }, 300);
  }
  element.addEventListener("focus", () => element.matches(":focus-visible") && moveCross(at));
  element.addEventListener("blur", () => {
    cross.hidden = true;
    clearTimeout(telling);
  });
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    const step = (event.shiftKey ? 80 : 16) * unit;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) {
      moveCross([at[0] + moves[event.key][0], at[1] + moves[event.key][1]]);
      cross.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" || event.key === " ") {
      point(at, event.shiftKey || event.altKey || mode() === "not");
    } else if (letter(event) === "b" && anchor) {
      anchor = null;
      if (box) finishBox();
    } else if (letter(event) === "b") {
      anchor = [...at];
      say("Box begun. Move the cross, then press B again.");
    } else if (event.key === "Escape" && (anchor || start)) {
      anchor = start = null;
      showBox(null);
    } else return;
    event.preventDefault();
  });

  /** Light a mask or a union (an SVG path), dim the rest; an empty path lights nothing. */
  function light(path) {
    element.classList.toggle("dimmed", Boolean(path));
    lit.replaceChildren(...(path ? [
      svg("path", { class: "dim", "fill-rule": "evenodd", d: `M0,0H${width}V${height}H0Z${path}` }),
      svg("path", { class: "edge casing", d: path }),
      svg("path", { class: "edge", d: path }),
    ] : []));
  }

  /** Draw the prompts: points with + or -, boxes. */
  function mark(prompts) {
    points.replaceChildren();
    boxes.replaceChildren();
    for (const prompt of prompts) {
      const [kind, value] = promptParts(prompt);
      const numbers = value.split(",").map(Number);
      if (!numbers.every(Number.isFinite)) continue; // words, or an address that is not as it should be
      const [x1, y1, x2, y2] = numbers;
      if (kind === "box" && numbers.length === 4) {
        boxes.append(svg("rect", { class: "box", x: x1, y: y1, width: Math.max(x2 - x1, 0), height: Math.max(y2 - y1, 0) }));
      } else if (kind === "add" || kind === "not") {
        const point = h("span", { class: `point ${kind}` });
        put(point, x1, y1);
        points.append(point);
      }
    }
  }

  return { element, light, mark, hover };
}
