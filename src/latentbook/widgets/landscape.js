// GradientExplorer: how far a window's crop is from a target, for every shift at one scale, and what descent makes of it.
// Traits: sheet, packing (the scene), window (pixels), target and where (scale and shifts), rate (step size), caption.

const GRID = 53; // losses along each axis of the landscape
const VIEW = 1 + 2 * MARGIN; // window centres from -VIEW to VIEW, as the scene shows them
const LEVELS = 9;
const RATES = [0.01, 100];
const ARROW = 10; // steps: its length, or a step of good size could not be seen
const STEPS = 400;

// A picture with two empty pixels on every side, so that reading it needs no question whether it has ended.
function framed({ values, width, height }) {
  const stride = width + 4, all = new Float64Array(stride * (height + 4));
  for (let y = 0; y < height; y++) all.set(values.subarray(y * width, (y + 1) * width), (y + 2) * stride + 2);
  return { all, stride, width, height };
}

// Where a crop reads a framed picture along one axis.
function reading(count, scale, shift, size) {
  const { low, part } = axis(count, scale, shift, size);
  return { from: low.map((pixel) => clamp(pixel, -2, size) + 2), part };
}

// Mean squared error of a crop, and its slopes along both axes of the scene, in pixels.
function errorOn({ all, stride }, target, across, down) {
  const size = target.width;
  let loss = 0, slopeX = 0, slopeY = 0;
  for (let j = 0; j < size; j++) {
    const row = down.from[j] * stride, b = down.part[j];
    for (let i = 0; i < size; i++) {
      const k = row + across.from[i], a = across.part[i];
      const right = all[k + 1] - all[k], rightBelow = all[k + stride + 1] - all[k + stride];
      const top = all[k] + a * right, low = all[k + stride] + a * rightBelow;
      const off = top + b * (low - top) - target.values[j * size + i];
      loss += off * off;
      slopeX += off * (right + b * (rightBelow - right));
      slopeY += off * (low - top);
    }
  }
  const n = size * size;
  return { loss: loss / n, slope: [(2 * slopeX) / n, (2 * slopeY) / n] };
}

// Loss at a `where`, and its gradient with respect to the two shifts.
function lossAt(picture, target, where) {
  const [s, x, y] = invert(where), size = target.width, { width, height } = picture;
  const { loss, slope } = errorOn(framed(picture), target, reading(size, s, x, width), reading(size, s, y, height));
  return { loss, slope: [slope[0] * width, slope[1] * height].map((along) => -along / 2 / where[0] || 0) };
}

// The losses of windows of one scale with centres on a grid over the view, row by row, and where they have no slope at all.
function landscape(picture, target, scale, count = GRID) {
  const s = invert([scale, 0, 0])[0], at = (k) => ((2 * k) / (count - 1) - 1) * VIEW, paper = framed(picture);
  const [across, down] = [picture.width, picture.height].map((size) =>
    Array.from({ length: count }, (_, k) => reading(target.width, s, at(k), size)));
  const losses = new Float32Array(count * count), flat = new Uint8Array(count * count);
  for (let j = 0; j < count; j++) for (let i = 0; i < count; i++) {
    const { loss, slope } = errorOn(paper, target, across[i], down[j]);
    losses[j * count + i] = loss;
    flat[j * count + i] = slope[0] === 0 && slope[1] === 0;
  }
  return { losses, flat, count };
}

// Contour lines of values on a grid, in grid units: where each cell's edges cross a level (marching squares).
function contours({ losses, count }, levels) {
  const lines = [];
  for (const level of levels) for (let j = 0; j < count - 1; j++) for (let i = 0; i < count - 1; i++) {
    const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
    const above = corners.map(([x, y]) => losses[y * count + x] - level);
    const crossings = [];
    for (let k = 0; k < 4; k++) {
      const next = (k + 1) % 4, [p, q] = [above[k], above[next]];
      if (p < 0 === q < 0) continue;
      const share = p / (p - q), [x, y] = corners[k];
      crossings.push(`${(x + share * (corners[next][0] - x)).toFixed(2)} ${(y + share * (corners[next][1] - y)).toFixed(2)}`);
    }
    for (let k = 0; k + 1 < crossings.length; k += 2) lines.push(`M${crossings[k]}L${crossings[k + 1]}`);
  }
  return lines.join("");
}

