// MixingFigure: two feature vectors being mixed, on the encoder and on the decoder side of Mix-and-Match.
// Traits: hidden, alpha, seed, per ("example" | "batch"), data, condition, latent ([rows][hidden], 0..1), caption.

const SIDES = {
  encoder: { drawn: "data", other: "condition", target: "mixed, into the VAE encoder" },
  decoder: { drawn: "condition", other: "latent", target: "mixed, into the decoder" },
};

// [rows][hidden] booleans, exactly alpha true in every row; the same as draw_mask in mixing.py, bit for bit.
function drawMask(seed, alpha, hidden, rows, per) {
  const next = generator(seed);
  const mask = [];
  for (let r = 0; r < (per === "example" ? rows : 1); r++) {
    const order = Array.from({ length: hidden }, (_, i) => i);
    for (let i = 0; i < hidden - 1; i++) {
      const j = i + integerBelow(next, hidden - i);
      [order[i], order[j]] = [order[j], order[i]];
    }
    const chosen = new Set(order.slice(0, alpha));
    mask.push(order.map((_, i) => chosen.has(i)));
  }
  return per === "example" ? mask : Array.from({ length: rows }, () => [...mask[0]]);
}

function sourceOf(side, drawn) {
  return drawn ? SIDES[side].drawn : SIDES[side].other;
}

function sentence(row, feature, drawn) {
  const [encoder, decoder] = ["encoder", "decoder"].map((side) => sourceOf(side, drawn));
  const how = drawn ? "drawn" : "not drawn";
  const mark = drawn ? "" : " (resampled)";
  return `Example ${row + 1}, feature ${feature}, ${how}. Encoder: from the ${encoder}${mark}. Decoder: from the ${decoder}${mark}.`;
}

// One block of rows: a source (name is its concept) or the mix (name "mixed"). Returns its element and its cells.
function block(side, name, rows, hidden) {
  const { drawn, target } = SIDES[side];
  const title = name === "mixed" ? target : `${name} features, ${name === drawn ? "where drawn" : "elsewhere"}`;
  const mixed = name === "mixed";
  const cells = [];
  const lines = Array.from({ length: rows }, (_, row) => {
    cells.push(Array.from({ length: hidden }, (_, feature) =>
      h("span", { class: "lb-cell", role: mixed ? "gridcell" : null, tabindex: mixed ? -1 : null, "data-row": row, "data-feature": feature })));
    return h("div", { class: "lb-row", role: mixed ? "row" : null }, ...cells[row]);
  });
  const grid = h("div", { class: "lb-rows", role: mixed ? "grid" : "img", "aria-label": title }, ...lines);
  const swatch = mixed ? [] : [h("span", { class: `lb-cell lb-swatch lb-is-${name}`, "aria-hidden": "true" })];
  const element = h("div", { class: "lb-block", "data-side": side, "data-block": name },
    h("div", { class: "lb-block-title", "aria-hidden": "true" }, ...swatch, title), grid);
  return { element, cells, name, side, grid };
}

