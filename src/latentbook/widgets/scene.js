// Shared by the figures with an attention window: a scene with its box, and inputs for scale and shifts.
// Every gesture ends in a new value of the trait `where`, [scale, shift_x, shift_y].

const MARGIN = 0.15; // of the scene, on each side of it, so that the box can leave it
const SCALES = [0.8, 10];
const PARTS = ["scale", "shift_x", "shift_y"];
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const reach = (scale) => 1.2 * scale + 1; // the largest shift: the box still shows in the margin
const signed = (value, digits = 3) => (Number(value.toFixed(digits)) || 0).toFixed(digits).replace("-", "\u2212");

// A `where` as gestures leave it: within bounds, three places, so that what is shown is what is.
function settle([scale, x, y]) {
  const s = clamp(Math.round(1000 * scale) / 1000, ...SCALES), most = reach(s);
  return [s, ...[x, y].map((shift) => clamp(Math.round(1000 * shift) / 1000, -most, most) || 0)];
}

// Whether a link may ask for this `where`.
const isWindow = (where) => Array.isArray(where) && where.length === 3 && where.every(Number.isFinite)
  && settle(where).every((value, k) => Math.abs(value - where[k]) < 0.001);

// Centre and half side of the window, from -1 to 1 over the canvas; and the `where` that has them.
const boxOf = ([scale, x, y]) => ({ x: -x / scale, y: -y / scale, half: 1 / scale });
const whereOf = ({ x, y, half }) => {
  const scale = clamp(1 / half, ...SCALES);
  return settle([scale, -scale * x, -scale * y]);
};

// The box on a scene, in its pixels from the outer edge of the first: box_corners in latentbook.spatial_transformer.
function edgesOf(where, { width, height }) {
  const { x, y, half } = boxOf(where), [left, right] = [x - half, x + half].map((u) => ((u + 1) * width) / 2);
  const [top, bottom] = [y - half, y + half].map((u) => ((u + 1) * height) / 2);
  return { left, top, right, bottom };
}

// A rectangle by its edges.
function frame(rect, { left, top, right, bottom }) {
  const sides = { x: left, y: top, width: right - left, height: bottom - top };
  for (const [name, value] of Object.entries(sides)) rect.setAttribute(name, value);
}

// A picture under an overlay in its pixels.
function layered(canvas, ...shapes) {
  const overlay = svg("svg", { viewBox: `0 0 ${canvas.width} ${canvas.height}`, "aria-hidden": "true" }, ...shapes);
  return h("div", { class: "lb-frame" }, canvas, overlay);
}

// Dots of the width of the stroke, wherever they stand: one path.
const dots = (points) => points.map(([x, y]) => `M${x} ${y}h0`).join("");

// A finger on an element that has it in hand does not scroll the page. touch-action is not enough: Chromium does not heed it
// on a single part of a drawing.
function keepPage(element, inHand) {
  element.addEventListener("touchstart", (event) => { if (event.cancelable && inHand()) event.preventDefault(); }, { passive: false });
}

