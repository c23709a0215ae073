// RelabelFigure: choose a test digit and a label; every model decodes the digit's code with that label.
// Traits: sheet, packing (the pictures: the sources, then each model's decodings), names, verdicts and probabilities
// ([models][sources][labels]), labels (what the sources show, or empty), source, label, caption.

// Native radio buttons bound to a whole number; `faces` are what stands on them, `says` their names.
function pick(model, name, legend, faces, says) {
  const group = newId("lb-" + name);
  const inputs = faces.map((_, i) => h("input", { type: "radio", name: group, value: i, "data-trait": name, "aria-label": says(i) }));
  inputs.forEach((input, i) => input.addEventListener("change", () => assign(model, { [name]: i })));
  const element = h("div", { class: `lb-pick lb-pick-${name}`, role: "radiogroup", "aria-label": legend },
    h("span", { class: "lb-legend", "aria-hidden": "true" }, legend),
    h("div", { class: "lb-faces", style: `--lb-${name}s:${faces.length}` }, ...faces.map((face, i) => h("label", {}, inputs[i], face))));
  return { element, show: () => inputs.forEach((input, i) => { input.checked = i === model.get(name); }) };
}

function render({ model, el }) {
  const names = model.get("names"), verdicts = model.get("verdicts"), chances = model.get("probabilities");
  const own = model.get("labels"), sources = verdicts[0].length, count = verdicts[0][0].length;
  let lay = null;

  const thumbnails = Array.from({ length: sources }, () => picture(model, 1));
  for (const canvas of thumbnails) canvas.setAttribute("aria-hidden", "true"); // the radio button around it has the words
  const frame = (canvas) => h("span", { class: "lb-print" }, canvas);
  const known = (i) => (own.length ? `test digit ${i + 1}, showing ${own[i]}` : `test digit ${i + 1}`);
  const which = pick(model, "source", "test digit", thumbnails.map(frame), known);
  const asked = pick(model, "label", "decode with",
    Array.from({ length: count }, (_, k) => h("span", { class: "lb-key" }, String(k))), (k) => `label ${k}`);

  const panel = (title, kind) => {
    const canvas = picture(model, 1), verdict = h("div", { class: "lb-verdict" }), tally = h("div", { class: "lb-tally" });
    const element = h("div", { class: `lb-panel lb-panel-${kind}`, role: "group", "aria-label": title },
      h("div", { class: "lb-heading" }, title), frame(canvas), verdict, tally);
    return { element, canvas, verdict, tally };
  };
  const left = panel("test digit", "source");
  const panels = names.map((name) => panel(name, "model"));
  const stage = h("div", { class: "lb-stage", "aria-live": "polite", style: `--lb-panels:${names.length + 1}` },
    left.element, ...panels.map(({ element }) => element));

  // Whom a decoding follows, as the judge sees it: the label, the test digit, or neither.
  function winner(seen, label, source) {
    if (seen === label) return ["label", own[source] === label ? "its own digit" : "follows the label"];
    if (own.length === 0) return ["neither", "not the asked digit"];
    return seen === own[source] ? ["source", "follows the test digit"] : ["neither", "follows neither"];
  }

  function draw() {
    const source = model.get("source"), label = model.get("label");
    which.show();
    asked.show();
    left.canvas.setAttribute("aria-label", known(source));
    left.verdict.textContent = own.length ? `shows ${own[source]}` : "";
    panels.forEach(({ element, canvas, verdict, tally }, m) => {
      const seen = verdicts[m][source][label], [side, words] = winner(seen, label, source);
      const chance = chances.length ? `, ${chances[m][source][label]}\u00a0%` : "";
      const obeyed = verdicts[m][source].filter((digit, k) => digit === k).length;
      element.dataset.winner = side;
      verdict.replaceChildren(h("span", {}, `judge: ${seen}${chance}`), h("b", {}, words));
      tally.textContent = `asked digit seen for ${obeyed} of ${count} labels`;
      canvas.setAttribute("aria-label", `${names[m]}: the chosen digit's code decoded with label ${label}`);
    });
    if (!lay) return;
    lay(left.canvas, 1, [source]);
    panels.forEach(({ canvas }, m) => lay(canvas, 1, [sources + (m * sources + source) * count + label]));
    stage.dataset.shown = `${source},${label}`;
  }

  el.append(h("figure", { class: "lb-widget lb-relabel", "aria-label": "One digit, decoded with another label" },
    which.element, asked.element, stage, h("figcaption", {}, model.get("caption"))));
  const stop = follow(model, ["source", "label"], draw);
  sprites(model).then((ready) => {
    lay = ready;
    thumbnails.forEach((canvas, i) => lay(canvas, 1, [i]));
    draw();
  }, () => { stage.replaceChildren("The pictures of this figure cannot be read; run the cell again."); });
  return stop;
}

export default { render };
