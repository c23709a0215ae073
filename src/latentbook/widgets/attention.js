// AttentionWindow: a scene, the crop under a window that can be dragged, and the crop pasted back on an empty canvas.
// Traits: sheet, packing (the scenes), names, scene (which one), window (pixels), where, reading, pixel, caption.

// A 2x3 matrix in brackets with live numbers.
function matrix(name) {
  const cells = Array.from({ length: 6 }, () => h("span", {}));
  const element = h("div", { class: "lb-matrix", role: "math" }, h("span", { class: "lb-name" }, ...name), h("span", { class: "lb-cells" }, ...cells));
  const show = ([scale, x, y], says) => {
    const [s, tx, ty] = [scale, x, y].map((value) => signed(value)), rows = [s, "0", tx, "0", s, ty];
    rows.forEach((text, k) => { cells[k].textContent = text; });
    element.setAttribute("aria-label", `${says}: rows ${rows.slice(0, 3).join(", ")} and ${rows.slice(3).join(", ")}`);
  };
  return { element, show };
}

// The four pixels that one output pixel reads, each with the area opposite to it as its weight.
function neighbours(picture, where, size, [column, row]) {
  const [scale, x, y] = invert(where);
  const across = axis(size, scale, x, picture.width), down = axis(size, scale, y, picture.height);
  const [i, j, a, b] = [across.low[column], down.low[row], across.part[column], down.part[row]];
  const four = [[0, 0], [1, 0], [0, 1], [1, 1]].map(([right, below]) => ({
    column: i + right, row: j + below,
    weight: (right ? a : 1 - a) * (below ? b : 1 - b),
    value: valueAt(picture, i + right, j + below),
    outside: i + right < 0 || j + below < 0 || i + right >= picture.width || j + below >= picture.height,
  }));
  return { four, at: [across.places[column], down.places[row]], part: [a, b] };
}

// Those four pixels enlarged, the place that is read between their centres, and the sum that makes the output pixel.
function lens() {
  const pixels = easel(2), between = svg("rect", { class: "lb-between", x: 0.5, y: 0.5, width: 1, height: 1 });
  const lines = svg("path", { class: "lb-split" }), point = svg("path", { class: "lb-point" });
  const words = h("p", {}), terms = [0, 1, 2, 3].map(() => h("span", {})), sum = h("p", {});
  const element = h("div", { class: "lb-lens" }, layered(pixels.canvas, between, lines, point),
    h("div", {}, words, h("div", { class: "lb-terms" }, ...terms), sum));
  const show = ([column, row], { four, at, part }, value) => {
    const [u, v] = part.map((share) => 0.5 + share);
    pixels.paint({ values: four.map((one) => one.value) });
    lines.setAttribute("d", `M${u} .5V1.5M.5 ${v}H1.5`);
    point.setAttribute("d", dots([[u, v]]));
    words.textContent = `Pixel (${column}, ${row}) of the crop reads the scene at (${at.map((x) => signed(x, 2)).join(", ")}), `
      + "between the centres of four pixels. Each weighs as much as the area opposite to it:";
    four.forEach((one, k) => { terms[k].textContent = `${one.weight.toFixed(3)} \u00d7 ${one.outside ? "0 (outside)" : one.value.toFixed(3)}`; });
    sum.textContent = `together ${value.toFixed(3)}.`;
  };
  return { element, show };
}

// The share of a picture's ink in pixels whose centres lie between some edges; null where there is no ink.
function inkIn({ values, width }, { left, top, right, bottom }) {
  let all = 0, held = 0;
  values.forEach((value, k) => {
    const x = (k % width) + 0.5, y = Math.floor(k / width) + 0.5;
    all += value;
    if (x > left && x < right && y > top && y < bottom) held += value;
  });
  return all ? held / all : null;
}

