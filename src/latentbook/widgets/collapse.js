// CollapseFigure: a VAE that trains in the page, in a Worker, and four instruments that say whether its decoder listens.
// Traits: digits (grey bytes, deflated), labels, network (the trained model), recorded ({ history, means, shown, outcomes }:
// how it was trained, where its codes lie, which digits are shown, what the questions' runs came to), training, plan
// ([[step, beta, neighbours, mean], ...]: what holds from which step of this run on), steps (how far it is), scratch (whether
// it begins with new weights), point (the code to decode), caption.

const BETAS = [0, 0.25, 0.5, 1, 2, 4, 6, 8, 12, 16, 22, 30];
const OFTEN = 10, SELDOM = 30, SOON = 300; // steps from one look to the next: fewer until so many after a change
const PACE = 110; // milliseconds from look to look, at least
const MOST = 4000, KEPT = 150; // steps of a run, looks that are kept of it
const SIDE = 14;
const SAMPLES = 8, SAMPLE_SEED = 8, DRAW_SEED = 9;
const EMPTY = 0.1; // nats: a code that costs less has collapsed
const START = [0, 1, 0, 0];

const total = (row) => row.kls[0] + row.kls[1], loss = (row) => row.bce + total(row);
const nats = (value) => `${(Math.abs(value) < 0.005 ? 0 : value).toFixed(Math.abs(value) < 1 ? 2 : 1)}\u00a0nats`;
const thousands = (count) => count.toLocaleString("en");
const isBit = (value) => value === 0 || value === 1;
const isPlan = (plan) => Array.isArray(plan) && plan.length > 0 && plan.length <= 40 && plan.every((row, k) =>
  Array.isArray(row) && row.length === 4 && Number.isInteger(row[0]) && (k ? row[0] > plan[k - 1][0] : row[0] === 0)
  && row[0] <= MOST && row[1] >= 0 && row[1] <= 30 && isBit(row[2]) && isBit(row[3]));

// One instrument over the steps: curves [{ of, name, kind }], their values now, those of the run before as thin lines.
function instrument(title, curves, { say, room }) {
  const value = h("b", {}), drawing = svg("svg", { role: "img" }), high = 62;
  const element = h("div", { class: "lb-gauge", role: "group", "aria-label": title },
    h("span", { class: "lb-heading" }, title), value, drawing);
  let wide = 160;
  const resized = new ResizeObserver(([{ contentRect }]) => { wide = contentRect.width || wide; });
  resized.observe(drawing);
  function draw({ history, ghost, marks, rings, now, first, last }) {
    value.replaceChildren(...say(now));
    const [low, most] = room([...history, ...(ghost ?? [])]);
    const x = ({ steps }) => ((steps - first) / (last - first)) * (wide - 8) + 2;
    const y = (of) => high - 3 - ((Math.max(low, Math.min(most, of)) - low) / (most - low || 1)) * (high - 17);
    const line = (rows, of) => rows.map((row, k) => `${k ? "L" : "M"}${x(row).toFixed(1)} ${y(of(row)).toFixed(1)}`).join("");
    drawing.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    drawing.setAttribute("aria-label", `${title}: ${value.textContent} after ${thousands(now.steps)} steps`);
    drawing.replaceChildren(
      svg("path", { class: "lb-base", d: `M2 ${high - 3}H${wide - 6}` }),
      ...marks.flatMap(({ steps, words }) => [
        svg("path", { class: "lb-change", d: `M${x({ steps }).toFixed(1)} 13V${high - 3}` }),
        svg("text", { x: x({ steps }).toFixed(1), y: 10, "text-anchor": x({ steps }) > wide - 40 ? "end" : "start" }, words)]),
      ...(ghost ? curves.map(({ of, kind }) => svg("path", { class: `lb-ghost lb-line-${kind}`, d: line(ghost, of) })) : []),
      ...curves.map(({ of, kind }) => svg("path", { class: `lb-line-${kind}`, d: line(history, of) })),
      ...rings.map((row) => svg("circle", { class: "lb-equal", cx: x(row), cy: y(curves[0].of(row)), r: 4 })),
      ...curves.map(({ of, kind }) => svg("circle", { class: `lb-dot-${kind}`, cx: x(now), cy: y(of(now)), r: 3 })));
  }
  return { element, draw, stop: () => resized.disconnect() };
}

