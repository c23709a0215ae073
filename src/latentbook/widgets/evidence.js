// EvidenceFigure: images of one class are put together; what they say of it shrinks, and other images are redrawn with it.
// Traits: sheet, packing (the pictures: n images of each set, then the styles), names (of the sets), mean and log_var
// ([sets][n][class]: what each image alone says of its class), plane ([2][class]), through (whether
// the plane turns to the two nearest centres), centres ([digits][class]) and their labels,
// decoder (packed by decoders.py), evidence (the chosen set's name), used (which of its images, ascending),
// combination ("product" | "exact": the one that is decoded), caption.

const COMBINATIONS = [["product", "product"], ["exact", "exact"]];
const SIDE = 400; // of the plane, in its own units
const sum = (values) => values.reduce((a, b) => a + b, 0);
const range = (n) => Array.from({ length: n }, (_, i) => i);

// What experts [{ mean, logVar }] say together in `dims` dimensions: precisions add up, means are weighed by them, in log
// space; the same as latentbook.distributions.product_of_experts with the prior N(0, I) if exact, without it if not.
// missing: in how many dimensions the exact combination is no Gaussian. Without experts it is the prior.
function combine(experts, dims, exact) {
  const mean = Array(dims).fill(0), logVar = Array(dims).fill(0), n = experts.length;
  let missing = 0;
  for (let d = 0; n > 0 && d < dims; d++) {
    const top = Math.max(...experts.map((e) => -e.logVar[d])); // the most certain expert's log-precision
    const weights = experts.map((e) => Math.exp(-e.logVar[d] - top)), total = sum(weights);
    const logPrecision = top + Math.log(total);
    const share = exact ? Math.exp(Math.log(n - 1) - logPrecision) : 0; // of the precision: the prior, counted again
    if (share >= 1) missing += 1;
    mean[d] = sum(experts.map((e, i) => weights[i] * e.mean[d])) / total / (1 - share);
    logVar[d] = -logPrecision - Math.log1p(-share);
  }
  return { mean, logVar, missing };
}

const deviation = ({ logVar }) => sum(logVar.map((v) => Math.exp(v / 2))) / logVar.length;
const nats = ({ mean, logVar }) => sum(mean.map((m, d) => m * m + Math.exp(logVar[d]) - 1 - logVar[d])) / 2;
const distance = (a, b) => sum(a.map((value, d) => (value - b[d]) ** 2));

// The decoder of a packed trait: decode(style, class code) gives grey values 0 to 1, pixel by pixel.
async function unpackDecoder(packed, styles, dims, pixels) {
  const content = await inflate(packed);
  const hidden = (content.byteLength - 4 * pixels) / (4 * (1 + styles + dims) + pixels);
  let at = 0;
  const [steps, bias, given, weight] = [hidden, pixels, styles * hidden, hidden * dims].map((size) => {
    at += 4 * size;
    return new Float32Array(content, at - 4 * size, size);
  });
  const levels = new Int8Array(content, at);
  return (style, code) => {
    const logits = Float64Array.from(bias);
    for (let unit = 0; unit < hidden; unit++) {
      let active = given[style * hidden + unit];
      for (let d = 0; d < dims; d++) active += weight[unit * dims + d] * code[d];
      active = Math.tanh(active) * steps[unit];
      for (let p = 0, i = unit * pixels; p < pixels; p++, i++) logits[p] += active * levels[i];
    }
    return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  };
}