// The place, of those where the loss is level, that is nearest to another; without any, the corner of the view.
function nearestLevel({ flat, count }, { x, y }) {
  let found = { x: VIEW, y: VIEW }, least = Infinity;
  flat.forEach((is, k) => {
    const [u, v] = [k % count, Math.floor(k / count)].map((step) => ((2 * step) / (count - 1) - 1) * VIEW);
    const far = Math.hypot(u - x, v - y);
    if (is && far < least) [found, least] = [{ x: u, y: v }, far];
  });
  return found;
}

// The grid points with a mark, as squares around them: one rectangle for each run in a row.
function runs({ flat, count }) {
  const rects = [];
  for (let j = 0; j < count; j++) for (let i = 0; i < count; i++) {
    if (!flat[j * count + i]) continue;
    const start = i;
    while (i + 1 < count && flat[j * count + i + 1]) i++;
    rects.push(`M${start - 0.5} ${j - 0.5}h${i - start + 1}v1h${start - i - 1}z`);
  }
  return rects.join("");
}

// An arrow from one place to another, with barbs of a given length.
function arrow([x, y], [u, v], barb) {
  const angle = Math.atan2(v - y, u - x), long = Math.hypot(u - x, v - y), side = Math.min(barb, 0.6 * long);
  const tips = [2.6, -2.6].map((turn) => `${u + side * Math.cos(angle + turn)} ${v + side * Math.sin(angle + turn)}`);
  return `M${x} ${y}L${u} ${v}M${tips[0]}L${u} ${v}L${tips[1]}`;
}

