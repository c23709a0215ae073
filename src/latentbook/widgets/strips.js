// StripsFigure: a scrubber over frames of one or two mosaics of small pictures.
// Traits: sheet, packing (the pictures), shapes ([rows, columns] of each mosaic), ticks (a number for each frame), labels,
// headings, notes, name, index, caption.

const PACE = 450; // milliseconds from frame to frame

function render({ model, el }) {
  const ticks = model.get("ticks"), last = ticks.length - 1, name = model.get("name");
  const [labels, headings, notes] = ["labels", "headings", "notes"].map((key) => model.get(key));
  let lay = null, timer = null, held = null;

  const scrub = slider(model, "index", { label: name, min: 0, max: last, say: (i) => `${ticks[i]} of ${ticks[last]}` });
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const button = h("button", { type: "button", class: "lb-button", onclick: press });
  const bar = h("div", { class: "lb-bar" }, scrub.element, button);
  bar.hidden = last === 0;
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });
  readout.hidden = notes.length === 0;

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

  function draw() {
    const index = model.get("index");
    scrub.show();
    for (const mosaic of mosaics) {
      const { canvas, rows, columns } = mosaic, n = rows * columns;
      canvas.setAttribute("aria-label", tell(mosaic, index));
      if (!lay) continue;
      lay(canvas, columns, Array.from({ length: n }, (_, i) => mosaic.first + index * n + i));
      canvas.dataset.shown = index;
    }
    readout.textContent = notes[index] ?? "";
  }

  function go(index) {
    if (index !== model.get("index")) assign(model, { index });
  }

  const next = () => go(model.get("index") < last ? model.get("index") + 1 : 0);

  // Those who ask for less motion get a button that takes one step; for all others it plays to the last frame.
  function press() {
    if (calm.matches) return next();
    if (timer !== null) return pause();
    next();
    timer = setInterval(() => (model.get("index") < last && el.isConnected ? next() : pause()), PACE);
    return say();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    say();
  }

  function say() {
    button.textContent = calm.matches ? `next ${name}` : timer === null ? "play" : "pause";
    readout.setAttribute("aria-live", timer === null ? "polite" : "off");
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

  el.append(h("figure", { class: "lb-widget lb-strips", "aria-label": `Pictures by ${name}` },
    bar, board, readout, h("figcaption", {}, model.get("caption"))));
  pause();
  const stop = follow(model, ["index"], draw);
  sprites(model).then((ready) => { lay = ready; draw(); }, () => {
    readout.hidden = false;
    readout.textContent = "The pictures of this figure cannot be read; run the cell again.";
  });
  return () => { stop(); pause(); calm.removeEventListener("change", pause); };
}

export default { render };
