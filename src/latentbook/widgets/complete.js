// CompleteFigure: write the foot of a digit; three decoders complete it 18 times each, and the judge says what it sees.
// Traits: names and kinds of the models ({ file: its trait, mixing, prior, note }), judge, feet (strokes by digit), digit (whose
// foot is there at first), strokes (what is on the pad), z, mask ("redrawn" | "held"), z_seed, mask_seed, alpha, prior
// ("conditional" | "standard"), seen and tops (the start, before the models are here: what the judge sees, completed pixels
// [models, 18, 500], deflated), differences (rows of a table), measured, caption.

const COUNT = 18, TOP = 500, LATENT = 32, HIDDEN = 128;
const RESTS = 150; // milliseconds after the last stroke or change: then the judge votes
const VEIL = `M0 0H28V${Math.floor(TOP / 28)}H${TOP % 28}V${Math.floor(TOP / 28) + 1}H0Z`; // the first 500 pixels
const BOX = "M4 18V24H24V17"; // MNIST's digits stand in a box of 20 pixels
const isDraw = (value) => value === "redrawn" || value === "held";
const isPrior = (value) => value === "conditional" || value === "standard";

const tally = (seen) => Array.from({ length: 10 }, (_, digit) => seen.filter((each) => each === digit).length);
const kindsOf = (seen) => new Set(seen).size;
const digits = (count) => `${count} different digit${count === 1 ? "" : "s"}`;

// Noise and masks of the completions, the same for all models: one for each, or the first for all. As in the library, a mask
// has the alpha features of the highest random scores.
function draws({ z, mask, z_seed: zSeed, mask_seed: maskSeed, alpha }) {
  const normal = engine.normals(zSeed), score = engine.normals(maskSeed), rows = Array.from({ length: COUNT });
  const noise = rows.map(() => normal(LATENT)), masks = rows.map(() => {
    const scores = score(HIDDEN), first = new Set([...scores.keys()].sort((i, j) => scores[j] - scores[i]).slice(0, alpha));
    return Array.from(scores, (_, k) => first.has(k));
  });
  return { noise: z === "held" ? noise.fill(noise[0]) : noise, masks: mask === "held" ? masks.fill(masks[0]) : masks };
}

// The completed pixels of a foot by one model, an array for each draw; equal draws are decoded once, and share it.
async function complete(network, mixing, condition, { noise, masks }, standard) {
  const known = new Map(), asked = [[], []];
  const places = noise.map((each, k) => {
    const key = mixing === "concatenation" ? null : masks[k], before = known.get(each) ?? new Map();
    known.set(each, before);
    if (!before.has(key)) {
      before.set(key, asked[0].length);
      asked[0].push(each);
      asked[1].push(key);
    }
    return before.get(key);
  });
  const tops = await network.run("complete", condition, ...asked, standard);
  return places.map((place) => tops[place]);
}

