// RepeatFigure: attend, infer, paint, repeat on a scene, with the windows of a trained model, which can be moved.
// Traits: sheet, packing (the scenes), names, counts (the truth, where it is known), inferred ([n][steps][3]: the model's
// windows), presence ([n][steps]), network and shapes (the what-VAE's four layers, packed by decoders.py), variance, scene,
// stage (how far the walk is), step (whose window is in hand), where ([steps][3]: the windows as they stand), caption.

const PHASES = ["attend", "infer", "paint", "repeat", "stop"];
const TALL = 2.5; // of the code's bars, to either side
const range = (n) => Array.from({ length: n }, (_, k) => k);

// q(n), n = 0..steps, where presence stops at the first absence.
function countPosterior(presence) {
  const reached = [1];
  presence.forEach((p, k) => reached.push(reached[k] * p));
  return reached.map((q, n) => (n < presence.length ? q * (1 - presence[n]) : q));
}

// How many steps are attended, inferred and painted at a stage of the walk: three stages for each step that is used, and a
// last one, which ends it.
function progress(stage, count) {
  const [attended, inferred, painted] = [0, 1, 2].map((less) => clamp(Math.ceil((stage - less) / 3), 0, count));
  return { attended, inferred, painted, ended: stage > 3 * count };
}

// The posterior of the code of a crop, and the window that is decoded from a code.
function encode([first, second], crop) {
  const both = linear(second, relu(linear(first, crop.values))), n = both.length / 2;
  return { mean: both.slice(0, n), deviation: both.slice(n).map((logVar) => Math.exp(logVar / 2)) };
}
function decode([, , third, fourth], code, { width, height }) {
  const values = linear(fourth, relu(linear(third, code))).map((logit) => 1 / (1 + Math.exp(-logit)));
  return { values, width, height };
}

// What a window sees of a picture, and what it paints.
function lookThrough(layers, picture, where, size) {
  const crop = cropAt(picture, where, size), code = encode(layers, crop), decoded = decode(layers, code.mean, crop);
  return { where, picture, crop, code, decoded, pasted: pasteAt(decoded, where, picture) };
}

// The sum of what is pasted, and its squared error: in nats where the likelihood's variance is given.
function canvasOf(parts, picture) {
  const values = new Float64Array(picture.values.length);
  for (const { pasted } of parts) pasted.values.forEach((value, k) => { values[k] += value; });
  return { ...picture, values };
}
function errorOf({ values }, picture, variance) {
  const total = values.reduce((sum, value, k) => sum + (value - picture.values[k]) ** 2, 0);
  return variance === null ? total : total / (2 * variance);
}

// A probability as a bar with its number.
function meter(name) {
  const bar = h("span", {}), number = h("span", { class: "lb-number" });
  const element = h("div", { class: "lb-meter" }, h("span", { class: "lb-name" }, name), h("span", { class: "lb-trough", "aria-hidden": "true" }, bar), number);
  const show = (probability) => {
    bar.style.width = `${100 * (probability ?? 0)}%`;
    number.textContent = probability === null ? "–" : probability.toFixed(2);
  };
  return { element, show };
}

// A code as bars with a line of one standard deviation to either side.
function codeChart(dims) {
  const element = svg("svg", { class: "lb-code", viewBox: `0 ${-TALL} ${dims} ${2 * TALL}`, preserveAspectRatio: "none", role: "img", "aria-label": "code" });
  const at = (value) => -clamp(value, -TALL, TALL);
  const show = (code) => {
    element.replaceChildren(svg("path", { class: "lb-zero", d: `M0 0H${dims}` }));
    if (code === null) return;
    const { mean, deviation } = code, words = [Math.min(...mean), Math.max(...mean)].map((value) => signed(value, 2));
    element.append(
      ...range(dims).map((k) => svg("rect", { x: k + 0.15, width: 0.7, y: Math.min(0, at(mean[k])), height: Math.abs(at(mean[k])) })),
      svg("path", { class: "lb-spread", d: range(dims).map((k) => `M${k + 0.5} ${at(mean[k] - deviation[k])}V${at(mean[k] + deviation[k])}`).join("") }));
    element.setAttribute("aria-label", `code of ${dims} numbers, from ${words[0]} to ${words[1]}`);
  };
  return { element, show };
}

