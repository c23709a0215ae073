// SignFigure: draw signs of one class; each image says something of it, together they say more, and five hands write it.
// Traits: cut, restored, judge (the models' files), sheet, packing, labels (test digits kept, and what they are), hands (those
// that give their style), samples (digits to begin with), centres ({ model: [digits][class] }), planes ({ model: [2][class] }),
// presets ([words, evidence]), gradient ("cut" | "restored"), evidence (numbers of kept digits, and drawings), left_out (which
// of it is not in use), strokes (on the pad), recorded ({ model: { experts: [[item, mean, log-variance]], seen, exact } }) and
// pictures (the start, before the models are here: hands of both models, bytes, deflated), caption.

const MODELS = ["cut", "restored"], MOST = 10;
const SIDE = 240; // of the plane, in its own units
const sum = (values) => values.reduce((a, b) => a + b, 0);
const range = (n) => Array.from({ length: n }, (_, i) => i);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// How wide a Gaussian is: the geometric mean of its standard deviations. The prior's is 1.
const widthOf = ({ logVar }) => Math.exp(sum([...logVar]) / logVar.length / 2);
const distance = (a, b) => sum([...a].map((value, d) => (value - b[d]) ** 2));

// What experts say together; without any, the prior.
const together = (experts, dims, exact) => (experts.length ? engine.productOfExperts(experts, exact)
  : { mean: new Float64Array(dims), logVar: new Float64Array(dims) });

// The plane of the class code: what each image says, what all say together, the prior, and the digits' mean codes.
function planeOfClasses() {
  const map = svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img" });
  function draw({ experts, left, product, centres, spare }) {
    const near = [...centres.keys()].sort((a, b) => distance(product.mean, centres[a]) - distance(product.mean, centres[b])).slice(0, 2);
    const plane = experts.length ? planeThrough(product.mean, [...near].sort((a, b) => a - b).map((k) => centres[k]), spare) : spare;
    const prior = { mean: product.mean.map(() => 0), logVar: product.mean.map(() => 0) }, reach = ellipse(plane, prior).a;
    const points = centres.map((code) => project(plane, code)).concat([[reach, reach], [-reach, -reach]]);
    for (const { x, y, a } of experts.map((one) => ellipse(plane, one))) points.push([x - a, y - a], [x + a, y + a]);
    const [[west, east], [south, north]] = [0, 1].map((k) => [Math.min(...points.map((p) => p[k])), Math.max(...points.map((p) => p[k]))]);
    const scale = SIDE / (1.12 * Math.max(east - west, north - south));
    const place = ([x, y]) => [SIDE / 2 + scale * (x - (west + east) / 2), SIDE / 2 - scale * (y - (south + north) / 2)];
    const shape = (posterior, kind) => {
      const { x, y, a, b, angle } = ellipse(plane, posterior), [cx, cy] = place([x, y]);
      const transform = `translate(${cx} ${cy}) rotate(${(-180 * angle) / Math.PI})`;
      return svg("ellipse", { class: `lb-${kind}`, rx: scale * a, ry: scale * b, transform });
    };
    const dots = centres.map((code, digit) => {
      const [cx, cy] = place(project(plane, code)), kind = digit === near[0] && experts.length ? "lb-nearest" : near.includes(digit) ? "lb-near" : "lb-off";
      return svg("g", { class: `lb-centre ${kind}` }, svg("circle", { cx, cy, r: 2.5 }), svg("text", { x: cx + 4, y: cy - 4 }, String(digit)));
    });
    map.replaceChildren(shape(prior, "prior"), ...left.map((one) => shape(one, "other")), ...experts.map((one) => shape(one, "one")),
      ...(experts.length ? [shape(product, "product")] : []), ...dots);
    return near[0];
  }
  return { map, draw };
}

