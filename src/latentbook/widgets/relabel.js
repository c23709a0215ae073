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

  // Telling choices: the first of which something holds, counted on from the digit that is shown; none, no button.
  const start = { source: model.get("source"), label: model.get("label") };
  const digits = Array.from({ length: sources }, (_, i) => (start.source + i) % sources);
  const first = (words, holds) => {
    for (const source of digits) for (let label = 0; label < count; label++) {
      const sides = verdicts.map((seen) => winner(seen[source][label], label, source)[0]);
      if (own[source] !== label && holds(sides)) return [[words, { source, label }]];
    }
    return [];
  };
  const tries = [
    ...(own.length ? [["its own label", () => ({ label: own[model.get("source")] })]] : []),
    ...(names.length > 1 ? first("models disagree", (sides) => new Set(sides).size > 1) : []),
    ...first("the label wins", (sides) => sides.every((side) => side === "label")),
    ...(own.length ? first("neither wins", (sides) => sides.includes("neither")) : []),
  ];

  // What will the first model draw? Asked of a label that is not the digit's own.
  const { source, label } = start, seen = verdicts[0][source][label];
  const others = verdicts[0][source].filter((_, k) => k !== own[source]).length;
  const followed = verdicts[0][source].filter((digit, k) => digit === k && k !== own[source]).length;
  const options = [`${label}`, ...(own.length ? [`${own[source]} again`] : []), "something else"];
  const right = seen === label ? 0 : own.length && seen === own[source] ? 1 : options.length - 1;
  const { ask, row, stop: leave } = manners(model, {
    state: { source: below(sources), label: below(count) }, tries,
    question: own[source] === label ? null : {
      words: `This ${own[source] ?? "digit"} is decoded with the label ${label}. What will the model \u201c${names[0]}\u201d draw?`,
      options, right, veiled: panels.map(({ element }) => element),
      answer: `The judge sees ${seen}. \u201c${names[0]}\u201d follows ${followed} of the ${others} ${own.length ? "other " : ""}labels with this digit.`,
    },
  });

  el.append(h("figure", { class: "lb-widget lb-relabel", "aria-label": "One digit, decoded with another label" },
    ...(ask ? [ask] : []), which.element, asked.element, stage, row, h("figcaption", {}, model.get("caption"))));
  const draws = follow(model, ["source", "label"], draw);
  sprites(model).then((ready) => {
    lay = ready;
    thumbnails.forEach((canvas, i) => lay(canvas, 1, [i]));
    draw();
  }, () => { stage.replaceChildren("The pictures of this figure cannot be read; run the cell again."); });
  return () => { draws(); leave(); };
}

export default { render };
