// SteerFigure: a point on a plane of codes and a label mixed of two digits; two decoders draw both, and the judge reads it.
// Traits: first, second, judge (the models' files), names (of the two), planes (of each { directions, explained, codes, between }),
// labels (of the codes that are drawn), total (digits that the directions come from), directions ("classes" | "codes"), point
// ([a, b]), t, source, target (the label: 1 - t of one digit, t of the other), recorded ({ of: the state, chances }) and drawn
// (pictures [models, 1 + 11, 784], deflated): the start, before the models are here; caption.

const REACH = 3, TICKS = 20, MIXES = 10, SIDE = 28, PIXELS = SIDE * SIDE;
const isShare = (t) => typeof t === "number" && t >= 0 && t <= 1 && Math.abs(t * TICKS - Math.round(t * TICKS)) < 1e-6;

// The label, as the decoders take it and in words.
function softLabel(source, target, t) {
  const y = new Array(10).fill(0);
  y[source] += 1 - t;
  y[target] += t;
  return y;
}
function mixed(source, target, t) {
  if (source === target || t === 0 || t === 1) return aDigit(t === 1 ? target : source);
  return `${percent(1 - t)} ${aDigit(source)}, ${percent(t)} ${aDigit(target)}`;
}
// The code of a point of a plane.
const codeOf = ([first, second], [x, y]) => first.map((value, k) => x * value + y * second[k]);