// Three bars: how wide the prior is, one image alone, and all together.
function widthBars() {
  const kinds = [["prior", "prior"], ["one", "one image alone"], ["product", "all together"]];
  const rows = kinds.map(([kind, words]) => {
    const number = h("b", {}), bar = h("i", { class: `lb-bar-${kind}` });
    const mark = svg("svg", { class: "lb-mark", viewBox: "0 0 26 12", "aria-hidden": "true" }, svg("ellipse", { class: `lb-${kind}`, cx: 13, cy: 6, rx: 11, ry: 4.5 }));
    return { number, bar, element: h("div", { class: "lb-width" }, h("span", {}, mark, words), number, bar) };
  });
  const element = h("div", { class: "lb-widths", role: "group", "aria-label": "how wide" },
    h("div", { class: "lb-legend" }, "width (prior: 1)"), ...rows.map(({ element: row }) => row));
  function show(alone, product) {
    const widths = [1, alone, product], most = Math.max(1, alone ?? 0);
    rows.forEach(({ number, bar }, k) => {
      number.textContent = widths[k] === null ? "\u2013" : widths[k].toFixed(2);
      bar.style.width = `${(100 * (widths[k] ?? 0)) / most}%`;
    });
  }
  return { element, show };
}

function render({ model, el }) {
  const [labels, hands, recorded, presets] = ["labels", "hands", "recorded", "presets"].map((name) => model.get(name));
  const [centres, planes, samples] = ["centres", "planes", "samples"].map((name) => model.get(name));
  const dims = centres.cut[0].length, traits = ["gradient", "evidence", "left_out", "strokes"];
  const began = { evidence: model.get("evidence"), left_out: model.get("left_out") };
  const sheet = pad({ label: "pad: draw a sign here", samples, hint: "draw a digit or a letter", legend: "or begin with one of ours" });

  // EVIDENCE: its slots stay, what is in them changes.
  const isOut = (place) => model.get("left_out").includes(place);
  const slots = range(MOST).map((place) => {
    const canvas = h("canvas", { class: "lb-picture", width: 28, height: 28, "aria-hidden": "true" });
    const image = h("button", { type: "button", class: "lb-image", onclick: () => turn(place) }, h("span", { class: "lb-print" }, canvas));
    const cross = h("button", { type: "button", class: "lb-remove", "aria-label": `remove image ${place + 1}`, onclick: () => remove([place]) }, "\u00d7");
    return { canvas, image, cross, element: h("div", { class: "lb-slot" }, image, cross) };
  });
  const adding = h("button", { type: "button", class: "lb-bet lb-add", onclick: add }, "Add image");
  sheet.element.querySelector(".lb-pad-bar").prepend(adding);
  const several = h("button", { type: "button", class: "lb-button", onclick: () => remove(model.get("left_out").length ? model.get("left_out") : range(MOST)) });
  const tray = h("div", { class: "lb-tray", role: "group", "aria-label": "evidence" },
    h("div", { class: "lb-heading" }, h("span", {}, "evidence: press one to leave it out"), several),
    h("div", { class: "lb-slots" }, ...slots.map(({ element }) => element)));
  const said = h("p", { class: "lb-pad-say", "aria-live": "polite" });

  function turn(place) {
    const out = model.get("left_out");
    assign(model, { left_out: isOut(place) ? out.filter((other) => other !== place) : [...out, place].sort((a, b) => a - b) });
  }
  function remove(places) {
    const evidence = model.get("evidence"), stays = [...evidence.keys()].filter((place) => !places.includes(place));
    const focused = tray.contains(document.activeElement);
    assign(model, { evidence: stays.map((place) => evidence[place]), left_out: stays.flatMap((place, k) => (isOut(place) ? [k] : [])) });
    said.textContent = stays.length ? `${stays.length} image${stays.length > 1 ? "s" : ""} of evidence left.` : "No evidence is left.";
    if (focused && (document.activeElement === document.body || document.activeElement.disabled || !document.activeElement.checkVisibility({ visibilityProperty: true }))) {
      (stays.length ? slots[stays.length - 1].image : sheet.surface).focus({ preventScroll: true });
    }
  }
  // What is on the pad becomes evidence. Where there is no room, it takes the place of ours, but not of drawings.
  const isFull = () => model.get("evidence").length === MOST && model.get("evidence").some((item) => typeof item !== "number");
  function add() {
    const strokes = rounded(sheet.strokes), evidence = model.get("evidence");
    if (!strokes.length || isFull()) {
      said.textContent = readout.textContent = strokes.length ? "Ten images are all that fit: remove one." : "The pad is empty: draw a sign first.";
      return;
    }
    const anew = evidence.length === MOST;
    sheet.clear();
    assign(model, { strokes: [], evidence: anew ? [strokes] : [...evidence, strokes], ...(anew ? { left_out: [] } : {}) });
    said.textContent = `Added as image ${model.get("evidence").length}.`;
  }

  // HANDS: an image that gives its style, what is drawn with it, and what the judge sees.
  const five = hands.map((hand, k) => {
    const [source, canvas] = ["", ""].map(() => h("canvas", { class: "lb-picture", width: 28, height: 28, role: "img" }));
    const verdict = h("span", { class: "lb-verdict" });
    source.setAttribute("aria-label", `hand ${k + 1}: ${aDigit(labels[hand])}, for its style`);
    return { source, canvas, verdict, element: h("div", { class: "lb-hand" },
      h("span", { class: "lb-print lb-source" }, source), h("span", { class: "lb-print lb-drawn" }, canvas), verdict) };
  });
  const counted = h("p", { class: "lb-counted" });
  const writing = h("div", { class: "lb-writing" }, h("div", { class: "lb-heading" }, "five hands, and what they write"),
    h("div", { class: "lb-hands" }, ...five.map(({ element }) => element)), counted);
  const gradient = choice(model, "gradient", { label: "class gradient", options: MODELS.map((name) => [name, name]) });
  const { map, draw: drawPlane } = planeOfClasses(), bars = widthBars();
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });

  // What is known of the evidence in use: its digit, if all of it is of one.
  const usedItems = () => model.get("evidence").filter((_, place) => !isOut(place));
  const digitsOf = (items) => [...new Set(items.map((item) => (typeof item === "number" ? labels[item] : null)))];
  const known = (items) => { const found = digitsOf(items); return found.length === 1 ? found[0] : null; };

  // EXPERTS, by model and item. The models are asked for those that are not there yet.
  let kept = null, models = null, turns = 0, gone = false;
  const memory = new Map(MODELS.flatMap((name) => recorded[name].experts.map(([item, mean, logVar]) =>
    [name + JSON.stringify(item), { mean: Float64Array.from(mean), logVar: Float64Array.from(logVar), early: true }])));
  const styles = new Map();
  const valuesOf = (item) => (typeof item === "number" ? kept[item].values : rasterise(centred(item)));
  async function expertsOf(name, items) {
    const lacking = items.filter((item) => { const one = memory.get(name + JSON.stringify(item)); return !one || (models && one.early); });
    if (lacking.length && models) {
      const found = await models[name].runAs("encode", "each", "encode", lacking.map((item) => [valuesOf(item)]));
      if (!found) return null;
      lacking.forEach((item, k) => memory.set(name + JSON.stringify(item), found[k].class));
    }
    const all = items.map((item) => memory.get(name + JSON.stringify(item)));
    return all.every(Boolean) ? all : null;
  }
  async function stylesOf(name) {
    if (!styles.has(name)) styles.set(name, await models[name].runAs("styles", "each", "encode", hands.map((hand) => [kept[hand].values])));
    if (!styles.get(name)) styles.delete(name);
    return styles.get(name)?.map(({ style }) => style.mean) ?? null;
  }

  function tell(items, experts, product, nearest) {
    const n = items.length, kinds = digitsOf(items), narrow = widthOf(product).toFixed(2);
    if (!n) return "No image is in use: of the class, only the prior is known.";
    const what = kinds.length === 1 && kinds[0] !== null ? ` of ${aDigit(kinds[0])}` : kinds.every((kind) => kind === null) ? ", drawn here" : "";
    const start = `${n} image${n > 1 ? "s" : ""}${what}. ${n > 1 ? "Together they are" : "It is"} ${narrow} as wide as the prior, and nearest to the ${nearest}s.`;
    const apart = n > 1 && kinds.filter((kind) => kind !== null).length > 1;
    return start + (apart ? " They disagree, yet precisions add: the product is narrower than each of them." : "");
  }
  const askedNow = () => JSON.stringify([model.get("gradient"), model.get("evidence"), model.get("left_out")]);

  function showPlane(name, items, experts, left) {
    const product = together(experts, dims, recorded[name].exact);
    const nearest = drawPlane({ experts, left, product, centres: centres[name], spare: planes[name] });
    bars.show(experts.length ? sum(experts.map(widthOf)) / experts.length : null, widthOf(product));
    readout.textContent = tell(items, experts, product, nearest);
    map.setAttribute("aria-label", `What the images say of their class, in a plane of the class code. ${readout.textContent}`);
    el.dataset.width = widthOf(product);
    return product;
  }
  function showHands(pictures, seen, digit) {
    five.forEach(({ canvas, verdict, element }, k) => {
      paintGrey(canvas, pictures[k]);
      canvas.setAttribute("aria-label", `hand ${k + 1} writes what the judge reads as ${aDigit(seen[k])}`);
      verdict.textContent = `reads ${seen[k]}`;
      element.toggleAttribute("data-follows", digit === null || seen[k] === digit);
    });
    const hits = seen.filter((each) => each === digit).length;
    counted.replaceChildren(...(digit === null ? ["read by a judge who knows digits alone"]
      : [h("b", {}, `${hits} of ${seen.length}`), ` read as ${aDigit(digit)}`]));
    writing.removeAttribute("data-stale");
    el.dataset.seen = seen.join();
    el.dataset.shown = askedNow();
  }

  // What stands in the slots, on the plane and in the hands. Of requests that come meanwhile the last one counts.
  async function redraw() {
    const evidence = model.get("evidence"), mine = ++turns, name = model.get("gradient");
    settle(evidence);
    if (!kept) return;
    const items = usedItems(), others = evidence.filter((_, place) => isOut(place));
    const all = await expertsOf(name, [...items, ...others]);
    if (gone || mine !== turns) return;
    writing.dataset.stale = "";
    if (!all) {
      readout.textContent = "The models are on their way.";
      return;
    }
    const experts = all.slice(0, items.length), product = showPlane(name, items, experts, all.slice(items.length));
    if (!models) {
      if (same(began, { evidence, left_out: model.get("left_out") }) && start) showHands(start[name], recorded[name].seen, known(items));
      return;
    }
    const style = await stylesOf(name);
    const drawn = style && (await models[name].runAs("decode", "each", "decode", style.map((each) => [each, product.mean])));
    const chances = drawn && (await models.judge.runAs("judge", "each", "judge", drawn.map((each) => [each])));
    if (!chances || gone || mine !== turns) return;
    showHands(drawn, chances.map((each) => best([...each])), known(items));
  }
  function settle(evidence) {
    gradient.show();
    adding.setAttribute("aria-disabled", isFull());
    several.textContent = model.get("left_out").length ? "remove those out" : "remove all";
    several.disabled = !evidence.length;
    slots.forEach(({ canvas, image, cross, element }, place) => {
      const item = evidence[place], there = item !== undefined;
      element.toggleAttribute("data-empty", !there);
      image.disabled = cross.disabled = !there;
      image.setAttribute("aria-pressed", there && !isOut(place));
      const what = !there ? "no image" : typeof item === "number" ? aDigit(labels[item]) : "drawn here";
      image.setAttribute("aria-label", there ? `image ${place + 1}, ${what}` : `place ${place + 1} is empty`);
      if (!there || !kept) canvas.width = 28;
      else paintGrey(canvas, valuesOf(item));
    });
  }

  const digit = known(began.evidence.filter((_, place) => !began.left_out.includes(place))), kinds = ["0\u20131", "2\u20133", "4\u20135"];
  const hits = MODELS.map((name) => recorded[name].seen.filter((each) => each === digit).length);
  const manner = manners(model, {
    state: {
      gradient: (name) => MODELS.includes(name),
      evidence: (items) => Array.isArray(items) && items.length <= MOST
        && items.every((item) => below(labels.length)(item) || (isDrawing(item) && item.length > 0)),
      left_out: (places, { evidence }) => Array.isArray(places) && places.every((place, k) => below(evidence.length)(place) && (!k || places[k - 1] < place)),
      strokes: isDrawing,
    },
    tries: presets.map(([words, evidence]) => [words, { evidence, left_out: [] }]),
    complete: (wanted) => (wanted.evidence && !wanted.left_out ? { ...wanted, left_out: [] } : wanted),
    onRequest: ["evidence", "left_out", "strokes"],
    question: digit === null ? null : {
      words: `The model sees ${began.evidence.length === 1 ? `one ${digit}` : `${began.evidence.length === MOST ? "ten" : began.evidence.length} ${digit}s`}, `
        + `but the layers that make its class code never learned. How many of five hands write ${aDigit(digit)}?`,
      options: kinds, right: Math.floor(hits[0] / 2),
      answer: `${hits[0]} of 5. With the gradient restored, ${hits[1]} of 5: turn the switch, then add a sign of your own.`,
      veiled: [writing, map, bars.element, readout],
    },
  });

  const side = h("div", { class: "lb-side" }, tray, h("div", { class: "lb-switch" }, gradient.element), writing,
    h("div", { class: "lb-below" }, map, bars.element, readout));
  const board = h("div", { class: "lb-board" }, sheet.element, side, said);
  el.append(h("figure", { class: "lb-widget lb-sign", "aria-label": "A class of your own, written by five hands" },
    ...(manner.ask ? [manner.ask] : []), board, manner.row, h("figcaption", {}, model.get("caption"))));

  const lost = () => { if (!gone) readout.textContent = "A model of this figure could not be run; what is shown was drawn before."; };
  const follows = follow(model, traits, () => {
    if (!same(rounded(sheet.strokes), model.get("strokes"))) sheet.write(model.get("strokes"));
    if (el.dataset.asked !== askedNow()) redraw().catch(lost);
    el.dataset.asked = askedNow();
  });
  const quiet = sheet.on(({ drawing }) => {
    const strokes = rounded(sheet.strokes);
    if (same(strokes, model.get("strokes"))) return;
    manner.close();
    if (!drawing) assign(model, { strokes });
  });
  let start = null;
  readPictures(model).then(async (found) => {
    kept = found;
    five.forEach(({ source }, k) => paintGrey(source, kept[hands[k]].values));
    const all = Float32Array.from(new Uint8Array(await inflate(model.get("pictures"))), (value) => value / 255);
    const picture = (place) => all.subarray(784 * place, 784 * (place + 1));
    start = Object.fromEntries(MODELS.map((name, m) => [name, hands.map((_, k) => picture(hands.length * m + k))]));
    await redraw();
  }).catch(() => { readout.textContent = "The pictures of this figure cannot be read; run the cell again."; });
  const opened = Promise.all([...MODELS, "judge"].map((name) => openModel(model.get(name))));
  opened.then(([cut, restored, judge]) => {
    models = { cut, restored, judge };
    el.dataset.live = cut.where;
    redraw().catch(lost);
  }, () => { readout.textContent = "The models of this figure could not be loaded; what is shown was recorded."; });
  return () => {
    gone = true;
    follows();
    quiet();
    manner.stop();
    sheet.stop();
    opened.then((found) => found.forEach((network) => network.close()), () => {});
  };
}

export default { render, ellipse, planeThrough, together, widthOf, engine, inflate, bytes };