function render({ model, el }) {
  const [names, means, logVars, spare, centres, labels] = ["names", "mean", "log_var", "plane", "centres", "labels"].map((key) => model.get(key));
  const { height, width, places } = model.get("packing"), dims = spare[0].length, n = means[0].length;
  const styles = places.length - names.length * n;
  let lay = null, decode = null;

  const all = range(n), experts = (set) => all.map((i) => ({ mean: means[set][i], logVar: logVars[set][i] }));
  const which = choice(model, "evidence", { label: "evidence", options: names.map((name) => [name, name]) });
  which.element.hidden = names.length === 1;
  const how = choice(model, "combination", { label: "redraw with", options: COMBINATIONS });
  const first = { // the slider takes the first k images and says how many are in use
    get: () => model.get("used").length,
    set: (_, k) => model.set("used", range(k)),
    save_changes: () => model.save_changes(),
  };
  const count = slider(first, "k", { label: "images of evidence", min: 0, max: n, say: (k) => `${k} of ${n}` });

  const frame = (canvas, kind) => h("span", { class: `lb-print lb-${kind}` }, canvas);
  const images = range(n).map((i) => {
    const canvas = picture(model, 1), mark = h("span", { class: "lb-mark", "aria-hidden": "true" });
    canvas.setAttribute("aria-hidden", "true"); // the button around it has the words
    const button = h("button", { type: "button", class: "lb-image", onclick: () => turn(i) }, frame(canvas, "own"), mark);
    return { canvas, button, mark };
  });
  const rows = range(styles).map((style) => {
    const source = picture(model, 1);
    source.setAttribute("aria-label", `style ${style + 1}`);
    return { source, drawn: range(n).map(() => picture(model, 1)) };
  });
  const says = "evidence, and what is redrawn with it";
  const board = h("div", { class: "lb-board", style: `--lb-images:${n}`, role: "group", "aria-label": says },
    h("div", { class: "lb-heading" }, "evidence: press an image to put it in or out"),
    h("div", { class: "lb-corner" }, "style"), ...images.map(({ button }) => button),
    ...rows.flatMap(({ source, drawn }) => [frame(source, "source"), ...drawn.map((canvas) => frame(canvas, "drawn"))]));
  const map = svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, role: "img" });
  const body = h("tbody"), readout = h("p", { class: "lb-readout", "aria-live": "polite" });
  const heads = ["posterior of", "mean sd", "KL, nats", "nearest"].map((text) => h("th", { scope: "col" }, text));
  const table = h("table", { class: "lb-numbers" }, h("thead", {}, h("tr", {}, ...heads)), body);

  function turn(i) {
    const used = model.get("used");
    assign(model, { used: used.includes(i) ? used.filter((other) => other !== i) : [...used, i].sort((a, b) => a - b) });
  }

  // The plane that is drawn: the given one, or through the product's code and the two centres nearest to it.
  const prior = combine([], dims);
  let plane = spare, place = null, scale = 1;

  // All that every set may show has room, and one unit is as long both ways.
  function look(through) {
    plane = through ?? spare;
    const reach = ellipse(plane, prior);
    const points = [...centres, ...means.flat()].map((code) => project(plane, code)).concat([[reach.a, reach.a], [-reach.a, -reach.a]]);
    const [[left, right], [low, high]] = [0, 1].map((i) => [Math.min(...points.map((p) => p[i])), Math.max(...points.map((p) => p[i]))]);
    scale = SIDE / (1.15 * Math.max(right - left, high - low));
    place = ([x, y]) => [SIDE / 2 + scale * (x - (left + right) / 2), SIDE / 2 - scale * (y - (low + high) / 2)];
  }

  function shape(posterior, kind) {
    const { x, y, a, b, angle } = ellipse(plane, posterior), [cx, cy] = place([x, y]);
    const turned = `translate(${cx} ${cy}) rotate(${(-180 * angle) / Math.PI})`;
    return svg("ellipse", { class: `lb-${kind}`, rx: scale * a, ry: scale * b, transform: turned });
  }

  function dot(code, kind, text) {
    const [cx, cy] = place(project(plane, code));
    return svg("g", { class: `lb-${kind}` }, svg("circle", { cx, cy, r: 3 }), svg("text", { x: cx + 5, y: cy - 5 }, text));
  }

  function sample(kind) {
    return svg("svg", { class: "lb-sample", viewBox: "0 0 26 12", "aria-hidden": "true" }, svg("ellipse", { class: `lb-${kind}`, cx: 13, cy: 6, rx: 12, ry: 5 }));
  }

  const nearestTwo = ({ mean }) => range(centres.length).sort((a, b) => distance(mean, centres[a]) - distance(mean, centres[b])).slice(0, 2);
  const nearest = (posterior) => nearestTwo(posterior)[0];

  function line(kind, title, found, digit = "–") {
    const average = (measure, places) => (sum(found.map(measure)) / found.length).toFixed(places);
    const numbers = found.length === 0 ? ["–", "–", "–"] : found.some(({ missing }) => missing) ? ["none", "–", "–"]
      : [average(deviation, 2), average(nats, 1), digit];
    return h("tr", { "data-row": kind }, h("th", { scope: "row" }, h("span", {}, sample(kind), title)), ...numbers.map((text) => h("td", {}, text)));
  }

  function draw() {
    const set = names.indexOf(model.get("evidence")), used = model.get("used");
    const each = experts(set), chosen = used.map((i) => each[i]);
    const [product, exact] = [false, true].map((once) => combine(chosen, dims, once));
    for (const control of [which, how, count]) control.show();
    images.forEach(({ button, mark }, i) => {
      const number = used.indexOf(i) + 1;
      button.setAttribute("aria-pressed", number > 0);
      button.setAttribute("aria-label", `image ${i + 1} of ${n}`);
      mark.textContent = number || "–";
    });
    const near = used.length > 0 && model.get("through") ? nearestTwo(product) : null;
    look(near && planeThrough(product.mean, [...near].sort((a, b) => a - b).map((i) => centres[i]), spare));
    map.replaceChildren(
      ...each.map((expert, i) => shape(expert, used.includes(i) ? "one" : "other")), shape(prior, "prior"),
      shape(product, "product"), ...(exact.missing ? [] : [shape(exact, "exact")]),
      ...centres.map((code, i) => dot(code, used.length && i === nearest(product) ? "centre lb-nearest" : near && !near.includes(i) ? "centre lb-off" : "centre", labels[i])));
    body.replaceChildren(
      line("prior", "prior", [prior]), line("one", "one image", chosen),
      ...[["product", product], ["exact", exact]].map(([kind, found]) => line(kind, kind, [found], used.length ? labels[nearest(found)] : "–")));
    readout.textContent = tell(used.length, product, exact.missing, chosen);
    map.setAttribute("aria-label", `What the images say of their class, in a plane of the class code. ${readout.textContent}`);
    if (!lay) return;
    images.forEach(({ canvas }, i) => lay(canvas, 1, [set * n + i]));
    rows.forEach(({ source }, style) => lay(source, 1, [names.length * n + style]));
    if (decode) redraw(set, used, chosen);
  }

  function tell(k, product, missing, chosen) {
    if (k === 0) return "No evidence: the class code has only its prior.";
    const gain = sum(chosen.map(deviation)) / k / deviation(product);
    const narrow = k > 1 ? ` and is ${gain.toFixed(1)} times as narrow as one image alone` : "";
    const start = `${k} ${k > 1 ? "images" : "image"} of evidence: the product lies nearest the digit ${labels[nearest(product)]}${narrow}.`;
    if (missing === 0) return start;
    return `${start} The exact combination does not exist for this evidence: in ${missing} of ${dims} dimensions the images together are less certain than the priors that have to be divided out, so no Gaussian is left.`;
  }

  // Column by column, with the class code of all used images up to it; only what has changed is decoded.
  function redraw(set, used, chosen) {
    const combination = model.get("combination");
    for (const column of range(n)) {
      const k = used.indexOf(column) + 1, asked = k ? [set, combination, ...used.slice(0, k)].join() : "";
      const code = k ? combine(chosen.slice(0, k), dims, combination === "exact") : null;
      rows.forEach(({ drawn }, style) => {
        const canvas = drawn[column], shown = code !== null && code.missing === 0;
        canvas.setAttribute("aria-label", `style ${style + 1} with the class of ${k} ${k > 1 ? "images" : "image"}`);
        canvas.setAttribute("aria-hidden", !shown);
        canvas.parentElement.classList.toggle("lb-now", shown && k === used.length);
        canvas.parentElement.classList.toggle("lb-blank", !shown);
        if (canvas.dataset.asked !== asked) paint(canvas, shown ? decode(style, code.mean) : null);
        canvas.dataset.asked = asked;
      });
    }
    board.dataset.shown = [set, combination, ...used].join();
  }

  function paint(canvas, grey) {
    canvas.width = width + 2; // clears it
    if (grey === null) return;
    const content = new ImageData(width, height);
    grey.forEach((value, i) => content.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
    canvas.getContext("2d").putImageData(content, 1, 1);
  }

  // The set whose images contradict each other most: their means lie apart, as measured by what each allows for itself.
  const apart = names.map((_, set) => {
    const each = experts(set), middle = range(dims).map((d) => sum(each.map(({ mean }) => mean[d])) / n);
    return sum(each.map(({ mean }) => distance(mean, middle))) / sum(each.map(({ logVar }) => sum(logVar.map(Math.exp))));
  });
  const doubtful = apart.indexOf(Math.max(...apart)), title = names[doubtful];
  const [one, ten] = [1, n].map((k) => deviation(combine(experts(doubtful).slice(0, k), dims, false)).toFixed(2));
  const options = ["it narrows", "it stays as wide", "it widens"], right = Math.sign(ten - one) + 1;
  const { ask, row, stop: leave } = manners(model, {
    state: {
      evidence: (name) => names.includes(name),
      combination: (name) => COMBINATIONS.some(([known]) => known === name),
      used: (used) => Array.isArray(used) && used.every((i, k) => below(n)(i) && (k === 0 || used[k - 1] < i)),
    },
    tries: [
      ["one image", { used: [0] }], [`all ${n} images`, { used: all }],
      ...(names.length > 1 ? [["the least agreement", { evidence: title, used: all }]] : []),
      ["prior counted once", { combination: "exact" }],
    ],
    question: n === 1 ? null : {
      words: `All ${n} images of \u201c${title}\u201d instead of one: what does the posterior do?`,
      options, right, veiled: [map, table, readout], then: () => assign(model, { evidence: title, used: all }),
      answer: `${options[right].replace("it", "It")}: its mean sd goes from ${one} to ${ten}`
        + `${names.length > 1 ? ", although these images disagree most" : ""}. Precisions add, whatever the means say.`,
    },
  });

  el.append(h("figure", { class: "lb-widget lb-evidence", "aria-label": "The class posterior as evidence accumulates" },
    ...(ask ? [ask] : []), h("div", { class: "lb-bar" }, which.element, count.element), board,
    h("div", { class: "lb-below" }, map, h("div", {}, table, readout)), row,
    h("details", { class: "lb-more" }, h("summary", {}, "another combination"), how.element),
    h("figcaption", {}, model.get("caption"))));
  const draws = follow(model, ["evidence", "used", "combination"], draw);
  const failed = () => { board.replaceChildren("The pictures of this figure cannot be read; run the cell again."); };
  sprites(model).then((ready) => { lay = ready; draw(); }).catch(failed);
  unpackDecoder(model.get("decoder"), styles, dims, height * width).then((ready) => { decode = ready; draw(); }).catch(failed);
  return () => { draws(); leave(); };
}

export default { render, combine, ellipse, planeThrough };