function render({ model, el }) {
  const names = model.get("names"), planes = model.get("planes"), recorded = model.get("recorded");
  const labels = Array.from(model.get("labels"), Number), traits = ["point", "t", "source", "target"];
  const now = () => Object.fromEntries(traits.map((name) => [name, model.get(name)]));
  const asRecorded = () => traits.every((name) => JSON.stringify(model.get(name)) === JSON.stringify(recorded.of[name]));
  const slate = () => h("canvas", { class: "lb-picture", role: "img", width: SIDE, height: SIDE });
  const move = (point) => assign(model, { point });
  const shares = Array.from({ length: MIXES + 1 }, (_, k) => k / MIXES);

  // A model: its plane, what it draws and what the judge sees in it; and its row of pictures.
  const panels = names.map((name, m) => {
    const { codes, between, directions } = planes[m];
    const plane = planeOf(labels, { point: () => model.get("point"), move, most: REACH, names: ["first direction", "second direction"] });
    plane.canvas.setAttribute("aria-label",
      `${name}: the codes of ${labels.length} digits; ${percent(between)} of their spread lies between classes`);
    const canvas = slate(), verdict = h("p", { class: "lb-verdict" }), sure = h("p", { class: "lb-sure" });
    const side = h("div", { class: "lb-side" }, h("span", { class: "lb-print" }, canvas), verdict, sure);
    const element = h("div", { class: "lb-panel", role: "group", "aria-label": name },
      h("div", { class: "lb-heading" }, name), plane.element, side,
      h("p", { class: "lb-between" }, `${labels.length} codes; `, h("b", {}, percent(between)), " of their spread is between classes"));
    const cells = shares.map((t) => {
      const small = slate();
      small.setAttribute("aria-hidden", "true");
      const button = h("button", { type: "button", class: "lb-cell", tabindex: -1, onclick: () => assign(model, { t }) },
        h("span", { class: "lb-print" }, small));
      return { button, small };
    });
    const strip = h("div", { class: "lb-strip", role: "group", "aria-label": `${name}: this code under other labels` },
      h("div", { class: "lb-heading" }, `${name}, this code under other labels`), h("div", { class: "lb-cells" }, ...cells.map(({ button }) => button)));
    const show = ([one, ...row], chances) => {
      const seen = best(chances), { source, target } = now();
      paintGrey(canvas, one);
      canvas.setAttribute("aria-label", `${name}: a picture in which the judge sees ${aDigit(seen)}`);
      verdict.textContent = `judge sees ${aDigit(seen)}`;
      sure.textContent = `confidence ${percent(chances[seen])}`;
      element.dataset.seen = seen === source || seen === target ? "asked" : "neither";
      row.forEach((values, k) => paintGrey(cells[k].small, values));
    };
    return { element, side, strip, plane, cells, directions, show, draw: () => plane.draw(codes, codes, 1) };
  });

  const chooser = (name, words) => {
    const id = newId(`lb-${name}`);
    const select = h("select", { id, "data-trait": name }, ...Array.from({ length: 10 }, (_, k) => h("option", { value: k }, k)));
    select.addEventListener("change", () => assign(model, { [name]: Number(select.value) }));
    const element = h("div", { class: `lb-chooser lb-${name}` }, h("label", { for: id }, words), select);
    return { element, show: () => { select.value = model.get(name); } };
  };
  const from = chooser("source", "label from"), to = chooser("target", "to");
  const mix = slider(model, "t", { label: "t", min: 0, max: 1, step: 1 / TICKS, say: (t) => mixed(model.get("source"), model.get("target"), t) });
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });

  function settle() {
    const { t, source, target } = now();
    for (const { show } of [from, to, mix]) show();
    for (const { plane, cells } of panels) {
      plane.mark();
      const near = Math.round(t * MIXES);
      cells.forEach(({ button }, k) => {
        button.setAttribute("aria-pressed", k === near);
        button.toggleAttribute("data-few", Math.abs(k - t * MIXES) < 1.01); // a phone shows every other one: one or both beside t
        button.setAttribute("aria-label", `t = ${shares[k]}: ${mixed(source, target, shares[k])}`);
      });
    }
  }
  function said(seen) {
    const { t, source, target } = now();
    const told = names.map((name, m) => `the ${name} draws ${aDigit(seen[m])}`
      + (seen[m] === source || seen[m] === target ? "" : ", which was not asked for"));
    return `The label is ${mixed(source, target, t)}: ${told.join("; ")}.`;
  }
  function show(pictures, chances) {
    const seen = chances.map(best);
    panels.forEach((panel, m) => panel.show(pictures[m], chances[m]));
    readout.textContent = trouble || said(seen);
    el.dataset.shown = seen;
    el.dataset.turn = ++turn;
  }

  // The pictures of the present state; of changes that come meanwhile the last one counts.
  let turn = 0, models = null, busy = false, again = false, gone = false, trouble = "";
  async function once() {
    const { point, t, source, target } = now();
    const pictures = await Promise.all(panels.map(({ directions }, m) => models[m].run("each", "decode",
      [t, ...shares].map((share) => [codeOf(directions, point), softLabel(source, target, share)]))));
    const chances = pictures.every(Boolean) && (await models[2].run("each", "judge", pictures.map(([one]) => [one])));
    if (chances && !gone) show(pictures, chances.map((row) => [...row]));
  }
  const fail = (words) => { if (!gone) trouble = readout.textContent = words; };
  async function redraw() {
    again = true;
    if (busy || !models) return;
    busy = true;
    el.dataset.busy = "true";
    try {
      while (again && !gone) {
        again = false;
        await once();
      }
    } catch {
      fail("A model of this figure could not be run; what is shown is what it drew before.");
    } finally {
      busy = false;
      el.dataset.busy = "false";
    }
  }

  const [start, seen] = [now(), recorded.chances.map(best)], other = [3, 8].includes(start.source) ? [7, 1] : [3, 8];
  const outcome = [start.source, start.target].indexOf(seen[1]);
  const asked = start.t === 0.5 ? `half ${aDigit(start.source)} and half ${aDigit(start.target)}` : mixed(start.source, start.target, start.t);
  const betting = asRecorded() && start.source !== start.target && start.t > 0 && start.t < 1;
  const manner = manners(model, {
    state: { point: (value) => isOnPlane(value, REACH), t: isShare, source: below(10), target: below(10) },
    tries: [
      [`ask for ${aDigit(start.target)}`, { ...start, t: 1 }],
      [`${aDigit(start.target)}, another corner`, { ...start, t: 1, point: [-1.8, -1.6] }],
      [`from ${other[0]} to ${other[1]}`, { ...start, t: 0.5, source: other[0], target: other[1] }],
    ],
    question: betting ? {
      words: `The label is ${asked}. What will the ${names[1]} draw?`,
      options: [aDigit(start.source), aDigit(start.target), "neither"], right: outcome < 0 ? 2 : outcome,
      answer: `The ${names[1]} draws ${aDigit(seen[1])}, the ${names[0]} ${aDigit(seen[0])}, as the judge reads them. Now drag the point.`,
      veiled: [...panels.flatMap(({ side, strip }) => [side, strip]), readout],
    } : null,
  });

  const ofClasses = model.get("directions") === "classes";
  const held = names.map((name, m) => `${planes[m].explained.map(percent).join(" and ")} (${name})`).join(", ");
  const more = h("details", { class: "lb-more" }, h("summary", {}, "how the planes are made"),
    h("p", { class: "lb-note" }, `A code is the posterior mean of z for a test digit, 20 numbers. The two directions of a plane are the `
      + `principal directions ${ofClasses ? "of the class means: where the classes lie farthest apart" : "of all codes"}, from `
      + `${model.get("total").toLocaleString("en")} digits. They hold ${held} of the variance ${ofClasses ? "between class means" : "of the codes"}. `
      + "The point is z = a \u00b7 first direction + b \u00b7 second direction; the circles are one and two standard deviations of the prior."));
  const scale = h("div", { class: "lb-cells lb-scale", "aria-hidden": "true" }, ...shares.map((t) => h("span", {}, String(t))));
  const board = h("div", { class: "lb-board" },
    h("div", { class: "lb-panels" }, ...panels.map(({ element }) => element)),
    h("div", { class: "lb-bar lb-mix" }, from.element, mix.element, to.element),
    h("div", { class: "lb-strips" }, ...panels.map(({ strip }) => strip), scale), readout);
  el.append(h("figure", { class: "lb-widget lb-steer", "aria-label": "Move a code, mix a label" },
    ...(manner.ask ? [manner.ask] : []), board, manner.row, more, h("figcaption", {}, model.get("caption"))));

  const follows = follow(model, traits, () => {
    settle();
    redraw();
  });
  const lay = () => panels.forEach(({ draw }) => draw());
  const resized = new ResizeObserver(lay);
  panels.forEach(({ plane }) => resized.observe(plane.element));
  if (asRecorded()) {
    inflate(model.get("drawn")).then((content) => {
      if (turn || gone) return;
      const all = Float32Array.from(new Uint8Array(content), (value) => value / 255), row = MIXES + 2;
      show(names.map((_, m) => Array.from({ length: row }, (_each, k) => all.subarray(PIXELS * (row * m + k), PIXELS * (row * m + k + 1)))),
        recorded.chances);
    });
  }
  const opened = Promise.all(["first", "second", "judge"].map((name) => openModel(model.get(name))));
  opened.then((found) => { models = found; el.dataset.live = found[0].where; redraw(); },
    () => fail("The models of this figure could not be loaded; the digits shown were recorded."));
  return () => {
    gone = true;
    follows();
    manner.stop();
    resized.disconnect();
    opened.then((found) => found.forEach((network) => network.close()), () => {});
  };
}

export default { render, softLabel, codeOf, engine, inflate, bytes };