// A step's row: which it is, whether something is there, and crop, code and decoded window.
function stepRow(k, size, dims, group, take) {
  const [crop, decoded] = ["crop of window", "decoded window"].map((name) => easel(size, size, `${name} ${k + 1}`));
  const chart = codeChart(dims), there = meter("presence");
  const input = h("input", { type: "radio", name: group, value: k, "data-trait": "step", "aria-label": `take the window of step ${k + 1}` });
  input.addEventListener("change", () => take(k));
  const sample = svg("svg", { class: "lb-sample", viewBox: "0 0 14 14", "aria-hidden": "true" }, svg("rect", { class: `lb-box lb-dash-${k % 3}`, x: 1, y: 1, width: 12, height: 12 }));
  const outline = () => svg("rect", { class: `lb-box lb-dash-${k % 3}`, x: 0.4, y: 0.4, width: size - 0.8, height: size - 0.8 });
  const frames = [crop, decoded].map(({ canvas }) => layered(canvas, outline()));
  const note = h("p", { class: "lb-note" });
  const element = h("div", { class: "lb-step" },
    h("label", {}, input, sample, `${k + 1}`), there.element,
    h("div", { class: "lb-strip" }, frames[0], chart.element, frames[1], note));
  // `seen` as `lookThrough` gives it; how many of its three parts are shown; a note in their place.
  const show = (seen, parts, words) => {
    [frames[0], chart.element, frames[1]].forEach((part, i) => part.classList.toggle("lb-blank", i >= parts));
    note.textContent = words;
    if (parts > 0) crop.paint(seen.crop);
    chart.show(parts > 1 ? seen.code : null);
    if (parts > 2) decoded.paint(seen.decoded);
  };
  return { element, input, there, show };
}