// A scene of width by height pixels with its window's box, which can be dragged, resized, zoomed and moved by key.
// Gives its element, the canvas' easel, an overlay in scene pixels (from the outer edge of the first) and show().
function scenePanel(model, width, height) {
  const scene = easel(width, height);
  const box = svg("rect", { class: "lb-box" }), corners = svg("path", { class: "lb-corners" });
  const marks = svg("g", { class: "lb-marks" });
  const edge = svg("rect", { class: "lb-edge", width, height });
  const overlay = svg("svg", {
    viewBox: [-MARGIN * width, -MARGIN * height, (1 + 2 * MARGIN) * width, (1 + 2 * MARGIN) * height].join(" "),
    "aria-hidden": "true",
  }, edge, marks, box, corners);
  const element = h("div", {
    class: "lb-scene", tabindex: 0, role: "application", "aria-label": "Attention window",
    "aria-description": "Arrow keys move the window, with Shift further; plus and minus zoom.",
    style: `aspect-ratio: ${width} / ${height}`,
  }, scene.canvas, overlay);
  const get = () => boxOf(model.get("where"));
  const set = (changed) => {
    const where = whereOf({ ...get(), ...changed });
    if (where.some((value, k) => value !== model.get("where")[k])) assign(model, { where });
  };
  const fingers = new Map();
  let grip = null, elsewhere = -Infinity;

  // A place on the screen in canvas coordinates, -1 to 1.
  function place({ clientX, clientY }) {
    const { left, top, width: w, height: t } = overlay.getBoundingClientRect(), all = 1 + 2 * MARGIN;
    return { x: (((clientX - left) / w) * 2 - 1) * all, y: (((clientY - top) / t) * 2 - 1) * all };
  }

  // What a pointer would take hold of: a corner, as the direction from the centre to it, or the box.
  function gripAt(event) {
    const at = place(event), { x, y, half } = get();
    const unit = (2 * (1 + 2 * MARGIN)) / overlay.getBoundingClientRect().width; // of a pixel on the screen
    const near = unit * (event.pointerType === "touch" ? 26 : 13);
    const off = [at.x - x, at.y - y], inside = Math.min(near, half / 2); // a small box must leave room to move it
    if (off.every((d) => Math.abs(d) < half + near && Math.abs(d) > half - inside)) return { corner: off.map(Math.sign) };
    return off.every((d) => Math.abs(d) <= half + near / 3) ? { corner: null } : null;
  }

  function take(event) {
    grip = gripAt(event);
    if (!grip) return false;
    const at = place(event), { x, y, half } = get(), [sx, sy] = grip.corner ?? [0, 0];
    grip.offset = { x: at.x - x - sx * half, y: at.y - y - sy * half }; // nothing jumps to the pointer
    grip.anchor = { x: x - sx * half, y: y - sy * half };
    element.focus({ preventScroll: true });
    return undefined;
  }

  function pull(event) {
    const at = place(event), { offset, anchor, corner } = grip;
    const to = { x: at.x - offset.x, y: at.y - offset.y };
    if (!corner) return set(to);
    const [sx, sy] = corner, side = Math.max(sx * (to.x - anchor.x), sy * (to.y - anchor.y));
    const half = 1 / clamp(2 / Math.max(side, 1e-6), ...SCALES);
    return set({ x: anchor.x + sx * half, y: anchor.y + sy * half, half });
  }

  // Two fingers: their distance scales the window, their middle carries it.
  function pinch() {
    const [one, two] = [...fingers.values()];
    const now = { x: (one.x + two.x) / 2, y: (one.y + two.y) / 2, apart: Math.hypot(one.x - two.x, one.y - two.y) };
    grip.pinch ??= { ...get(), now };
    const { x, y, half, now: first } = grip.pinch;
    set({ x: x + now.x - first.x, y: y + now.y - first.y, half: half * (now.apart / Math.max(first.apart, 1e-6)) });
  }

  const point = (event) => {
    if (event.type === "pointerdown" ? grip : fingers.has(event.pointerId)) fingers.set(event.pointerId, place(event));
    if (grip && fingers.size > 1) pinch();
  };
  const lift = (event) => {
    fingers.delete(event.pointerId);
    if (grip?.pinch) Object.assign(grip, { pinch: null, lifted: true }); // the finger that stays no longer pulls
  };
  const CURSORS = { "1": "nwse-resize", "-1": "nesw-resize" };
  track(overlay, (event, phase) => {
    if (phase === "start") return take(event);
    if (phase === "move" && fingers.size < 2 && !grip.lifted) pull(event);
    if (phase === "end") grip = null;
    if (phase === "hover") {
      const found = gripAt(event);
      overlay.style.cursor = found ? CURSORS[found.corner?.[0] * found.corner?.[1]] ?? "move" : "";
    }
    return undefined;
  });
  keepPage(overlay, () => grip);
  overlay.addEventListener("pointerdown", point);
  overlay.addEventListener("pointermove", point);
  for (const type of ["pointerup", "pointercancel"]) overlay.addEventListener(type, lift);

  // The wheel zooms over the box, but never in the midst of scrolling the page.
  const scrolled = (event) => {
    if (!overlay.contains(event.target) || !gripAt(event) || event.timeStamp - elsewhere < 250) elsewhere = event.timeStamp;
  };
  overlay.addEventListener("wheel", (event) => {
    if (event.timeStamp === elsewhere) return;
    event.preventDefault();
    const step = event.deltaY * (event.deltaMode === 1 ? 16 : 1) * (event.ctrlKey ? 0.01 : 0.0015);
    set({ half: get().half * Math.exp(clamp(step, -0.5, 0.5)) });
  }, { passive: false });
  window.addEventListener("wheel", scrolled, { passive: true, capture: true });

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const ZOOMS = { "+": -1, "=": -1, "-": 1, "_": 1 };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { x, y, half } = get(), arrow = ARROWS[event.key], zoom = ZOOMS[event.key];
    if (arrow) set({ x: x + (arrow[0] * (event.shiftKey ? 10 : 2)) / width, y: y + (arrow[1] * (event.shiftKey ? 10 : 2)) / height });
    else if (zoom) set({ half: half * 2 ** (zoom / 8) });
    else return;
    event.preventDefault();
  });

  function show() {
    const edges = edgesOf(model.get("where"), { width, height }), { left, top, right, bottom } = edges;
    frame(box, edges);
    corners.setAttribute("d", dots([[left, top], [right, top], [right, bottom], [left, bottom]]));
    return edges;
  }

  const stop = () => window.removeEventListener("wheel", scrolled, { capture: true });
  return { element, scene, overlay, marks, show, stop };
}

