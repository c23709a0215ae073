// StripsFigure: a scrubber over frames of one or two mosaics of small pictures.
// Traits: sheet, packing (the pictures), shapes ([rows, columns] of each mosaic), ticks (a number for each frame), labels,
// headings, notes, name, index, caption; words (what each frame is called), curves ({ name: a number or null for each
// frame }), curves_label, percent (they are shares). Where a figure has no words or no curves, its state may lack them.

const PACE = 450; // milliseconds from frame to frame
const HIGH = 96, TOP = 8, LINE = 14, FONT = 12, INSET = 8; // of the curves: their room, above it, a line of text, its size, beside it
const MARKS = [ // of the curves: path of a mark with its middle at 0, 0
  "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0", "M-3.5 2.5H3.5L0 -3.5Z",
];

// Curves over the frames, with a cursor at the one that is shown. named: what a frame is called; go: shows a frame.
function plotOf(model, { ticks, name, words, wide, named, go, begin }) {
  const last = ticks.length - 1, heading = h("div", { class: "lb-heading" }), drawing = svg("svg", { role: "img" });
  const field = h("div", { class: "lb-field" }, drawing);
  const element = h("div", { class: "lb-plot", style: `--lb-wide:${wide}px` }, heading, field);
  const pen = document.createElement("canvas").getContext("2d");
  let across = 0, left = 0, inner = 1; // pixels: the drawing, its left margin, from the first frame to the last
  const at = (index) => left + (last ? index / last : 0.5) * inner;

  const scaleOf = () => (model.get("percent") ? 100 : 1), unit = () => (model.get("percent") ? "\u00a0%" : "");
  const curvesNow = () => Object.entries(model.get("curves") ?? {}).map(([title, values]) =>
    ({ title, values: values.map((value) => (Number.isFinite(value) ? scaleOf() * value : null)) }));
  const there = (values) => values.filter((value) => value !== null);

  // With how many decimals all are written, as in Python: as few as tell them, at most one from 10 on, more for smaller ones.
  function decimals(values) {
    let most = 1;
    for (let largest = Math.max(0, ...values.map(Math.abs)); !model.get("percent") && largest < 10 && most < 6; largest *= 10) most += 1;
    const tells = (n) => values.every((value) => Math.abs(Number(value.toFixed(n)) - value) < 1e-9 * Math.max(1, Math.abs(value)));
    let few = 0;
    while (few < most && !tells(few)) few += 1;
    return few;
  }
  function read(index) {
    const curves = curvesNow(), places = decimals(curves.flatMap(({ values }) => there(values)));
    const found = curves.filter(({ values }) => values[index] !== null)
      .map(({ title, values }) => `${title} ${values[index].toFixed(places)}${unit()}`);
    return `${named(index)}: ${found.join(", ") || "no value"}`;
  }

  // Two to four round values between two others; the step from one to the next.
  function rounds(low, high) {
    const size = 10 ** Math.floor(Math.log10((high - low) / 4));
    for (const step of [1, 2, 2.5, 5, 10, 20].map((each) => each * size)) {
      const found = [], places = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (step === 2.5 * size ? 1 : 0));
      for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push({ value: k * step, text: (k * step).toFixed(places) });
      if (found.length <= 4) return found;
    }
    return [];
  }
  const size = (text) => pen.measureText(text).width;
  // A text in lines of at most so many pixels, as far as its words allow.
  function lines(text, most) {
    const found = [];
    for (const word of text.split(/\s+/)) {
      if (found.length && size(`${found.at(-1)} ${word}`) <= most) found.push(`${found.pop()} ${word}`);
      else found.push(word);
    }
    return found;
  }
  const width = (rows) => Math.max(0, ...rows.map(size));

  // Below the axis: as many frames as have room to be named, at even steps; the first and the last where no step fits.
  function axisOf(most) {
    const mark = (index, room) => {
      const rows = words[index] ? lines(words[index], room) : [String(ticks[index])], wide = width(rows);
      const middle = Math.min(across - wide / 2, Math.max(wide / 2, at(index)));
      return { index, rows, from: middle - wide / 2, to: middle + wide / 2, middle };
    };
    const fits = (marks) => marks.every(({ rows, from, to }, k) =>
      rows.length <= 3 && width(rows) <= most && to <= across && (k === 0 || from - marks[k - 1].to >= 10));
    const all = ticks.map((_, index) => index), even = ticks.every((tick, i) => tick === ticks[0] + i && Number.isInteger(tick));
    for (const step of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]) {
      if (words.length && step > 1) break;
      const marks = all.filter((index) => (even ? ticks[index] : index) % step === 0).map((index) => mark(index, inner / Math.max(1, last) - 10));
      if (marks.length > 1 && fits(marks)) {
        const ends = [mark(0), mark(last)].filter((end) => marks.every(({ from, to }) => from - end.to >= 10 || end.from - to >= 10));
        return [...marks, ...ends];
      }
    }
    return [...new Set([0, last])].map((index) => mark(index, inner / 2 - 10));
  }

  // Labels beside the ends of their curves, moved apart where they would touch.
  function spread(labels, low, high) {
    const order = [...labels].sort((a, b) => a.y - b.y);
    let edge = low;
    for (const label of order) { label.y = Math.max(label.y, edge + label.high / 2); edge = label.y + label.high / 2; }
    edge = high;
    for (const label of order.reverse()) { label.y = Math.min(label.y, edge - label.high / 2); edge = label.y - label.high / 2; }
  }
  const text = (rows, x, y, values = {}) => svg("text", { x: x.toFixed(1), y: y.toFixed(1), ...values },
    ...rows.map((row, k) => svg("tspan", { x: x.toFixed(1), dy: k ? LINE : 0 }, row)));

  function draw() {
    const index = model.get("index"), curves = curvesNow();
    element.hidden = curves.length === 0;
    if (!curves.length) return;
    heading.textContent = model.get("curves_label") ?? "";
    heading.hidden = !heading.textContent;
    drawing.setAttribute("aria-label", `Curves${heading.textContent && ` of ${heading.textContent}`}, ${read(index)}`);
    if (!across) return;
    pen.font = `${FONT}px ${getComputedStyle(drawing).fontFamily}`;

    const values = curves.flatMap((curve) => there(curve.values)), most = Math.max(...values);
    let [low, high] = [model.get("percent") ? 0 : Math.min(...values), model.get("percent") ? Math.max(1, most) : most];
    const pad = high > low ? 0.04 * (high - low) : 0.05 * Math.abs(high) || 1;
    [low, high] = [model.get("percent") ? 0 : low - pad, Math.min(high + pad, model.get("percent") ? 100 : Infinity)];
    const grid = rounds(low, high).map((each) => ({ ...each, text: each.text + unit() }));
    const labels = curves.map(({ title }) => lines(title, across < 480 ? Math.max(70, 0.22 * across) : 170));
    left = Math.ceil(width(grid.map((each) => each.text))) + 6 + INSET;
    inner = across - left - Math.max(...labels.map(width), words.length ? 0 : size(name)) - 30 - INSET;
    const y = (value) => TOP + (1 - (value - low) / (high - low)) * HIGH;
    const axis = axisOf(words.length ? inner : across), deep = Math.max(...axis.map(({ rows }) => rows.length));
    const tall = TOP + HIGH + 8 + LINE * deep;
    drawing.setAttribute("viewBox", `0 0 ${across} ${tall}`);
    drawing.style.height = `${tall}px`;

    const ends = curves.map(({ values: all }, k) => {
      const end = all.findLastIndex((value) => value !== null);
      return { k, rows: labels[k], y: y(all[end]), high: LINE * labels[k].length };
    });
    spread(ends, 0, TOP + HIGH + 4);
    const [start, edge] = [left - INSET, left + inner + INSET], path = (all) => all.map((value, i) =>
      (value === null ? "" : `${i && all[i - 1] !== null ? "L" : "M"}${at(i).toFixed(1)} ${y(value).toFixed(1)}`)).join("");
    const mark = (k, x, height, kind = "") =>
      svg("path", { class: `lb-mark lb-curve-${k} ${kind}`, d: MARKS[k], transform: `translate(${x.toFixed(1)} ${height.toFixed(1)})` });
    const seen = (all, i) => all[i] !== null && (inner / Math.max(1, last) >= 9 || ((all[i - 1] ?? null) === null && (all[i + 1] ?? null) === null));
    drawing.replaceChildren(
      ...grid.flatMap(({ value, text: label }) => [
        svg("path", { class: "lb-grid", d: `M${start} ${y(value).toFixed(1)}H${edge.toFixed(1)}` }),
        text([label], start - 6, y(value) + 4, { "text-anchor": "end" })]),
      svg("path", { class: "lb-base", d: `M${start} ${TOP + HIGH}H${edge.toFixed(1)}` }),
      ...axis.map(({ index: i, rows, middle }) => text(rows, middle, TOP + HIGH + 6 + FONT, { "text-anchor": "middle", ...(i === index ? { class: "lb-now" } : {}) })),
      ...(words.length ? [] : [text([name], edge + 27, TOP + HIGH + 6 + FONT)]),
      svg("path", { class: "lb-cursor", d: `M${at(index).toFixed(1)} 2V${TOP + HIGH}` }),
      ...curves.map(({ values: all }, k) => svg("path", { class: `lb-curve lb-curve-${k}`, d: path(all) })),
      ...curves.flatMap(({ values: all }, k) => all.flatMap((value, i) => (seen(all, i) ? [mark(k, at(i), y(value))] : []))),
      ...curves.flatMap(({ values: all }, k) => (all[index] === null ? [] : [mark(k, at(index), y(all[index]), "lb-here")])),
      ...ends.flatMap(({ k, rows, y: middle }) => [
        svg("path", { class: `lb-curve lb-curve-${k}`, d: `M${(edge + 4).toFixed(1)} ${middle.toFixed(1)}h18` }),
        mark(k, edge + 13, middle),
        text(rows, edge + 27, middle + 4 - ((rows.length - 1) * LINE) / 2, { class: "lb-named" })]));
    Object.assign(drawing.dataset, { shown: index, from: at(0), to: at(last) });
  }

  // A mouse sets the cursor where it is pressed; a finger may mean to scroll, and sets it with a tap or across.
  const point = ({ clientX }) => {
    const share = (clientX - drawing.getBoundingClientRect().left - left) / inner;
    go(Math.max(0, Math.min(last, Math.round(share * last))));
  };
  track(field, (event, phase) => {
    if (phase === "start" && (last === 0 || event.button > 0)) return false;
    if (phase === "start") begin();
    if (phase === "move" || (phase === "start" && event.pointerType === "mouse")) point(event);
    return undefined;
  });
  field.addEventListener("click", point);
  const resized = new ResizeObserver(([{ contentRect }]) => {
    if (!contentRect.width || contentRect.width === across) return;
    across = contentRect.width;
    draw();
  });
  resized.observe(field);
  return { element, draw, read, stop: () => resized.disconnect() };
}