// A square picture in grey, light ink on black.
function paint(canvas, top, foot) {
  const image = new ImageData(28, 28), { data } = image;
  for (let k = 0; k < 784; k++) {
    data[4 * k] = data[4 * k + 1] = data[4 * k + 2] = 255 * (k < TOP ? top[k] : foot[k]);
    data[4 * k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// One model: its 18 completions, what the judge sees in each, and its votes for the ten digits.
function panelOf(name) {
  const prints = Array.from({ length: COUNT }, () => {
    const canvas = h("canvas", { class: "lb-picture", width: 28, height: 28 }), seen = h("span", { class: "lb-seen" });
    return { canvas, seen, element: h("div", { class: "lb-one" }, h("span", { class: "lb-print" }, canvas), seen) };
  });
  const grid = h("div", { class: "lb-grid", role: "img" }, ...prints.map(({ element }) => element));
  const columns = tally([]).map((_, digit) =>
    h("div", { class: "lb-vote" }, h("b", {}), h("i", {}), h("span", {}, String(digit))));
  const votes = h("div", { class: "lb-votes", role: "img" }, ...columns), number = h("p", { class: "lb-number" });
  const note = h("p", { class: "lb-note" });
  const element = h("div", { class: "lb-panel", role: "group", "aria-label": name },
    h("div", { class: "lb-heading" }, name), note, grid, number, votes);
  const draw = (tops, foot) => prints.forEach(({ canvas }, k) => paint(canvas, tops[k], foot));
  function judged(found) {
    const counts = tally(found), most = Math.max(...counts), first = counts.indexOf(most);
    element.dataset.seen = found.join();
    prints.forEach(({ seen }, k) => { seen.textContent = found[k]; });
    columns.forEach((column, digit) => {
      column.style.setProperty("--votes", counts[digit]);
      column.firstChild.textContent = counts[digit] || "";
    });
    number.replaceChildren(h("b", {}, digits(kindsOf(found))), ` \u00b7 ${first} in ${most} of ${COUNT}`);
    grid.setAttribute("aria-label", `${COUNT} completions, ${name}; the judge sees ${found.join(", ")}`);
    const told = counts.map((count, digit) => (count ? `${digit}: ${count}` : "")).filter(Boolean);
    votes.setAttribute("aria-label", `votes for each digit: ${told.join(", ")}`);
  }
  return { element, draw, judged, note };
}

function render({ model, el }) {
  const names = model.get("names"), kinds = model.get("kinds"), feet = model.get("feet"), recorded = model.get("seen");
  const short = names.map((name) => name.replace(" recipe", ""));
  const traits = ["strokes", "z", "mask", "z_seed", "mask_seed", "alpha", "prior"];
  const now = () => Object.fromEntries(traits.map((trait) => [trait, model.get(trait)]));
  const began = JSON.stringify(now());

  const sheet = pad({ label: "pad: write the lower part of a digit here", centre: false, hint: "write the foot of a digit" });
  const veil = svg("svg", { viewBox: "0 0 28 28", "aria-hidden": "true", class: "lb-veil" },
    svg("path", { d: VEIL }), svg("path", { d: BOX, class: "lb-box" }));
  sheet.surface.querySelector("canvas").after(veil);
  sheet.stage.append(h("span", { class: "lb-theirs", "aria-hidden": "true" }, "the model\u2019s part"));
  const bar = sheet.element.querySelector(".lb-pad-bar");
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "what is written");

  // Thumbnails of feet, in the middle of their frames; pressed, a foot stands where it does in MNIST.
  const stamps = Object.entries(feet).map(([name, strokes]) => {
    const ink = rasterise(strokes), values = new Float32Array(784);
    values.set(ink.subarray(TOP), TOP - 252);
    return { name, strokes, values };
  });
  const begin = sampleButtons(stamps, "or begin with the foot of one of ours",
    (name) => `begin with the foot of ${aDigit(Number(name))}`, ({ strokes }) => sheet.write(strokes));

  const refresh = h("button", { type: "button", class: "lb-button", onclick: () => {
    const seeds = ["z", "mask"].filter((name) => model.get(name) === "redrawn").map((name) => `${name}_seed`);
    assign(model, Object.fromEntries(seeds.map((name) => [name, model.get(name) + 1])));
  } }, "draw again");
  const holds = ["z", "mask"].map((name) => {
    const input = h("input", { type: "checkbox", "data-trait": name });
    input.addEventListener("change", () => assign(model, { [name]: input.checked ? "held" : "redrawn" }));
    return { input, name, element: h("label", { title: `one ${name} for all ${COUNT}` }, input, h("span", {}, `hold ${name}`)) };
  });
  const drawing = h("div", { class: "lb-draws", role: "group", "aria-label": "what is drawn" },
    refresh, ...holds.map(({ element }) => element));
  const alpha = slider(model, "alpha", {
    label: "\u03b1", min: 0, max: HIDDEN, say: (value) => `${value} of ${HIDDEN} features from the foot`,
  });
  const prior = choice(model, "prior", {
    label: "fixed recipe\u2019s prior", options: [["conditional", "given the foot"], ["standard", "N(0, 1)"]],
  });

  const panels = names.map(panelOf);
  const group = newId("lb-which"), counts = names.map(() => h("small", {}));
  const inputs = names.map((name, m) => h("input", { type: "radio", name: group, value: m, checked: m === 0 }));
  const which = h("div", { class: "lb-which", role: "radiogroup", "aria-label": "model to look at" },
    ...names.map((name, m) => h("label", {}, inputs[m], h("span", {}, name, counts[m]))));
  const turnTo = (m) => panels.forEach(({ element }, k) => element.toggleAttribute("data-chosen", k === m));
  inputs.forEach((input, m) => input.addEventListener("change", () => turnTo(m)));
  turnTo(0);
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });

  function settle() {
    holds.forEach(({ input, name }) => { input.checked = model.get(name) === "held"; });
    refresh.disabled = holds.every(({ input }) => input.checked);
    for (const { show } of [alpha, prior]) show();
    panels.forEach(({ note }, m) => {
      const given = kinds[m].prior === "conditional" && model.get("prior") === "conditional";
      note.textContent = kinds[m].note.replace("{prior}", given ? "given the foot" : "N(0, 1)");
    });
  }
  function said(seen) {
    const many = seen.map(kindsOf), [z, mask] = holds.map(({ input }) => input.checked);
    const counted = short.map((name, m) => `${m ? many[m] : digits(many[m])} (${name})`).join(", ");
    return `In ${COUNT} completions the judge sees ${counted}.`
      + (z && mask ? " z and mask are held: all 18 are one." : z ? " z is held: what still differs is the mask\u2019s doing."
        : mask ? " The mask is held: what still differs is z\u2019s doing." : "");
  }
  function show(seen) {
    panels.forEach(({ judged }, m) => judged(seen[m]));
    counts.forEach((each, m) => { each.textContent = digits(kindsOf(seen[m])).replace("different ", ""); });
    readout.textContent = trouble || said(seen);
    board.removeAttribute("data-waiting");
    el.dataset.judged = el.dataset.turn ?? "0";
  }

  let turn = 0, resting = 0, models = null, busy = false, again = false, gone = false, drawn = null, trouble = "";
  const footOf = () => rasterise(rounded(sheet.strokes));
  function draw(tops, foot) {
    panels.forEach((panel, m) => panel.draw(tops[m], foot));
    board.toggleAttribute("data-waiting", true);
    el.dataset.turn = ++turn;
  }

  // The judge reads every picture, one model after the other; a new picture ends it.
  async function vote(tops, foot) {
    const mine = turn, seen = [];
    for (const each of tops) {
      const distinct = [...new Set(each)], whole = (top) => Float32Array.from(foot, (value, k) => (k < TOP ? top[k] : value));
      const chances = await models.at(-1).run("each", "judge", distinct.map((top) => [whole(top)]));
      if (!chances || mine !== turn) return;
      const found = chances.map((row) => row.indexOf(Math.max(...row)));
      seen.push(each.map((top) => found[distinct.indexOf(top)]));
    }
    show(seen);
  }

  // What stands on the pad now, completed; of changes that come meanwhile the last one counts.
  async function once() {
    const foot = footOf(), condition = foot.slice(TOP), state = now();
    clearTimeout(resting);
    const empty = !condition.some((value) => value > 0.1);
    board.toggleAttribute("data-empty-foot", empty);
    if (empty) {
      turn += 1;
      readout.textContent = "There is no foot yet: write below the line.";
      return;
    }
    const key = JSON.stringify({ ...state, strokes: null });
    if (drawn?.key !== key) drawn = { key, ...draws(state) };
    const tops = await Promise.all(names.map((_, m) =>
      complete(models[m], kinds[m].mixing, condition, drawn, state.prior === "standard")));
    draw(tops, foot);
    resting = setTimeout(() => vote(tops, foot).catch(lost), RESTS);
  }
  const fail = (words) => { trouble = readout.textContent = words; };
  const lost = () => { if (!gone) fail("A model of this figure could not be run; what is shown is what it drew before."); };
  async function redraw() {
    again = true;
    if (busy || !models) return;
    busy = true;
    try {
      while (again && !gone) {
        again = false;
        await once();
      }
    } catch {
      lost();
    } finally {
      busy = false;
    }
  }

  const many = kindsOf(recorded[0]), ranges = [[1, 2], [3, 4], [5, 10]];
  const manner = manners(model, {
    state: {
      strokes: isDrawing, z: isDraw, mask: isDraw, z_seed: below(2 ** 31), mask_seed: below(2 ** 31),
      alpha: below(HIDDEN + 1), prior: isPrior,
    },
    onRequest: ["strokes"],
    tries: [
      ["a stem: 4, 7, 9?", { strokes: feet[9] }],
      ["one z for all", { z: "held", mask: "redrawn" }],
      ["fixed, but prior N(0, 1)", { prior: "standard" }],
    ],
    question: JSON.stringify(model.get("strokes")) !== JSON.stringify(feet[model.get("digit")]) ? null : {
      words: `Here is the foot of ${aDigit(model.get("digit"))}. How many different digits will the judge see in ${COUNT} completions `
        + `by the ${names[0]}?`,
      options: ["1\u20132", "3\u20134", "5+"], right: ranges.findIndex(([low, high]) => low <= many && many <= high),
      answer: `The judge sees ${recorded.map((seen, m) => `${kindsOf(seen)} (${short[m]})`).join(", ")}. `
        + "Now write a foot of your own.",
      veiled: [...panels.map(({ element }) => element), which, readout],
    },
  });

  const rows = model.get("differences").map(([what, ...texts]) =>
    h("tr", {}, h("th", { scope: "row" }, what), ...texts.map((text) => h("td", {}, text))));
  const table = h("table", { class: "lb-numbers" },
    h("thead", {}, h("tr", {}, h("td", {}), ...names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, ...rows));
  const more = h("details", { class: "lb-more" }, h("summary", {}, "how the three differ; \u03b1 and the prior"),
    h("div", { class: "lb-bar" }, alpha.element, prior.element), table, h("p", { class: "lb-measured" }, model.get("measured")));
  const board = h("div", { class: "lb-board" }, sheet.element, begin.element, drawing, which,
    h("div", { class: "lb-panels" }, ...panels.map(({ element }) => element)), readout);
  el.append(h("figure", { class: "lb-widget lb-complete", "aria-label": "Write the foot of a digit, see it completed" },
    ...(manner.ask ? [manner.ask] : []), board, manner.row, more, h("figcaption", {}, model.get("caption"))));

  const follows = follow(model, traits, () => {
    if (JSON.stringify(rounded(sheet.strokes)) !== JSON.stringify(model.get("strokes"))) sheet.write(model.get("strokes"));
    settle();
    redraw();
  });
  const quiet = sheet.on(({ drawing: held }) => {
    const strokes = rounded(sheet.strokes);
    if (JSON.stringify(strokes) === JSON.stringify(model.get("strokes"))) return;
    manner.close();
    if (!held) assign(model, { strokes });
    else redraw();
  });
  if (JSON.stringify(now()) === began) inflate(model.get("tops")).then((content) => {
    if (turn) return;
    const all = Float32Array.from(new Uint8Array(content), (value) => value / 255);
    const top = (place) => all.subarray(TOP * place, TOP * (place + 1));
    draw(names.map((_, m) => Array.from({ length: COUNT }, (_each, k) => top(COUNT * m + k))), footOf());
    show(recorded);
  });
  const opened = Promise.all([...kinds.map(({ file }) => file), "judge"].map((name) => openModel(model.get(name))));
  opened.then((found) => { models = found; el.dataset.live = found[0].where; redraw(); },
    () => fail("The models of this figure could not be loaded; the completions shown were recorded."));
  return () => {
    gone = true;
    follows();
    quiet();
    manner.stop();
    sheet.stop();
    clearTimeout(resting);
    opened.then((found) => found.forEach((network) => network.close()), () => {});
  };
}

export default { render, draws, complete, engine, inflate, bytes };