function render({ model, el }) {
  const size = model.get("window"), { width, height, places } = model.get("packing");
  let pictures = null;

  const panel = scenePanel(model, width, height);
  const crop = easel(size, size, "the crop under the window"), pasted = easel(width, height, "the crop pasted back on an empty canvas");
  const dials = PARTS.map((part) => whereDial(model, part));
  const forward = matrix(["A ="]), backward = matrix(["A", h("sup", {}, "\u22121"), " ="]);

  const outline = svg("rect", { class: "lb-box lb-dashed" });
  const chosen = svg("rect", { class: "lb-chosen", width: 1, height: 1 });
  const cropFrame = layered(crop.canvas, chosen), pastedFrame = layered(pasted.canvas, outline);
  cropFrame.classList.add("lb-crop");
  const column = (title, picture, below) => h("div", { class: "lb-column", role: "group", "aria-label": title },
    h("div", { class: "lb-heading" }, title), picture, below);
  const stage = h("div", { class: "lb-stage" },
    column("scene", panel.element, h("div", { class: "lb-dials" }, ...dials.map(({ element }) => element))),
    column("crop", cropFrame, backward.element),
    column("pasted back", pastedFrame, forward.element));

  const toggle = h("input", { type: "checkbox", "data-trait": "reading" });
  toggle.addEventListener("change", () => assign(model, { reading: toggle.checked }));
  const choices = h("div", { class: "lb-choices" });
  const bar = h("div", { class: "lb-bar" }, choices);

  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });
  const glass = lens();
  let choice = null;

  // What does a larger scale do to the window? The bet doubles it.
  const home = model.get("where"), next = whereOf({ ...boxOf(home), half: boxOf(home).half / 2 });
  const [before, after] = [home, next].map((where) => width / where[0]);
  const question = after === before ? null : {
    words: `The scale s is ${signed(home[0], 1)}. Make it larger: what does the window do?`,
    options: ["it grows", "it shrinks"], right: after > before ? 0 : 1,
    answer: `It ${after > before ? "grows" : "shrinks"}: from ${before.toFixed(1)} of the scene\u2019s ${width} pixels `
      + `at s = ${signed(home[0], 1)} to ${after.toFixed(1)} at s = ${signed(next[0], 1)}.`,
    then: () => assign(model, { where: next }),
  };
  const { ask, row, stop: leave } = manners(model, {
    state: {
      where: isWindow, scene: below(places.length), reading: (on) => typeof on === "boolean",
      pixel: (pixel) => Array.isArray(pixel) && pixel.length === 2 && pixel.every(below(size)),
    },
    tries: [
      ["the whole scene", { where: [1, 0, 0] }],
      ["the middle half", { where: [2, 0, 0] }],
      ["a tiny window", () => ({ where: whereOf({ ...boxOf(model.get("where")), half: 1 / 8 }) })],
      ["off the scene", { where: [3, -4.2, 0] }],
    ],
    question,
  });

  function draw() {
    const where = model.get("where"), reading = model.get("reading");
    for (const { show } of dials) show();
    forward.show(where, "A, with which the crop is pasted");
    backward.show(invert(where), "The inverse of A, with which the scene is cropped");
    const edges = panel.show();
    frame(outline, edges);
    toggle.checked = reading;
    const picture = pictures?.[model.get("scene")];
    readout.textContent = inWords(edges, picture);
    if (!picture) return;
    const seen = cropAt(picture, where, size);
    choice.show();
    panel.scene.paint(picture);
    crop.paint(seen);
    pasted.paint(pasteAt(seen, where, picture));
    el.dataset.shown = JSON.stringify(where);
    look(picture, where, seen, reading);
  }

  // The window in the scene's pixels, and the ink in it.
  function inWords(edges, picture) {
    const { left, top, right, bottom } = edges;
    if (right <= 0 || bottom <= 0 || left >= width || top >= height) return "The window lies outside the scene, where there is nothing to read.";
    const share = picture ? inkIn(picture, edges) : null;
    const at = `starts at (${signed(left, 1)}, ${signed(top, 1)})`;
    return `The window is ${(right - left).toFixed(1)} of the scene\u2019s ${width} pixels wide`
      + (share === null ? ` and ${at}.` : `, ${at} and contains ${Math.round(100 * share)}\u00a0% of the ink.`);
  }

  // The sampling grid on the scene, and the four pixels that the chosen output pixel reads.
  function look(picture, where, seen, reading) {
    glass.element.hidden = !reading;
    chosen.style.display = reading ? "" : "none";
    cropFrame.tabIndex = reading ? 0 : -1;
    cropFrame.classList.toggle("lb-reads", reading);
    panel.marks.replaceChildren();
    if (!reading) return;
    const pixel = model.get("pixel"), [scale, x, y] = invert(where);
    const columns = [...axis(size, scale, x, width).places], rows = [...axis(size, scale, y, height).places];
    const found = neighbours(picture, where, size, pixel);
    panel.marks.append(
      svg("path", { class: "lb-grid", d: dots(rows.flatMap((v) => columns.map((u) => [u + 0.5, v + 0.5]))) }),
      ...found.four.map((one) => svg("rect", { class: "lb-neighbour", x: one.column, y: one.row, width: 1, height: 1 })),
      svg("path", { class: "lb-point", d: dots([found.at.map((v) => v + 0.5)]) }));
    chosen.setAttribute("x", pixel[0]);
    chosen.setAttribute("y", pixel[1]);
    glass.show(pixel, found, seen.values[pixel[1] * size + pixel[0]]);
  }

  const pick = (pixel) => {
    const within = pixel.map((value) => clamp(Math.floor(value), 0, size - 1));
    if (within.some((value, k) => value !== model.get("pixel")[k])) assign(model, { pixel: within });
  };
  track(cropFrame, (event, phase) => {
    if (!model.get("reading") || event.button > 0) return false;
    const { left, top, width: w, height: t } = crop.canvas.getBoundingClientRect();
    if (phase !== "end" && phase !== "leave") pick([((event.clientX - left) / w) * size, ((event.clientY - top) / t) * size]);
    return undefined;
  });
  cropFrame.setAttribute("role", "application");
  cropFrame.setAttribute("aria-label", "Crop: the output pixel that is looked at");
  cropFrame.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move || !model.get("reading")) return;
    event.preventDefault();
    pick(model.get("pixel").map((value, k) => value + move[k]));
  });

  el.append(h("figure", { class: "lb-widget lb-window", "aria-label": "An attention window on a scene" },
    ...(ask ? [ask] : []), ...(places.length > 1 ? [bar] : []), stage, readout,
    h("label", { class: "lb-toggle" }, toggle, "show how a pixel of the crop is read"), glass.element, row, h("figcaption", {}, model.get("caption"))));
  const stop = follow(model, ["where", "scene", "reading", "pixel"], draw);
  readPictures(model).then((found) => {
    pictures = found;
    choice = sceneChoice(model, pictures, model.get("names"));
    choices.append(choice.element);
    draw();
  }, () => { readout.textContent = "The pictures of this figure cannot be read; run the cell again."; });
  return () => { stop(); leave(); panel.stop(); };
}

export default { render, cropAt, pasteAt, neighbours };