function render({ model, el }) {
  const hidden = model.get("hidden"), rows = model.get("data").length;
  let mask = [], cursor = null;

  const alpha = slider(model, "alpha", {
    label: "α", min: 0, max: hidden, say: (value) => `${value} of ${hidden} drawn`,
  });
  const per = choice(model, "per", {
    label: "mask", options: [["example", "per example"], ["batch", "per batch"]],
  });
  const redraw = h("button", { type: "button", class: "lb-button", onclick: drawAnother }, "redraw the mask");
  const readout = h("p", { class: "lb-readout", "aria-live": "polite" });

  const blocks = [];
  const sides = Object.entries(SIDES).map(([side, { drawn, other }]) => {
    const own = [drawn, other, "mixed"].map((name) => block(side, name, rows, hidden));
    blocks.push(...own);
    return h("div", { class: "lb-side", role: "group", "aria-label": `${side} side` },
      h("div", { class: "lb-side-title" }, `${side} side`),
      ...own.map((b) => b.element));
  });
  const board = h("div", { class: "lb-sides", style: `--lb-hidden:${hidden};--lb-gap:${hidden > 24 ? 1 : 2}px` }, ...sides);

  // What the chosen mask does, where no feature is pointed at.
  function finding() {
    const drawn = model.get("alpha"), rest = hidden - drawn, hint = "Point at a feature to see where it comes from.";
    if (drawn === 0) return `Nothing is drawn: the encoder sees the condition alone, the decoder hears the latent alone. ${hint}`;
    if (rest === 0) return `All is drawn: the encoder sees the data alone, the decoder hears the condition alone. ${hint}`;
    const how = model.get("per") === "batch" ? "the same in every example" : "for each example anew";
    return `${drawn} of ${hidden} features are drawn, ${how}: the encoder reads these from the data and the other ${rest} from the `
      + `condition. ${hint}`;
  }

  // Another mask; not by chance the same one, unless there is only one.
  function drawAnother() {
    const a = model.get("alpha"), before = JSON.stringify(mask);
    let seed = model.get("seed");
    do seed = (seed + 1) % 2147483648;
    while (a > 0 && a < hidden && JSON.stringify(drawMask(seed, a, hidden, rows, model.get("per"))) === before);
    assign(model, { seed });
  }

  function draw() {
    mask = drawMask(model.get("seed"), model.get("alpha"), hidden, rows, model.get("per"));
    for (const { cells, name, side, grid } of blocks) {
      for (let r = 0; r < rows; r++) for (let i = 0; i < hidden; i++) paint(cells[r][i], name, side, r, i);
      if (name !== "mixed") {
        const used = name === SIDES[side].drawn ? model.get("alpha") : hidden - model.get("alpha");
        grid.setAttribute("aria-label", `${name} features of ${rows} examples; ${used} of ${hidden} in each go to the ${side}`);
      }
    }
    alpha.show();
    per.show();
    point(cursor);
  }

  function paint(cell, name, side, row, feature) {
    const drawn = mask[row][feature];
    const source = name === "mixed" ? sourceOf(side, drawn) : name;
    const used = name === "mixed" || source === sourceOf(side, drawn);
    cell.className = `lb-cell lb-is-${source}${used ? "" : " lb-resting"}`;
    cell.style.setProperty("--lb-value", model.get(source)[row][feature]);
    if (name === "mixed") {
      cell.setAttribute("aria-label", `example ${row + 1}, feature ${feature}: from the ${source}${drawn ? "" : " (resampled)"}`);
    }
  }

  // Mark one feature of one example on both sides, and say where it comes from.
  function point(place) {
    cursor = place;
    for (const old of board.querySelectorAll(".lb-pointed")) old.classList.remove("lb-pointed");
    if (place) for (const { cells } of blocks) cells[place.row][place.feature].classList.add("lb-pointed");
    readout.textContent = place ? sentence(place.row, place.feature, mask[place.row][place.feature]) : finding();
    for (const { cells, name } of blocks) {
      if (name !== "mixed") continue;
      cells.flat().forEach((cell) => { cell.tabIndex = -1; });
      cells[place?.row ?? 0][place?.feature ?? 0].tabIndex = 0;
    }
  }

  const placeOf = (cell) => ({ row: Number(cell.dataset.row), feature: Number(cell.dataset.feature) });
  const cellUnder = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest(".lb-cell[data-feature]");

  track(board, (event, phase) => {
    if (phase === "leave") return point(null);
    if (phase === "end") return undefined;
    const cell = cellUnder(event);
    if (!cell || !board.contains(cell)) return phase === "start" ? false : undefined;
    return point(placeOf(cell));
  });

  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -hidden], End: [0, hidden] };
  const clamp = (value, high) => Math.max(0, Math.min(high, value));
  for (const { cells, name, grid } of blocks) {
    if (name !== "mixed") continue;
    grid.addEventListener("focusin", (event) => point(placeOf(event.target)));
    grid.addEventListener("keydown", (event) => {
      const move = MOVES[event.key];
      if (!move) return;
      event.preventDefault();
      const at = placeOf(event.target);
      cells[clamp(at.row + move[0], rows - 1)][clamp(at.feature + move[1], hidden - 1)].focus();
    });
  }

  // What does the decoder read, where the encoder has seen the condition?
  const options = ["condition", "latent", "data"], right = options.indexOf(sourceOf("decoder", false));
  const others = hidden - model.get("alpha");
  const { ask, row, stop: leave } = manners(model, {
    state: { alpha: below(hidden + 1), seed: below(2 ** 31), per: (per) => per === "example" || per === "batch" },
    tries: [
      ["the latent alone", { alpha: 0 }], ["the condition alone", { alpha: hidden }], ["one mask for all", { alpha: Math.max(1, hidden >> 1), per: "batch" }],
    ],
    question: others === 0 ? null : {
      words: "Where the encoder reads the condition, what does the decoder read?",
      options: options.map((source) => `the ${source}`), right, veiled: [sides[1]],
      answer: `The ${options[right]}: in each example it fills the ${others} features that the encoder takes from the condition.`,
    },
  });
  const stop = follow(model, ["alpha", "seed", "per"], draw);
  el.append(h("figure", { class: "lb-widget lb-mixing", "aria-label": "Mixing two feature vectors" },
    ...(ask ? [ask] : []), h("div", { class: "lb-bar" }, alpha.element, per.element, redraw), board, readout, row,
    h("figcaption", {}, model.get("caption"))));
  return () => { stop(); leave(); };
}

export default { render, drawMask };