function render({ model, el }) {
  const ticks = model.get("ticks"), last = ticks.length - 1, name = model.get("name");
  const [labels, headings, notes] = ["labels", "headings", "notes"].map((key) => model.get(key));
  const words = model.get("words") ?? [], named = (i) => words[i] || `${name} ${ticks[i]}`;
  let lay = null, playing = false, due = 0, held = null;

  let far = null; // of each frame: how far its pictures are from the last ones, relative to the first frame's
  const scrub = slider(model, "index", { label: name, min: 0, max: last, say: (i) => words[i] || `${ticks[i]} of ${ticks[last]}` });
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const button = h("button", { type: "button", class: "lb-button", onclick: press });
  const bar = h("div", { class: "lb-bar" }, scrub.element, button);
  bar.hidden = last === 0;
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });

  let first = 0; // number of a mosaic's first picture
  const mosaics = model.get("shapes").map(([rows, columns], i) => {
    const canvas = picture(model, columns, rows);
    const mosaic = { canvas, rows, columns, first, heading: headings[i] ?? "", labels: i === 0 ? labels : [] };
    first += ticks.length * rows * columns;
    return mosaic;
  });
  const board = h("div", { class: "lb-board" }, ...mosaics.map(({ canvas, columns, heading, labels: above }) =>
    h("section", { class: "lb-mosaic", style: `--lb-wide:${canvas.width}px;--lb-columns:${columns}` },
      ...(heading ? [h("div", { class: "lb-heading" }, heading)] : []),
      ...(above.length ? [h("div", { class: "lb-columns", "aria-hidden": "true" }, ...above.map((text) => h("span", {}, text)))] : []),
      h("div", { class: "lb-print" }, canvas))));

  // What a mosaic shows, for those who do not see it.
  function tell({ rows, columns, heading, labels: above }, index) {
    const size = `${rows} ${rows > 1 ? "rows" : "row"} of ${columns} pictures`;
    const titles = above.length ? `, columns ${above.join(", ")}` : "";
    return [`${heading ? heading + ", " : ""}${named(index)}: ${size}${titles}.`, notes[index] ?? ""].join(" ").trim();
  }

  // The numbers of a mosaic's pictures in a frame.
  const numbersOf = ({ first: from, rows, columns }, index) =>
    Array.from({ length: rows * columns }, (_, i) => from + index * rows * columns + i);

  function draw() {
    const index = model.get("index");
    scrub.show();
    for (const mosaic of mosaics) {
      const { canvas, columns } = mosaic;
      canvas.setAttribute("aria-label", tell(mosaic, index));
      if (!lay) continue;
      lay(canvas, columns, numbersOf(mosaic, index));
      canvas.dataset.shown = index;
    }
    plot = plot ?? (Object.keys(model.get("curves") ?? {}).length ? plotted() : null);
    plot?.draw();
    if (!plot || plot.element.hidden) readout.textContent = notes[index] ?? finding(index);
    else readout.replaceChildren(h("span", { class: "lb-values" }, plot.read(index)), ...(notes[index] ? [" ", h("span", {}, notes[index])] : []));
  }

  let plot = null; // of the curves, if there are any
  function plotted() {
    const made = plotOf(model, { ticks, name, words, named, go, begin: pause, wide: Math.max(...mosaics.map(({ canvas }) => canvas.width)) });
    board.after(made.element);
    return made;
  }

  // Where nothing is noted: how much of the way from the first pictures to the last is done.
  function finding(index) {
    if (!far || far[0] === 0) return named(index);
    const done = `${Math.round(100 * (1 - far[index]))}\u00a0%`, by = `by ${named(index < last ? index : halfway())}`;
    return `${index < last ? done : "Half"} of the change in grey values between the first and the last pictures is done ${by}.`;
  }
  const halfway = () => (far ? far.findIndex((share) => share <= 0.5) : last >> 1);

  // The same sheet, read frame by frame.
  function measure() {
    const canvas = document.createElement("canvas"), paper = canvas.getContext("2d", { willReadFrequently: true });
    const greys = ticks.map((_, index) => {
      const all = mosaics.flatMap((mosaic) => numbersOf(mosaic, index));
      lay(canvas, all.length, all);
      return paper.getImageData(0, 0, canvas.width, canvas.height).data;
    });
    const apart = greys.map((frame) => {
      let sum = 0;
      for (let k = 0; k < frame.length; k += 4) sum += Math.abs(frame[k] - greys[last][k]);
      return sum;
    });
    far = apart.map((sum) => (apart[0] ? sum / apart[0] : 0));
  }

  function go(index) {
    if (index !== model.get("index")) assign(model, { index });
  }

  const next = () => go(model.get("index") < last ? model.get("index") + 1 : 0);

  // Those who ask for less motion get a button that takes one step; for all others it plays to the last frame.
  function press() {
    if (calm.matches) return next();
    if (playing) return pause();
    playing = true;
    due = performance.now() + PACE;
    next();
    film.wake();
    return say();
  }

  // It plays while it is seen, and goes on when it comes back.
  const film = whileSeen(el, () => playing, (time) => {
    if (time < due) return;
    due = time + PACE;
    if (model.get("index") < last) next();
    else pause();
  });

  function pause() {
    playing = false;
    say();
  }

  function say() {
    button.textContent = calm.matches ? `next ${name}` : playing ? "pause" : "play";
    readout.setAttribute("aria-live", playing ? "off" : "polite");
  }

  scrub.element.addEventListener("input", pause);
  calm.addEventListener("change", pause);
  track(board, (event, phase) => {
    if (phase === "start") {
      if (last === 0 || event.button > 0) return false;
      held = { x: event.clientX, index: model.get("index") };
      pause();
    } else if (phase === "move") {
      const moved = Math.round(((event.clientX - held.x) / board.clientWidth) * (last + 1));
      go(Math.max(0, Math.min(last, held.index + moved)));
    }
    return undefined;
  });

  const { row, press: mark, stop: leave } = manners(model, {
    state: { index: below(ticks.length) },
    tries: last === 0 ? [] : [
      [`the first ${name}`, { index: 0 }], ["past half of the change", () => ({ index: halfway() })], [`the last ${name}`, { index: last }],
    ],
  });
  row.hidden = last === 0;
  if (words.length) bar.style.setProperty("--lb-word", `${Math.max(...words.map((word) => word.length))}ch`);
  el.append(h("figure", { class: `lb-widget lb-strips${words.length ? " lb-worded" : ""}`, "aria-label": `Pictures by ${name}` },
    bar, board, readout, row, h("figcaption", {}, model.get("caption"))));
  pause();
  const stop = follow(model, ["index", "curves", "curves_label", "percent"], draw);
  sprites(model).then((ready) => {
    lay = ready;
    measure();
    mark();
    draw();
  }, () => {
    readout.textContent = "The pictures of this figure cannot be read; run the cell again.";
  });
  return () => { stop(); leave(); plot?.stop(); film.stop(); calm.removeEventListener("change", pause); };
}

export default { render };