// One number as a slider and as an input beside it. `read` and `write` take and give it; `range` may change with it.
function dial(name, label, { read, write, range, log = false, says = label }) {
  const [to, from] = log ? [Math.log2, (u) => 2 ** u] : [Number, Number];
  const slide = h("input", { type: "range", step: "any", "data-part": name, "aria-label": says });
  const number = h("input", { type: "number", step: "any", "data-part": name, "aria-label": `${says}, as a number` });
  slide.addEventListener("input", () => write(from(slide.valueAsNumber)));
  number.addEventListener("input", () => {
    const value = number.valueAsNumber, [low, high] = range(), fits = value >= low && value <= high;
    number.setAttribute("aria-invalid", !fits);
    if (fits) write(value);
  });
  number.addEventListener("blur", () => show());
  function show() {
    const value = read(), [low, high] = range();
    [slide.min, slide.max] = [to(low), to(high)];
    slide.value = to(value);
    slide.setAttribute("aria-valuetext", signed(value));
    if (number.valueAsNumber === value) return; // "1.50" may stand as it was typed
    number.setAttribute("aria-invalid", false);
    number.value = Number(value.toFixed(3));
  }
  return { element: h("div", { class: "lb-dial" }, h("span", { class: "lb-symbol", "aria-hidden": "true" }, ...label), slide, number), show };
}

// The inputs of a part of `where`.
function whereDial(model, part) {
  const k = PARTS.indexOf(part);
  const write = (value) => assign(model, { where: settle(model.get("where").map((old, i) => (i === k ? value : old))) });
  const range = () => (k === 0 ? SCALES : [-reach(model.get("where")[0]), reach(model.get("where")[0])]);
  const symbol = k === 0 ? ["s"] : ["t", h("sub", {}, part.at(-1))];
  return dial(part, symbol, { read: () => model.get("where")[k], write, range, log: k === 0, says: part.replace("_", " ") });
}

// The scenes to choose from, as radio buttons with their pictures.
function sceneChoice(model, pictures, names) {
  const group = newId("lb-scene");
  const inputs = pictures.map((_, i) => h("input", { type: "radio", name: group, value: i, "data-trait": "scene", "aria-label": names[i] ?? `scene ${i + 1}` }));
  const faces = pictures.map((picture, i) => {
    const { canvas, paint } = easel(picture.width, picture.height);
    paint(picture);
    inputs[i].addEventListener("change", () => assign(model, { scene: i }));
    return h("label", {}, inputs[i], h("span", { class: "lb-print" }, canvas));
  });
  const element = h("div", { class: "lb-scenes", role: "radiogroup", "aria-label": "scene" }, ...faces);
  return { element, show: () => inputs.forEach((input, i) => { input.checked = i === model.get("scene"); }) };
}
