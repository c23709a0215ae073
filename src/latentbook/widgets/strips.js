// StripsFigure: a scrubber over frames of one or two mosaics of small pictures.
// Traits: sheet, packing (the pictures), shapes ([rows, columns] of each mosaic), ticks (a number for each frame), labels,
// headings, notes, name, index, caption.

const PACE = 450; // milliseconds from frame to frame

function render({ model, el }) {
  const ticks = model.get("ticks"), last = ticks.length - 1, name = model.get("name");
  const [labels, headings, notes] = ["labels", "headings", "notes"].map((key) => model.get(key));
  let lay = null, playing = false, due = 0, held = null;

  let far = null; // of each frame: how far its pictures are from the last ones, relative to the first frame's
  const scrub = slider(model, "index", { label: name, min: 0, max: last, say: (i) => `${ticks[i]} of ${ticks[last]}` });
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
    const named = above.length ? `, columns ${above.join(", ")}` : "";
    return [`${heading ? heading + ", " : ""}${name} ${ticks[index]}: ${size}${named}.`, notes[index] ?? ""].join(" ").trim();
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
    readout.textContent = notes[index] ?? finding(index);
  }

  // Where nothing is noted: how much of the way from the first pictures to the last is done.
  function finding(index) {
    if (!far || far[0] === 0) return `${name} ${ticks[index]}`;
    const done = `${Math.round(100 * (1 - far[index]))}\u00a0%`, by = `by ${name} ${ticks[index < last ? index : halfway()]}`;
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
  el.append(h("figure", { class: "lb-widget lb-strips", "aria-label": `Pictures by ${name}` },
    bar, board, readout, row, h("figcaption", {}, model.get("caption"))));
  pause();
  const stop = follow(model, ["index"], draw);
  sprites(model).then((ready) => {
    lay = ready;
    measure();
    mark();
    draw();
  }, () => {
    readout.textContent = "The pictures of this figure cannot be read; run the cell again.";
  });
  return () => { stop(); leave(); film.stop(); calm.removeEventListener("change", pause); };
}

export default { render };