// The landscape under its overlay, as large as the scene with its margin: a place on it is a window's centre.
function terrain() {
  const heat = easel(GRID), hatch = newId("lb-hatch"), cell = (GRID - 1) / 2 / VIEW; // grid units in one of the canvas
  const parts = Object.fromEntries(["blind", "contour", "trail", "arrow", "here", "grab"].map((name) => [name, svg("path", { class: `lb-${name}` })]));
  parts.blind.setAttribute("style", `fill: url(#${hatch})`);
  const overlay = svg("svg", { viewBox: `-0.5 -0.5 ${GRID} ${GRID}`, "aria-hidden": "true" },
    svg("pattern", { id: hatch, width: 1.5, height: 1.5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("path", { d: "M0 0V1.5" })),
    parts.blind, parts.contour,
    svg("rect", { class: "lb-edge", x: (VIEW - 1) * cell, y: (VIEW - 1) * cell, width: 2 * cell, height: 2 * cell }),
    ...["trail", "arrow", "here", "grab"].map((name) => parts[name]));
  const element = h("div", { class: "lb-terrain" }, heat.canvas, overlay);
  const at = ({ x, y }) => [(x + VIEW) * cell, (y + VIEW) * cell];

  // The ground: the lower the loss, the darker, valleys most of all; hatched where it is exactly level.
  function lay(ground) {
    const least = Math.min(...ground.losses), most = Math.max(...ground.losses), span = most - least || 1;
    heat.paint({ values: ground.losses.map((loss) => 0.6 * ((most - loss) / span) ** 2) });
    parts.contour.setAttribute("d", contours(ground, Array.from({ length: LEVELS }, (_, k) => least + ((k + 0.5) / LEVELS) * span)));
    parts.blind.setAttribute("d", runs(ground));
  }

  function mark(box, ahead, path) {
    const [x, y] = at(box);
    for (const name of ["here", "grab"]) parts[name].setAttribute("d", dots([[x, y]]));
    parts.arrow.setAttribute("d", arrow([x, y], at(ahead), 1.6));
    parts.trail.setAttribute("d", path.length ? "M" + path.map((where) => at(boxOf(where)).join(" ")).join("L") : "");
  }

  // The window's centre at a place on the screen.
  function centre({ clientX, clientY }) {
    const { left, top, width, height } = overlay.getBoundingClientRect(), half = (VIEW * GRID) / (GRID - 1);
    return { x: (((clientX - left) / width) * 2 - 1) * half, y: (((clientY - top) / height) * 2 - 1) * half };
  }
  return { element, grab: parts.grab, lay, mark, centre };
}

function render({ model, el }) {
  const size = model.get("window"), { width, height } = model.get("packing"), goalBox = boxOf(model.get("target"));
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  let picture = null, target = null, scale = null, path = [], falling = false, said = "", level = { x: VIEW, y: VIEW };

  const panel = scenePanel(model, width, height), land = terrain();
  const goal = svg("rect", { class: "lb-box lb-dashed" }), pull = svg("path", { class: "lb-arrow" });
  panel.marks.append(goal, pull);
  const wanted = easel(size, size, "the target crop"), seen = easel(size, size, "the crop under the window");
  const dials = PARTS.map((part) => whereDial(model, part)), rates = dial("rate", ["\u03b7"], {
    read: () => model.get("rate"), write: (rate) => assign(model, { rate: Number(rate.toPrecision(3)) }), range: () => RATES, log: true, says: "step size",
  });
  const button = (text, onclick) => h("button", { type: "button", class: "lb-button", onclick }, text);
  const run = button("descend", () => (falling ? halt("") : descend()));
  const more = h("details", { class: "lb-more" }, h("summary", {}, "step size, single steps"),
    h("div", { class: "lb-bar" }, rates.element, button("one step", () => { halt(""); step(); })));
  const spans = h("p", { class: "lb-spans" }), readout = h("p", { class: "lb-readout", "aria-live": "polite" });
  const verdict = h("p", { class: "lb-readout", "aria-live": "polite" });
  const heading = (text) => h("div", { class: "lb-heading" }, text);
  const column = (title, ...children) => h("div", { class: "lb-column", role: "group", "aria-label": title }, heading(title), ...children);
  const small = (title, { canvas }) => h("div", {}, heading(title), layered(canvas));

  // One step of gradient descent on the two shifts: where it leads, and, if it was the last of `taken`, why.
  function stepFrom(where, rate, taken) {
    const { slope } = lossAt(picture, target, where);
    const moved = [where[0], where[1] - rate * slope[0], where[2] - rate * slope[1]], inside = settle(moved);
    const far = Math.hypot(moved[1] - where[1], moved[2] - where[2]) / where[0];
    if (far === 0) return { next: where, end: "" };
    if (moved.some((value, k) => Math.abs(value - inside[k]) > 0.001)) {
      return { next: inside, end: "The step was so long that it threw the window off the scene.", lost: true };
    }
    if (far < 1e-4) return { next: moved, end: `It came to rest after ${taken} steps.` };
    return { next: moved, end: taken < STEPS ? null : `It still moves after ${taken} steps.` };
  }

  // The next step of the descent. False when it was the last.
  function step() {
    const where = model.get("where"), taken = Math.max(1, path.length), { next, end } = stepFrom(where, model.get("rate"), taken);
    if (next !== where) {
      path = [...(path.length ? path : [where]), next];
      assign(model, { where: next });
    }
    return end === null || halt(end);
  }

  // A step a frame, as long as it is seen; for those who ask for less motion all at once, as a trail.
  const film = whileSeen(el, () => falling, step);
  function descend() {
    path = [];
    if (calm.matches) while (step());
    else {
      falling = true;
      run.textContent = "stop";
      readout.setAttribute("aria-live", "off");
      if (step()) film.wake();
    }
  }

  // The descent has ended, as the words say.
  function rest(words) {
    falling = false;
    film.wake();
    said = words;
    run.textContent = "descend";
    readout.setAttribute("aria-live", "polite");
  }

  // The question: where will it end from here? It is answered by descending unseen.
  const start = { where: model.get("where"), rate: model.get("rate") };
  const ends = ["on the target", "somewhere else", "off the scene"];
  const pixels = (where) => { // from the target
    const { x, y } = boxOf(where);
    return Math.hypot((x - goalBox.x) * width, (y - goalBox.y) * height) / 2;
  };
  function foresee() {
    let at = start.where, steps = 0, one = null;
    do one = stepFrom(at, start.rate, ++steps), at = one.next;
    while (one.end === null);
    return { steps, end: one.lost ? 2 : pixels(at) < 1.5 ? 0 : 1, away: pixels(at).toFixed(1), stuck: at === start.where };
  }
  function foretell() {
    const { steps, end, away, stuck } = foresee();
    if (stuck) return "It stays where it is: the gradient is exactly zero here.";
    return [
      `It reaches the target in ${steps} steps.`,
      `It is ${away} pixels from the target after ${steps} steps${steps < STEPS ? ", in a valley that does not lead there" : ""}.`,
      `Its steps are so long that number ${steps} throws it off the scene.`,
    ][end];
  }
  const near = { x: goalBox.x + goalBox.half / 4, y: goalBox.y + goalBox.half / 4, half: goalBox.half };
  const at = (box) => ({ where: whereOf({ ...boxOf(model.get("where")), ...box }) });
  const { ask, row, press: mark, stop: leave } = manners(model, {
    state: { where: isWindow, rate: (rate) => Number.isFinite(rate) && rate >= RATES[0] && rate <= RATES[1] },
    tries: [
      ["near the target", { where: whereOf(near) }],
      ["nothing pulls", () => at(level)],
      ["a wider window", () => at({ half: 1 / 1.2 })],
      ["huge steps", { rate: 50 }],
    ],
    question: {
      words: "Gradient descent starts from here. Where will the window end?", options: ends,
      right: () => foresee().end, answer: foretell, veiled: [land.element], then: descend,
    },
  });
  ask.inert = true; // until the picture is there

  function halt(words) {
    rest(words);
    draw();
    return false;
  }

  function draw() {
    const where = model.get("where"), box = boxOf(where);
    for (const { show } of [...dials, rates]) show();
    panel.show();
    if (!picture) return;
    if (path.length && path.at(-1).some((value, k) => value !== where[k])) { // moved by hand
      path = [];
      rest("");
    }
    if (scale !== where[0]) {
      scale = where[0];
      const ground = landscape(picture, target, scale);
      land.lay(ground);
      level = nearestLevel(ground, goalBox);
      mark();
      spans.replaceChildren("t", h("sub", {}, "x"), ` runs from ${signed(VIEW * scale, 1)} at the left to ${signed(-VIEW * scale, 1)}, t`, h("sub", {}, "y"), " alike from the top.");
    }
    const { loss, slope } = lossAt(picture, target, where), rate = model.get("rate");
    const ahead = boxOf([where[0], where[1] - ARROW * rate * slope[0], where[2] - ARROW * rate * slope[1]]);
    const inScene = ({ x, y }) => [((x + 1) * width) / 2, ((y + 1) * height) / 2];
    pull.setAttribute("d", arrow(inScene(box), inScene(ahead), 0.03 * width));
    land.mark(box, ahead, path);
    seen.paint(cropAt(picture, where, size));
    const flat = slope[0] === 0 && slope[1] === 0;
    readout.textContent = `loss ${loss.toFixed(4)}\ngradient (${slope.map((value) => signed(value, 4)).join(", ")})`;
    verdict.textContent = flat ? "The gradient is exactly zero: nothing the window reads changes when it moves a little."
      : said || pullOf(box, ahead, where);
    el.dataset.shown = JSON.stringify(where);
  }

  // Whether the next steps lead to the target or away from it.
  function pullOf(box, ahead, where) {
    if (falling) return "";
    if (pixels(where) < 1) return "The window lies on the target.";
    const towards = (ahead.x - box.x) * (goalBox.x - box.x) + (ahead.y - box.y) * (goalBox.y - box.y) > 0;
    return `The next step leads ${towards ? "towards" : "away from"} the target, which is ${pixels(where).toFixed(1)} pixels away.`;
  }

  const carry = (event) => {
    halt("");
    const where = whereOf({ ...boxOf(model.get("where")), ...land.centre(event) });
    assign(model, { where });
  };
  track(land.element, (event, phase) => {
    if (phase === "start" && (event.button > 0 || (event.pointerType === "touch" && event.target !== land.grab))) return false;
    if (phase === "start" || phase === "move") carry(event);
    return undefined;
  });
  keepPage(land.grab, () => true);
  land.element.addEventListener("click", carry); // a tap; a finger that scrolls the page makes no click

  el.append(h("figure", { class: "lb-widget lb-explorer", "aria-label": "Gradient descent on a window's shifts" },
    ask, h("div", { class: "lb-stage" },
      column("scene", panel.element, h("div", { class: "lb-dials" }, ...dials.map(({ element }) => element))),
      column("loss for every shift", land.element, h("div", {}, spans, h("div", { class: "lb-bar" }, run), readout)),
      h("div", { class: "lb-pair", role: "group", "aria-label": "crops" }, small("target", wanted), small("crop", seen))),
    verdict, row, more, h("figcaption", {}, model.get("caption"))));
  const stop = follow(model, ["where", "rate"], draw);
  readPictures(model).then(([found]) => {
    picture = found;
    target = cropAt(picture, model.get("target"), size);
    panel.scene.paint(picture);
    wanted.paint(target);
    frame(goal, edgesOf(model.get("target"), picture));
    draw();
    ask.inert = false;
  }, () => { verdict.textContent = "The picture of this figure cannot be read; run the cell again."; });
  return () => { film.stop(); stop(); leave(); panel.stop(); };
}

export default { render, lossAt, landscape };