function render({ model, el }) {
  const [inferred, presence, counts, shapes, variance] = ["inferred", "presence", "counts", "shapes", "variance"].map((key) => model.get(key));
  const { width, height } = model.get("packing"), size = Math.sqrt(shapes[0][1]), steps = presence[0].length;
  const unit = variance === null ? "" : " nats", all = range(steps);
  let pictures = null, layers = null, faces = null, seen = [], own = [];

  const oddsOf = presence.map(countPosterior), surest = oddsOf.map((odds) => Math.max(...odds));
  const countOf = (scene) => oddsOf[scene].indexOf(surest[scene]);
  const posterior = () => oddsOf[model.get("scene")], count = () => countOf(model.get("scene"));
  const walk = () => progress(model.get("stage"), count());
  const inHand = () => Math.min(model.get("step"), walk().attended - 1); // -1: none yet

  const go = (stage) => {
    const to = clamp(stage, 0, 3 * count() + 1), { attended } = progress(to, count());
    if (to !== model.get("stage")) assign(model, { stage: to, step: Math.max(0, attended - 1) });
  };
  const take = (step) => assign(model, { step });
  const held = { // the window in hand, as the scene's panel moves it
    get: () => model.get("where")[Math.max(0, inHand())],
    set: (_, where) => { if (inHand() >= 0) model.set("where", model.get("where").map((old, k) => (k === inHand() ? where : old))); },
    save_changes: () => model.save_changes(),
  };
  // A scene comes with all of its steps and the model's windows, where nothing else is said.
  const complete = (wanted) => (
    "scene" in wanted ? { where: inferred[wanted.scene], scene: wanted.scene, ...last(countOf(wanted.scene)), ...wanted } : wanted
  );
  const shown = {
    get: (name) => model.get(name),
    set: (_, scene) => {
      for (const [name, value] of Object.entries(complete({ scene }))) model.set(name, value);
    },
    save_changes: () => model.save_changes(),
  };

  const panel = scenePanel(held, width, height), box = panel.element.querySelector(".lb-box");
  const boxes = all.map((k) => svg("rect", { class: `lb-box lb-other lb-dash-${k % 3}` }));
  const marks = all.map((k) => svg("text", {}, `${k + 1}`));
  boxes.forEach((rect, k) => rect.addEventListener("pointerdown", () => take(k))); // and the same gesture moves it
  panel.marks.append(...boxes);
  panel.marks.after(...marks);
  const canvas = easel(width, height, "canvas: the sum of the pasted windows"), painted = all.map((k) => svg("rect", { class: `lb-box lb-dash-${k % 3}` }));
  const group = newId("lb-step"), rows = all.map((k) => stepRow(k, size, shapes[2][1], group, take));
  const odds = range(steps + 1).map((n) => meter(`${n}`));

  const last = (n) => ({ stage: 3 * n + 1, step: Math.max(0, n - 1) }); // the end of a walk of n steps
  const button = (text, onclick) => h("button", { type: "button", class: "lb-button", onclick }, text);
  const backward = [button("start", () => go(0)), button("previous", () => go(model.get("stage") - 1))];
  const forward = [button("next", () => go(model.get("stage") + 1)), button("all", () => go(Infinity))];
  const off = (element, is) => element.setAttribute("aria-disabled", is); // a button that cannot be pressed keeps the focus
  const phases = PHASES.map((text) => h("span", {}, text));
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" }), fit = h("p", { class: "lb-fit" });
  const choices = h("div", { class: "lb-choices" });
  const heading = (text) => h("div", { class: "lb-heading" }, text);
  const column = (title, ...children) => h("div", { class: "lb-column", role: "group", "aria-label": title }, heading(title), ...children);

  const phasesLine = h("div", { class: "lb-phases", "aria-hidden": "true" }, ...phases);
  const heads = ["crop", "code", "decoded"].map((text) => h("span", {}, text));
  const stepsColumn = h("div", { class: "lb-column lb-steps", role: "radiogroup", "aria-label": "steps" },
    h("div", { class: "lb-strip lb-heading", "aria-hidden": "true" }, ...heads), ...rows.map(({ element }) => element));
  const canvasColumn = column("canvas", layered(canvas.canvas, ...painted), fit,
    h("div", { class: "lb-count" }, heading("posterior of the count"), ...odds.map(({ element }) => element)));

  // All steps through windows `where`; only those that have moved are computed again.
  function look(where, before) {
    const picture = pictures[model.get("scene")];
    return where.map((at, k) => (before[k]?.picture === picture && before[k].where === at ? before[k] : lookThrough(layers, picture, at, size)));
  }

  function tell({ painted: done, ended }, error) {
    const stage = model.get("stage"), step = Math.ceil(stage / 3), phase = (stage - 1) % 3, n = count(), truth = counts[model.get("scene")];
    const there = () => `something ${step > 1 ? "more " : ""}is there with probability ${presence[model.get("scene")][step - 1].toFixed(2)}`;
    if (stage === 0) return "Nothing has been looked at yet, and the canvas is empty.";
    if (ended) {
      const why = step > steps ? `All ${steps} steps are used.` : `Step ${step} of ${steps}: ${there()}; it stops.`;
      const known = truth === undefined ? "" : `; there ${truth === 1 ? "is" : "are"} ${truth}`;
      return `${why} The most probable count is ${n}, with probability ${posterior()[n].toFixed(2)}${known}.`;
    }
    const start = `Step ${step} of ${steps}, ${PHASES[phase]}:`, where = model.get("where")[step - 1];
    if (phase === 0) return `${start} ${there()}, in a window that spans ${(width / where[0]).toFixed(1)} of the scene\u2019s ${width} pixels.`;
    if (phase === 1) return `${start} the encoder turns the crop into a code of ${shapes[2][1]} numbers, its posterior mean.`;
    const before = error(done - 1), after = error(done);
    return `${start} the decoded window is pasted, and the squared error ${after < before ? "falls" : "rises"} from ${before.toFixed(1)} to ${after.toFixed(1)}${unit}.`;
  }

  function showWindows({ attended, painted: done }) {
    const hand = inHand(), where = model.get("where");
    panel.element.classList.toggle("lb-idle", hand < 0);
    panel.element.setAttribute("aria-label", hand < 0 ? "Scene, no window yet" : `Window of step ${hand + 1}`);
    box.setAttribute("class", `lb-box lb-dash-${Math.max(0, hand) % 3}`);
    panel.show();
    all.forEach((k) => {
      const edges = edgesOf(where[k], { width, height }), hidden = k >= attended;
      for (const rect of [boxes[k], painted[k]]) frame(rect, edges);
      boxes[k].style.display = hidden || k === hand ? "none" : "";
      painted[k].style.display = k < done ? "" : "none";
      marks[k].style.display = hidden ? "none" : "";
      marks[k].setAttribute("x", clamp(edges.left, -MARGIN * width + 3, (1 + MARGIN) * width - 1));
      marks[k].setAttribute("y", clamp(edges.top - 1.2, -MARGIN * height + 4, (1 + MARGIN) * height - 1));
    });
  }

  function draw() {
    const at = walk(), stage = model.get("stage"), n = count(), now = presence[model.get("scene")], hand = inHand();
    showWindows(at);
    backward.forEach((element) => off(element, stage === 0));
    forward.forEach((element) => off(element, at.ended));
    const moved = model.get("where").some((where, k) => where.some((value, i) => value !== inferred[model.get("scene")][k][i]));
    const current = stage === 0 ? [] : at.ended ? ["stop"] : [PHASES[(stage - 1) % 3], ...(stage > 1 && stage % 3 === 1 ? ["repeat"] : [])];
    phases.forEach((element) => element.classList.toggle("lb-now", current.includes(element.textContent)));
    odds.forEach(({ show, element }, k) => {
      show(at.ended || k < Math.ceil(stage / 3) ? posterior()[k] : null);
      element.classList.toggle("lb-now", at.ended && k === n);
    });
    if (!pictures) return;
    faces.show();
    const picture = pictures[model.get("scene")];
    panel.scene.paint(picture);
    const decided = (k) => at.ended || k < Math.ceil(stage / 3);
    rows.forEach(({ there }, k) => there.show(decided(k) ? now[k] : null));
    if (!layers) return;
    seen = look(model.get("where"), seen);
    if (moved) own = look(inferred[model.get("scene")], own);
    const error = (done, parts = seen) => errorOf(canvasOf(parts.slice(0, done), picture), picture, variance);
    rows.forEach(({ input, show, element }, k) => {
      const parts = (k < at.attended) + (k < at.inferred) + (k < at.painted);
      show(seen[k], parts, parts || !decided(k) ? "" : "not used");
      [input.checked, input.disabled] = [k === hand, k >= at.attended];
      element.classList.toggle("lb-current", k === hand);
    });
    const sum = canvasOf(seen.slice(0, at.painted), picture);
    canvas.paint({ values: sum.values.map((value) => Math.min(1, value)) });
    readout.textContent = tell(at, error);
    fit.textContent = `squared error ${error(at.painted).toFixed(1)}${unit}` + (moved ? `\nthe model\u2019s windows: ${error(at.painted, own).toFixed(1)}` : "");
    el.dataset.shown = JSON.stringify([model.get("scene"), stage, hand, model.get("where")]);
  }

  // Scenes to try: a count that is wrong, the one that is least sure, the most objects.
  const counted = presence.map((_, scene) => countOf(scene));
  const best = (words, values) => [words, { scene: values.indexOf(Math.max(...values)) }];
  const wrong = counts.findIndex((truth, scene) => truth !== counted[scene]);
  // How many will it count? Three numbers to choose from, the right one not always in the middle.
  const home = model.get("scene"), n = counted[home], lowest = clamp(n - 1 - (home % 2), 0, Math.max(0, steps - 2));
  const options = range(Math.min(3, steps + 1)).map((k) => lowest + k), truth = counts[home];
  const { ask, row, stop: leave } = manners(model, {
    state: {
      scene: below(presence.length), where: (where) => Array.isArray(where) && where.length === steps && where.every(isWindow),
      stage: (stage, { scene }) => below(3 * counted[scene] + 2)(stage), step: below(steps),
    },
    complete,
    tries: [
      ["the model\u2019s windows", () => ({ where: inferred[model.get("scene")] })],
      ...(wrong >= 0 ? [["a wrong count", { scene: wrong }]] : []),
      ...(presence.length > 1 ? [
        ...(Math.min(...surest) < 0.995 ? [best("the least sure count", surest.map((q) => -q))] : []), best("the fullest scene", counted),
        best("the emptiest scene", counted.map((count) => -count)),
      ] : []),
    ].slice(0, 4),
    question: {
      words: "How many objects will the model count in this scene?", options: options.map(String), right: options.indexOf(n),
      answer: `It counts ${n}, with probability ${surest[home].toFixed(2)}`
        + (truth === undefined ? "." : `; there ${truth === 1 ? "is" : "are"} ${truth}.`),
      veiled: [panel.element, phasesLine, readout, stepsColumn, canvasColumn], then: () => assign(model, last(n)),
    },
  });

  el.append(h("figure", { class: "lb-widget lb-repeat", "aria-label": "Attend, infer, repeat on a scene" },
    ask,
    h("div", { class: "lb-bar" }, choices, h("div", { class: "lb-presets", role: "group", "aria-label": "walk through the steps" }, ...backward, ...forward)),
    phasesLine, readout,
    h("div", { class: "lb-stage" },
      column("scene", panel.element),
      stepsColumn, canvasColumn),
    row,
    h("figcaption", {}, model.get("caption"))));
  const stop = follow(model, ["where", "scene", "stage", "step"], draw);
  const failed = () => { readout.textContent = "The pictures of this figure cannot be read; run the cell again."; };
  readPictures(model).then((ready) => {
    pictures = ready;
    faces = sceneChoice(shown, pictures, model.get("names"));
    if (pictures.length > 1) choices.append(faces.element);
    draw();
  }).catch(failed);
  unpackLayers(model.get("network"), shapes).then((ready) => { layers = ready; draw(); }).catch(failed);
  return () => { stop(); leave(); panel.stop(); };
}

export default { render, countPosterior, progress, unpackLayers, encode, decode, lookThrough };
