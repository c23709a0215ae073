// ContradictFigure: write a digit and ask for another; two decoders draw, and the judge says whom each of them follows.
// Traits: first, second, judge (the models' files), names (of the two), samples (digits to begin with), strokes (what is on
// the pad), label (what is asked for), recorded ({ ink, chances, pictures }: the start, before the models are here),
// measured (for each decoder the share of test digits that follow the label), caption.

const SETTLED = 1500; // milliseconds after the pen was lifted: what then stands on the pad is a try
const isDigit = (value) => Number.isInteger(value) && value >= 0 && value <= 9;

// Whom a picture follows: the label, the ink, neither, or both where they agree.
function followed(seen, label, ink) {
  if (label === ink) return seen === label ? "both" : "neither";
  return seen === label ? "label" : seen === ink ? "ink" : "neither";
}
const FOLLOWS = { label: "draws what you ask for", ink: "repeats what you wrote", neither: "draws neither", both: "draws it" };

function render({ model, el }) {
  const names = model.get("names"), samples = model.get("samples"), recorded = model.get("recorded");
  const began = { label: model.get("label"), strokes: model.get("strokes") };
  const sheet = pad({ label: "pad: write a digit here", samples, hint: "write a digit", legend: "or begin with one of ours" });

  const group = newId("lb-label"), ten = Array.from({ length: 10 }, (_, k) => k);
  const inputs = ten.map((k) => h("input", { type: "radio", name: group, value: k, "data-trait": "label", "aria-label": `ask for ${aDigit(k)}` }));
  inputs.forEach((input, k) => input.addEventListener("change", () => { own = true; assign(model, { label: k }); }));
  const asking = h("div", { class: "lb-ask", role: "radiogroup", "aria-label": "the digit to ask for" },
    h("span", { class: "lb-legend", "aria-hidden": "true" }, "ask for"),
    h("div", { class: "lb-faces" }, ...ten.map((k) => h("label", {}, inputs[k], h("span", { class: "lb-key" }, String(k))))));

  // A decoder's picture, what the judge sees in it, and how sure it is that it shows the asked digit or the written one.
  const panels = names.map((name, m) => {
    const canvas = h("canvas", { class: "lb-picture", role: "img", width: 28, height: 28 }), verdict = h("p", { class: "lb-verdict" });
    const bars = ["label", "ink"].map((kind) => {
      const share = h("b", {}), words = h("span", {}), line = h("div", { class: `lb-share lb-share-${kind}` }, words, share);
      const show = (digit, value) => {
        words.textContent = `${aDigit(digit)}, ${kind === "label" ? "asked for" : "written"}`;
        share.textContent = `${Math.round(100 * value)}\u00a0%`;
        line.style.setProperty("--share", value);
      };
      return { line, show };
    });
    const element = h("div", { class: `lb-panel lb-panel-${m + 1}`, role: "group", "aria-label": name },
      h("div", { class: "lb-heading" }, name), h("span", { class: "lb-print" }, canvas),
      verdict, h("div", { class: "lb-shares" }, h("span", {}, "judge\u2019s confidence:"), ...bars.map(({ line }) => line)));
    const show = (picture, chances, label, ink) => {
      const seen = best(chances);
      paintGrey(canvas, picture);
      canvas.setAttribute("aria-label", `${name}: a picture in which the judge sees ${aDigit(seen)}`);
      verdict.replaceChildren(`judge sees ${aDigit(seen)}`);
      element.dataset.follows = followed(seen, label, ink);
      bars[0].show(label, chances[label]);
      bars[1].show(ink, chances[ink]);
      bars[1].line.style.visibility = label === ink ? "hidden" : "";
    };
    return { element, show };
  });

  const tries = new Map(), cells = names.map(() => h("td", {}));
  const measured = model.get("measured").map((share) => h("td", {}, `${Math.round(100 * share)}\u00a0%`));
  const tally = h("table", { class: "lb-numbers" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "draws what is asked for"), ...names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, "your tries"), ...cells),
      h("tr", {}, h("th", { scope: "row" }, "10,000 test digits, 9 labels each"), ...measured)));
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });

  // A try is the reader's own: a digit written or a label chosen by hand, once the pen has rested. Each counts once.
  let turn = 0, settling = 0, models = null, own = false, down = false;
  const onPad = () => JSON.stringify(rounded(sheet.strokes));
  function count(label, ink, seen) {
    if (own && label !== ink) tries.set(`${label} ${onPad()}`, seen.map((digit) => digit === label));
    cells.forEach((cell, m) => {
      cell.textContent = tries.size ? `${[...tries.values()].filter((heard) => heard[m]).length} of ${tries.size}` : "\u2013";
    });
  }

  function show(pictures, [own, ...drawn]) {
    const label = model.get("label"), ink = best(own), seen = drawn.map(best);
    panels.forEach((panel, m) => panel.show(pictures[m], drawn[m], label, ink));
    el.dataset.shown = `${ink},${label},${seen}`;
    el.dataset.turn = turn;
    board.removeAttribute("data-stale");
    clearTimeout(settling);
    if (down) return;
    readout.textContent = `The judge reads your digit as ${aDigit(ink)}; you ask for ${aDigit(label)}. `
      + (label === ink ? "Ask for a digit that you did not write, so that the two disagree."
        : names.map((name, m) => `${m ? "the" : "The"} ${name} ${FOLLOWS[followed(seen[m], label, ink)]}`).join("; ") + ".");
    settling = setTimeout(() => count(label, ink, seen), SETTLED);
  }

  // The pictures of what stands on the pad; of requests that come meanwhile the last one counts.
  async function redraw() {
    inputs.forEach((input, k) => { input.checked = k === model.get("label"); });
    const mine = ++turn, label = model.get("label"), image = rasterise(centred(rounded(sheet.strokes)));
    if (!models || !image.some((value) => value > 0.1)) {
      clearTimeout(settling);
      if (!models) return;
      readout.textContent = "The pad is empty: write a digit.";
      board.dataset.stale = "";
      return;
    }
    const pictures = await Promise.all(models.slice(0, 2).map(async (network) => {
      const own = await network.run("classify", image);
      const code = own && (await network.run("encode", image, best([...own])));
      return code && network.run("decode", code.mean, label);
    }));
    const chances = pictures.every(Boolean) && (await models[2].run("each", "judge", [[image], ...pictures.map((one) => [one])]));
    if (chances && mine === turn) show(pictures, chances.map((one) => [...one]));
  }

  const placed = (digit) => rounded(centred(samples[digit]));
  const seen = recorded.chances.slice(1).map(best), { ink } = recorded;
  const outcome = [began.label, ink].indexOf(seen[0]);
  const manner = manners(model, {
    state: { label: isDigit, strokes: isDrawing }, onRequest: ["strokes"],
    tries: [
      ["a 1, asked for as an 8", { strokes: placed(1), label: 8 }],
      ["a 4, asked for as a 9", { strokes: placed(4), label: 9 }],
      ["a scribble", { strokes: [[[6, 8], [21, 9], [8, 15], [20, 17], [9, 22]]], label: 5 }],
    ],
    question: {
      words: `Here is ${aDigit(ink)}. Ask two models for ${aDigit(began.label)} in the same hand: what will the ${names[0]} draw?`,
      options: [aDigit(began.label), aDigit(ink), "something else"], right: outcome < 0 ? 2 : outcome,
      answer: `The ${names[0]} draws ${aDigit(seen[0])}, the ${names[1]} ${aDigit(seen[1])}. Now write your own.`,
      veiled: [...panels.map(({ element }) => element), tally, readout],
    },
  });

  const board = h("div", { class: "lb-board" }, sheet.element, asking, ...panels.map(({ element }) => element), tally);
  el.append(h("figure", { class: "lb-widget lb-contradict", "aria-label": "Write a digit, ask for another" },
    manner.ask, board, readout, manner.row, h("figcaption", {}, model.get("caption"))));

  const follows = follow(model, ["label", "strokes"], () => {
    if (onPad() !== JSON.stringify(model.get("strokes"))) { // a state to try, a link, the kernel
      own = false;
      sheet.write(model.get("strokes"));
    }
    redraw();
  });
  const quiet = sheet.on(({ drawing }) => {
    const strokes = rounded(sheet.strokes), lifted = down && !drawing;
    down = drawing;
    if (JSON.stringify(strokes) === JSON.stringify(model.get("strokes"))) return lifted ? redraw() : undefined;
    own = true;
    manner.close();
    return drawing ? redraw() : assign(model, { strokes });
  });
  if (JSON.stringify([model.get("label"), model.get("strokes")]) === JSON.stringify([began.label, began.strokes])) {
    show(recorded.pictures.map((text) => Float32Array.from(bytes(text), (value) => value / 255)), recorded.chances);
  }
  count(0, 0, []);
  const opened = Promise.all(["first", "second", "judge"].map((name) => openModel(model.get(name))));
  opened.then((found) => { models = found; el.dataset.live = found[0].where; redraw(); },
    () => { readout.textContent = "The models of this figure could not be loaded; the digits shown were recorded."; });
  return () => {
    follows();
    quiet();
    manner.stop();
    sheet.stop();
    clearTimeout(settling);
    opened.then((found) => found.forEach((network) => network.close()), () => {});
  };
}

export default { render, followed, engine, inflate, bytes };