function render({ model, el }) {
  const recorded = model.get("recorded"), training = model.get("training"), labels = Array.from(model.get("labels"), Number);
  const calm = matchMedia("(prefers-reduced-motion: reduce)"), { shown } = recorded, count = labels.length;
  const means = Float32Array.from(new Int16Array(bytes(recorded.means).slice().buffer), (value) => value / 1000);
  const settings = (row) => ({ klWeight: row[1], neighbours: Boolean(row[2]), reduction: row[3] ? "mean" : "sum" });
  const ruling = (plan, step) => plan.filter(([from]) => from <= step).at(-1);

  // A run: its looks, each { steps, bce, kls, listening, probe, control, means, weights }, and how many steps it has done.
  let looks = [], done = 0, goal = 0, index = 0, turn = 0, fresh = true, busy = false, failed = false;
  let ahead = 0, due = 0; // steps under way, and when the next may begin
  let trainer = null, trained = null, images = null, ghost = null; // the last: the looks of the run before
  let from = null, since = 0, sweep = 1, late = false; // codes drift from there, since then, so far; the gauges wait for a frame
  const last = () => looks.at(-1), playing = () => done < goal && !failed;
  const base = () => (model.get("scratch") ? 0 : training.steps);
  const historyOf = () => [...(model.get("scratch") ? [] : recorded.history.slice(0, -1)), ...looks];

  // What is decoded is decoded here: a look's weights are those of a small network.
  const decoders = new WeakMap();
  function decoderOf({ weights }) {
    if (!weights) return trained;
    if (!decoders.has(weights)) {
      const layer = (name, inputs) => ({ inputs, weight: weights[`${name}.weight`], bias: weights[`${name}.bias`] });
      const layers = { "decoder.0.0": layer("decoder.0.0", 2), "decoder.1": layer("decoder.1", training.hidden) };
      if (weights["neighbours.weight"]) layers.neighbours = { weight: weights["neighbours.weight"] };
      decoders.set(weights, new engine.models.VAE({}, layers));
    }
    return decoders.get(weights);
  }

  const go = h("button", { type: "button", class: "lb-train", onclick: press });
  const range = (name, max) => {
    const id = newId("lb-" + name);
    return [h("input", { type: "range", id, min: 0, max, step: 1, "data-trait": name }), h("output", { for: id }), id];
  };
  const [betaIn, betaOut, betaId] = range("beta", BETAS.length - 1);
  betaIn.addEventListener("input", () => turnTo(1, BETAS[betaIn.value]));
  const box = (words, name, part, question) => {
    const input = h("input", { type: "checkbox", "data-trait": name });
    input.addEventListener("change", () => {
      if (input.checked && !asked.has(name)) { ask(name, question); return show(); }
      return turnTo(part, Number(input.checked));
    });
    return { input, element: h("label", { class: "lb-box" }, input, h("span", {}, words)), part };
  };
  const asked = new Set(), place = h("div", { class: "lb-place" });
  const plane = planeOf(labels, { point: () => model.get("point"), move: (point) => assign(model, { point }) });
  const slate = (name, width, height) => h("canvas", { class: "lb-picture", role: "img", width, height, "data-row": name });
  const strip = (title, name) => {
    const canvas = slate(name, SAMPLES * (SIDE + 2), SIDE + 2), heading = h("div", { class: "lb-heading" }, title);
    return { canvas, title, element: h("div", { class: "lb-strip" }, heading, h("span", { class: "lb-print" }, canvas)) };
  };
  const strips = [
    strip("digits", "digits"), strip("decoded from their own codes", "own"), strip("from the code of the next digit", "other"),
    strip("samples from the prior", "samples"),
  ];
  const one = slate("point", SIDE, SIDE), where = h("span", {});
  const here = h("div", { class: "lb-here" }, h("span", { class: "lb-print" }, one), where);

  // From zero to the most that is shown, within limits; a loss from its least on, without its first fall.
  const upTo = (of, floor, roof = Infinity) => (rows) => [0, Math.min(roof, Math.max(floor, ...rows.flatMap(of)))];
  const losses = (rows) => {
    const least = Math.min(...rows.map(loss));
    return [least - 1, Math.max(least + 4, Math.min(1.4 * least, Math.max(...rows.map(loss))))];
  };
  const curve = (kind, of) => ({ kind, of });
  const gauges = [
    instrument("loss", [curve("loss", loss)], { say: (row) => [nats(loss(row))], room: losses }),
    instrument("KL of each unit", [curve("first", ({ kls }) => kls[0]), curve("second", ({ kls }) => kls[1])], {
      say: ({ kls }) => [`${kls[0].toFixed(2)} and ${kls[1].toFixed(2)}\u00a0nats`], room: upTo(({ kls }) => kls, 1, 4),
    }),
    instrument("listening", [curve("listening", (row) => row.listening)], {
      say: (row) => [nats(row.listening)], room: upTo((row) => row.listening, 5),
    }),
    instrument("probe, control", [curve("probe", (row) => row.probe), curve("control", (row) => row.control)], {
      say: (row) => [`${percent(row.probe)}, ${percent(row.control)}`], room: upTo((row) => row.probe, 0.4),
    }),
  ];
  const [scrub, scrubOut, scrubId] = range("look", 0);
  scrub.addEventListener("input", () => {
    const wanted = Number(scrub.value);
    pause();
    glide(wanted, false);
  });
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });

  // The settings of the run from its next step on.
  function turnTo(part, value) {
    const plan = model.get("plan").map((row) => [...row]), row = [...plan.at(-1)], step = done + ahead;
    row[part] = value;
    row[0] = step;
    const kept = plan.filter(([at]) => at < step);
    own({ plan: kept.length ? [...kept, row] : [[0, ...row.slice(1)]] });
    show();
  }
  const told = () => JSON.stringify(["scratch", "plan", "steps"].map((name) => model.get(name)));
  let known = told(), looking = false;
  function own(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    known = told();
    model.save_changes();
  }
  const home = known;

  // A run as the traits have it, from its start.
  function load() {
    known = told();
    const before = looks.length > 4 ? looks : null, same = before?.[0].scratch === model.get("scratch");
    ghost = known === home ? null : same ? before : model.get("scratch") ? recorded.history : ghost?.scratch ? null : ghost;
    turn += 1;
    [fresh, done, ahead, goal, index, sweep] = [true, 0, 0, model.get("steps"), 0, 1];
    looks = model.get("scratch") ? [] : [{ ...recorded.history.at(-1), means, scratch: false, row: START }];
    if (looks.length) glide(0, false);
    advance();
  }

  // Ten steps more, or fewer where the plan changes, and a look at what has come of them.
  async function chunk() {
    const mine = turn;
    busy = true;
    try {
      if (fresh) {
        const { seed, learningRate } = training, weights = model.get("scratch") ? null : weightsOf();
        await trainer.run("restart", { seed: seed + 1, weights, learningRate, ...settings(model.get("plan")[0]) });
        if (mine !== turn) return;
        fresh = false;
      }
      const plan = model.get("plan"), next = plan.find(([at]) => at > done)?.[0] ?? Infinity;
      const each = done - ruling(plan, done)[0] < SOON ? OFTEN : SELDOM;
      const steps = looks.length ? Math.min(each, next - done, goal - done) : 0;
      ahead = steps;
      const look = await trainer.run("advance", steps, settings(ruling(plan, done)));
      if (mine !== turn || !look) return;
      [done, ahead] = [done + steps, 0];
      look.steps = base() + done;
      Object.assign(look, { scratch: model.get("scratch"), row: ruling(plan, done - steps) });
      looks.push(look);
      if (looks.length > KEPT) looks = looks.filter((_, k) => k === 0 || k > KEPT - 30 || k % 2 === 0);
      if (!calm.matches || !playing()) glide(looks.length - 1, !calm.matches);
    } catch (error) {
      failed = true;
      readout.textContent = "The training could not go on here; what is shown was recorded.";
      console.warn(error);
    } finally {
      busy = false;
      if (mine !== turn) ahead = 0;
      if (!playing()) rest();
    }
  }
  const weightsOf = () => Object.fromEntries(Object.entries(trained.layers).flatMap(([name, { weight, bias }]) =>
    [[`${name}.weight`, weight], [`${name}.bias`, bias]]));

  // It trains while it is seen. Where less motion is wanted it trains to its goal and then shows what came of it.
  const film = whileSeen(el, () => (playing() && trainer !== null) || late || sweep < 1, (time) => {
    if (playing() && trainer && !busy && time >= due) {
      due = time + PACE;
      chunk();
    }
    if (late) show();
    if (sweep < 1) {
      sweep = Math.min(1, (time - since) / PACE);
      plane.draw(from, looks[index].means, Math.max(0, sweep));
    }
  });
  let working = false;
  async function advance() {
    show();
    if (!trainer) return undefined; // it goes on once it is there
    if (!calm.matches || working) return film.wake();
    working = true;
    while (playing() && !stopped) await chunk();
    working = false;
    return rest();
  }
  let stopped = false;
  function reach(steps) {
    if (!playing()) goal = Math.min(MOST, steps);
    if (index < looks.length - 1) glide(looks.length - 1, false);
    return advance();
  }
  function press() {
    if (playing() && !calm.matches) return pause();
    return reach(calm.matches ? done + 200 : MOST);
  }
  function pause() {
    goal = done + ahead;
    if (!busy) rest();
    show();
  }
  function rest() {
    goal = done;
    own({ steps: done });
    show();
  }

  // The codes of a look, all at once or drifting there.
  function glide(to, drift) {
    from = drift && looks[index] ? looks[index].means : looks[to].means;
    index = to;
    [since, sweep] = [performance.now(), drift ? 0 : 1];
    if (!drift) plane.draw(from, from, 1);
    pictures();
    if (drift) late = true; // in the next frame
    else show();
    film.wake();
  }

  const noise = engine.normals(SAMPLE_SEED)(2 * SAMPLES);
  function paint(canvas, all, margin = 1) {
    const paper = canvas.getContext("2d");
    all.forEach((values, k) => {
      const image = paper.createImageData(SIDE, SIDE), { data } = image;
      values.forEach((value, i) => {
        data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = Math.round(255 * value);
        data[4 * i + 3] = 255;
      });
      paper.putImageData(image, k * (SIDE + 2) + margin, margin);
    });
    canvas.dataset.shown = index;
  }
  const codeOf = (look, k) => look.means.subarray(2 * k, 2 * k + 2);
  function pictures() {
    const look = looks[index];
    if (!look || !trained) return;
    const decoder = decoderOf(look), seen = (k) => images?.[k];
    if (images) paint(strips[0].canvas, images);
    paint(strips[1].canvas, shown.map((k, i) => decoder.decode(codeOf(look, k), seen(i))));
    paint(strips[2].canvas, shown.map((_, i) => decoder.decode(codeOf(look, shown[(i + 1) % shown.length]), seen(i))));
    const drawn = (_, k) => decoder.draw(noise.slice(2 * k, 2 * k + 2), DRAW_SEED + k);
    paint(strips[3].canvas, Array.from({ length: SAMPLES }, drawn));
    strips.forEach(({ canvas, title }) => canvas.setAttribute("aria-label", `eight pictures: ${title}`));
    pointed();
  }
  function pointed() {
    plane.mark();
    const [x, y] = model.get("point"), look = looks[index];
    where.textContent = `decoded at (${x.toFixed(1)}, ${y.toFixed(1)})`;
    one.setAttribute("aria-label", `what is ${where.textContent}`);
    if (look && trained) paint(one, [decoderOf(look).draw([x, y], DRAW_SEED)], 0);
  }

  // What the instruments say of a look.
  function verdict() {
    const look = looks[index], { row } = look, kl = total(look), set = model.get("plan").at(-1)[1];
    const before = `\u03b2\u00a0${row[1]}, ${thousands(look.steps)} steps: `, named = percent(look.probe);
    const next = !playing() && look === last() && set !== row[1] ? ` \u03b2 is ${set} now: train.` : "";
    const heard = `decoding from the next digit\u2019s code costs ${nats(look.listening)} more`;
    if (look.steps === 0) return "Nothing is learned yet: the code says nothing, and the decoder draws grey.";
    const both = equals();
    if (both) {
      const { ours, theirs } = both;
      return `${before}the loss is ${nats(loss(look))}, and ${heard}. Both runs have been at a loss of ${nats(loss(theirs))} (rings): this `
        + `one after ${thousands(ours.steps)} steps, where the other code cost ${nats(ours.listening)}; the one without neighbours (thin `
        + `lines) after ${thousands(theirs.steps)}, where it cost ${nats(theirs.listening)}.`;
    }
    if (kl < EMPTY && (look.steps > 100 || total(looks[0]) >= EMPTY)) {
      const since0 = looks.find(({ steps }) => steps - base() >= row[0]);
      const fell = looks.find((each) => each.steps - base() > row[0] && total(each) < EMPTY);
      const after = fell && total(since0) >= EMPTY ? thousands(fell.steps - base() - row[0]) : null;
      const when = after ? `Within ${after} steps the KL fell` : "The KL is";
      return `${before}collapsed. ${when} below ${nats(EMPTY)}. The decoder draws nearly the same for every code; from it the probe `
        + `names ${named} of the digits (control ${percent(look.control)}).${next}`;
    }
    const listens = look.listening > recorded.history.at(-1).listening / 4 ? "listens" : "hardly listens";
    return `${before}the code costs ${nats(kl)}, and ${heard}: the decoder ${listens}. From the code, the probe names ${named} of the `
      + `digits (control ${percent(look.control)}).${next}`;
  }

  const axis = () => {
    const span = model.get("scratch") ? [0, 600] : [done ? training.steps - 300 : 0, training.steps + (done ? 500 : 0)];
    const first = Math.max(0, span[0]), end = Math.max(span[1], last()?.steps ?? 0);
    return { first, last: end, within: ({ steps }) => steps >= first && steps <= end };
  };
  // With neighbours in view: where this run and the one before had the same loss, on the axes that are shown.
  function equals() {
    const theirs = ghost?.filter(axis().within).at(-1);
    if (!looks[index].row[2] || !theirs || theirs.row?.[2]) return null;
    const k = looks.findIndex((each) => loss(each) <= loss(theirs));
    if (k < 1 || k > index) return null;
    const [one, two] = [looks[k - 1], looks[k]], share = (loss(one) - loss(theirs)) / (loss(one) - loss(two));
    const mid = (of) => of(one) + share * (of(two) - of(one)), parts = ["bce", "listening", "probe", "control"];
    const ours = Object.fromEntries(parts.map((name) => [name, mid((each) => each[name])]));
    const steps = Math.round(mid((each) => each.steps)), kls = [0, 1].map((unit) => mid((each) => each.kls[unit]));
    return { theirs, ours: { ...ours, steps, kls } };
  }

  // What the plan changes, and when.
  function changes() {
    const words = (row, before) => [
      row[1] !== before[1] && `\u03b2\u00a0${row[1]}`, row[2] !== before[2] && (row[2] ? "neighbours" : "alone"),
      row[3] !== before[3] && (row[3] ? "mean" : "sum"),
    ].filter(Boolean).join(", ");
    const marks = model.get("plan").map((row, k, plan) => ({ steps: base() + row[0], words: words(row, k ? plan[k - 1] : START) }));
    return marks.filter((mark) => mark.words);
  }
  function show() {
    late = false;
    const row = model.get("plan").at(-1), playingNow = playing() && !calm.matches;
    betaIn.value = BETAS.reduce((best, beta, k) => (Math.abs(beta - row[1]) < Math.abs(BETAS[best] - row[1]) ? k : best), 0);
    betaOut.textContent = `\u03b2 = ${row[1]}`;
    betaIn.setAttribute("aria-valuetext", betaOut.textContent);
    boxes.forEach(({ input, part }) => { input.checked = Boolean(row[part]); });
    const [under, rests] = calm.matches ? ["training \u2026", "train 200 steps"] : ["pause", done ? "go on" : "train"];
    go.textContent = playing() ? under : rests;
    go.disabled = done >= MOST && !playing();
    [scrub.max, scrub.value] = [Math.max(0, looks.length - 1), index];
    readout.setAttribute("aria-live", playingNow ? "off" : "polite");
    el.dataset.live = trainer ? trainer.where : "";
    Object.assign(el.dataset, { done, looks: looks.length, busy: String(busy || playing()) });
    const look = looks[index];
    if (!look) return;
    const { first, last: end, within } = axis(), both = equals(), rings = both ? [both.ours, both.theirs] : [];
    const history = historyOf().filter(within), before = ghost?.filter(within) ?? null;
    gauges.forEach(({ draw }) => draw({ history, ghost: before, marks: changes(), rings, now: look, first, last: end }));
    scrubOut.textContent = `step ${thousands(look.steps)}`;
    scrub.setAttribute("aria-valuetext", scrubOut.textContent);
    const far = `${look.spread.toFixed(2)} from the centre, as the root of the mean square`;
    plane.canvas.setAttribute("aria-label", `the codes of ${thousands(count)} digits: ${far}`);
    readout.textContent = verdict();
  }

  // The questions, and what runs of the same kind came to.
  const { beta, neighbours, mean } = recorded.outcomes, now = recorded.history.at(-1);
  const drift = (value) => (value > 1.3 ? 0 : value > 0.5 ? 1 : 2);
  const cost = ({ after }) => `decoding from the next digit\u2019s code cost ${nats(after.listening)} more, not ${nats(now.listening)}`;
  const heard = neighbours.after.listening / now.listening, least = loss(neighbours.after) < loss(now) ? "lower" : "no lower";
  const second = {
    neighbours: {
      words: "The decoder will also see the true pixels before each pixel, and training begins again. The loss will fall lower. "
        + "Will the decoder use the code more, or less?",
      options: ["more", "less", "as before"], right: heard > 1.2 ? 0 : heard < 0.8 ? 1 : 2,
      answer: `After ${thousands(neighbours.steps)} steps the loss of our run was ${nats(loss(neighbours.after))}, ${least} than `
        + `${nats(loss(now))}; and ${cost(neighbours)}.`,
      then: () => assign(model, { scratch: true, plan: [[0, 1, 1, 0]], steps: 600 }),
    },
    mean: {
      words: "A common slip: the reconstruction is averaged over the 196 pixels, the KL is not. What happens at \u03b2 1?",
      options: ["the codes spread", "nothing new", "the code collapses"], right: drift(mean.after.spread / now.spread),
      answer: `It is a \u03b2 of 196: after ${mean.steps} steps the KL of our run was ${nats(total(mean.after))}, before `
        + `${nats(total(now))}.`,
      then: () => assign(model, { scratch: false, plan: [[0, 1, 0, 1]], steps: 300 }),
    },
  };
  function ask(name, question) {
    const { element, unveil } = wager({ ...question, then: () => { asked.add(name); question.then(); } }, () => {});
    unveil();
    place.replaceChildren(element);
    asked.add(name); // who asks again wants no question
    pause();
  }
  const boxes = [
    box("the decoder sees the pixels before each pixel", "neighbours", 2, second.neighbours),
    box("\u2018mean\u2019 over the pixels for \u2018sum\u2019", "mean", 3, second.mean),
  ];
  const few = h("button", { type: "button", class: "lb-button", onclick: () => reach(done + OFTEN) }, "10 steps");
  const more = h("details", { class: "lb-more" }, h("summary", {}, "break it in other ways, step by step"),
    h("div", { class: "lb-bar" }, ...boxes.map(({ element }) => element), few), place);

  const manner = manners(model, {
    state: { scratch: (value) => typeof value === "boolean", plan: isPlan, steps: below(MOST + 1), point: (value) => isOnPlane(value) },
    tries: [
      ["from scratch", { scratch: true, plan: [START], steps: 1200 }],
      ["collapse and recover", { scratch: false, plan: [[0, 8, 0, 0], [300, 1, 0, 0]], steps: 800 }],
      ["pixels in view", { scratch: true, plan: [[0, 1, 1, 0]], steps: 600 }],
      ["mean for sum", { scratch: false, plan: [[0, 1, 0, 1]], steps: 300 }],
    ],
    question: {
      words: "Training goes on, with \u03b2 at 8 in place of 1. What will the codes do?",
      options: ["spread out", "stay", "fall to the centre"], right: drift(beta.after.spread / now.spread),
      answer: `The KL of our run fell from ${nats(total(now))} to ${nats(total(beta.after))} in ${beta.steps} steps, and ${cost(beta)}. `
        + "Now drag \u03b2 back.",
      then: () => assign(model, { scratch: false, plan: [[0, 8, 0, 0]], steps: 400 }),
    },
  });

  const weight = h("div", { class: "lb-control lb-slider" }, h("label", { for: betaId }, "KL weight"), betaIn, betaOut);
  const controls = h("div", { class: "lb-bar lb-controls" }, go, weight);
  el.append(h("figure", { class: "lb-widget lb-collapse", "aria-label": "A VAE that trains in the page" },
    manner.ask, controls, h("div", { class: "lb-board" },
      h("div", { class: "lb-left" }, h("div", { class: "lb-heading" }, `codes of ${thousands(count)} digits`), plane.element, here),
      h("div", { class: "lb-gauges" }, ...gauges.map(({ element }) => element),
        h("div", { class: "lb-control lb-slider lb-scrub" }, h("label", { for: scrubId }, "replay"), scrub, scrubOut)),
      readout, h("div", { class: "lb-pictures" }, ...strips.map(({ element }) => element))),
    manner.row, more, h("figcaption", {}, model.get("caption"))));

  const stops = [follow(model, ["scratch", "plan", "steps"], () => {
    if (looking) return;
    looking = true;
    queueMicrotask(() => {
      looking = false;
      if (told() !== known) load();
    });
  }), follow(model, ["point"], pointed)];
  const resized = new ResizeObserver(() => { // after those of the instruments
    if (!looks[index]) return;
    plane.draw(looks[index].means, looks[index].means, 1);
    show();
  });
  resized.observe(plane.element);
  calm.addEventListener("change", pause);

  load();
  const opened = (async () => {
    trained = engine.model(await inflate(model.get("network")));
    pictures();
    const greys = new Uint8Array(await inflate(model.get("digits")));
    images = shown.map((k) => Float64Array.from(greys.subarray(k * SIDE * SIDE, (k + 1) * SIDE * SIDE), (value) => value / 255));
    pictures();
    const { batch, hidden, learningRate } = training;
    const found = await openTrainer({ images: greys, labels, batch, hidden, learningRate });
    if (stopped) return found.close();
    trainer = found;
    return advance();
  })();
  opened.catch((error) => {
    failed = true;
    console.warn(error);
    readout.textContent = "The digits of this figure could not be loaded; what is shown was recorded.";
  });
  return () => {
    stopped = true;
    turn += 1;
    for (const stop of stops) stop();
    manner.stop();
    film.stop();
    resized.disconnect();
    for (const each of gauges) each.stop();
    calm.removeEventListener("change", pause);
    trainer?.close();
  };
}

export default { render, engine, inflate, bytes };
