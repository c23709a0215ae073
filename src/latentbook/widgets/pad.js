// Shared by the figures that a reader draws on: a pad for one digit and a canvas for scenes. Nothing that is drawn is stored
// or leaves the page. Strokes are lists of points [x, y] in pixels of the picture, from its upper left corner.

const PEN = 2.5; // pixels: as wide as MNIST's strokes; pad.py says how that was measured
const STAMP_PEN = 2.4; // the same for digits resized to 24 pixels, as scenes have them
const ENLARGED = 8; // at most: a tap with a trembling finger stays a dot
const PAST = 200; // so many steps can be undone
const MOST_POINTS = 400; // of a drawing in a link
const SIDE_ON_SCREEN = 290; // CSS pixels, about: room for a thumb, and beside it on a phone to scroll the page by
const KEYS = "Arrow keys move the pen, with Shift further. Space sets it down and lifts it, Backspace undoes.";

// Strokes as grey values 0 to 1, row by row: a round pen with an edge one pixel soft. Mirrored in pad.py.
function rasterise(strokes, { size = 28, width = PEN } = {}) {
  if (!Number.isInteger(size) || size < 1) throw new RangeError(`size must be a whole number of pixels, got ${size}`);
  if (!(width > 0 && width < Infinity)) throw new RangeError(`width must be a positive number of pixels, got ${width}`);
  const values = new Float32Array(size * size), reach = width / 2 + 0.5;
  const from = (place) => Math.max(0, Math.floor(place - reach)), to = (place) => Math.min(size, Math.ceil(place + reach));
  for (const stroke of strokes) {
    if (!stroke.length || !stroke.every((point) => point.length === 2 && point.every(Number.isFinite))) {
      throw new RangeError("a stroke must be points [x, y] of finite numbers");
    }
    stroke.slice(0, Math.max(1, stroke.length - 1)).forEach(([x, y], k) => {
      const [u, v] = stroke[k + 1] ?? [x, y], along = [u - x, v - y], square = along[0] ** 2 + along[1] ** 2 || 1;
      for (let row = from(Math.min(y, v)); row < to(Math.max(y, v)); row++) {
        for (let column = from(Math.min(x, u)); column < to(Math.max(x, u)); column++) {
          const right = column + 0.5 - x, down = row + 0.5 - y;
          const share = Math.max(0, Math.min(1, (right * along[0] + down * along[1]) / square));
          const ink = Math.min(1, reach - Math.hypot(right - share * along[0], down - share * along[1]));
          if (ink > values[row * size + column]) values[row * size + column] = ink;
        }
      }
    });
  }
  return values;
}

// Strokes of any scale as MNIST's digits are placed: ink in a box of 20 of 28 pixels, its centre of mass by whole pixels on
// the pixel below and right of the middle. The strokes are scaled, not the picture, so that the pen keeps its width.
function centred(strokes, { size = 28, width = PEN } = {}) {
  const points = strokes.flat();
  if (points.length === 0) return [];
  const sides = [0, 1].map((k) => points.map((point) => point[k])).map((at) => [Math.min(...at), Math.max(...at)]);
  const extent = Math.max(...sides.map(([low, high]) => high - low));
  const scale = extent > 0 ? Math.min(((20 / 28) * size - width) / extent, ENLARGED) : 1;
  const fitted = moved(strokes, (value, k) => (value - (sides[k][0] + sides[k][1]) / 2) * scale + size / 2);
  const values = rasterise(fitted, { size, width }), mass = [0, 0];
  let ink = 0;
  values.forEach((value, at) => {
    ink += value;
    mass[0] += value * ((at % size) + 0.5);
    mass[1] += value * (Math.floor(at / size) + 0.5);
  });
  const shift = mass.map((sum) => Math.floor((14.5 / 28) * size - sum / ink + 0.5));
  return moved(fitted, (value, k) => value + shift[k]);
}

const moved = (strokes, change) => strokes.map((stroke) => stroke.map((point) => point.map(change)));

// Strokes to a tenth of a pixel, as links and Python have them; and whether something is strokes on a pad of 28 pixels, for
// links are typed by others.
const rounded = (strokes) => strokes.map((stroke) => stroke.map((point) => point.map((value) => Math.round(10 * value) / 10)));
const isPlace = (value) => typeof value === "number" && value >= 0 && value <= 28;
const isPoint = (point) => Array.isArray(point) && point.length === 2 && point.every(isPlace);
const isStroke = (stroke) => Array.isArray(stroke) && stroke.length > 0 && stroke.every(isPoint);
const isDrawing = (strokes) => Array.isArray(strokes) && strokes.flat().length <= MOST_POINTS && strokes.every(isStroke);

// Call `act` once, in the next frame, however often it is asked for; in a hidden tab, which has no frames, a little later.
function inNextFrame(act) {
  let frame = 0, late = 0;
  const cancel = () => { cancelAnimationFrame(frame); clearTimeout(late); late = 0; };
  const run = () => { cancel(); act(); };
  const ask = () => { if (!late) [frame, late] = [requestAnimationFrame(run), setTimeout(run, 250)]; };
  return { ask, cancel };
}

// A sample digit in a frame of `size` pixels: strokes of any scale are placed as MNIST's, an image stays as it is.
function stampOf(name, sample, size, width) {
  if (Array.isArray(sample?.[0])) {
    const strokes = centred(sample, { size, width });
    return { name, strokes, values: rasterise(strokes, { size, width }) };
  }
  const plain = Array.isArray(sample) || ArrayBuffer.isView(sample); // or a picture { values, width, height }
  const values = Float32Array.from((plain ? sample : sample?.values) ?? []);
  if (values.length === size * size && values.some((value) => value > 0.1)) return { name, strokes: null, values };
  throw new RangeError(`the sample "${name}" must be strokes or ${size} x ${size} grey values with ink, got ${values.length}`);
}

// The square to draw on, by mouse, finger, pen and key, and its history. `size` in pixels of the picture, `shown(now)` gives
// the values of what is on it besides strokes as [{ strokes, values, side, x, y }]. What is on it now is never changed but
// replaced, so that it can be undone: { strokes, ...of the figure }.
function drawingBoard({ label, hint, size, width, empty, stamps, help = "" }) {
  if (!label) throw new TypeError("a pad needs a label: what a screen reader calls it");
  const canvas = h("canvas", { class: "lb-picture", width: 8 * size, height: 8 * size, "aria-hidden": "true" });
  const ring = svg("circle", { r: width / 2 }), cross = svg("path", { d: "M-3 0h-2M3 0h2M0-3v-2M0 3v2" });
  const cursor = svg("g", { class: "lb-pad-cursor" }, ring, cross);
  const overlay = svg("svg", { viewBox: `0 0 ${size} ${size}`, "aria-hidden": "true" }, cursor);
  const helpId = newId("lb-pad-help"), words = h("p", { class: "lb-pad-help", id: helpId }, KEYS + help);
  const surface = h("div", {
    class: "lb-pad-surface", tabindex: 0, role: "application", "aria-label": label, "aria-describedby": helpId,
  }, canvas, overlay);
  const inviting = h("span", { class: "lb-pad-hint", "aria-hidden": "true" }, hint);
  const stage = h("div", { class: "lb-pad-stage lb-print" }, surface, inviting, words);
  const live = h("p", { class: "lb-pad-say", "aria-live": "polite" });
  const listeners = new Set(), past = [], ghosts = new Map();
  let now = empty, at = [size / 2, size / 2], held = false, keyed = false, dragged = false;

  const say = (text) => { live.textContent = text; };
  const frame = inNextFrame(() => {
    show();
    for (const act of [...listeners]) act({ drawing: held || keyed || dragged });
  });
  // Every step that can be undone begins with `change`; what belongs to the same step goes on with `adjust`.
  const adjust = (values) => { now = { ...now, ...values }; frame.ask(); };
  function change(values) {
    [held, keyed] = [false, false];
    past.push(now);
    if (past.length > PAST) past.shift();
    adjust(values);
  }
  function undo() {
    if (past.length === 0) return say("Nothing to undo.");
    [now, held, keyed] = [past.pop(), false, false];
    say("Undone.");
    return frame.ask();
  }
  function clear() {
    if (isEmpty()) return say("The pad is empty.");
    change(empty);
    return say("Cleared.");
  }
  function write(given, more = {}) {
    rasterise(given, { size, width }); // refuses what cannot be drawn
    change({ strokes: moved(given, Number), ...more });
  }
  const isEmpty = () => now.strokes.length === 0 && stamps(now).length === 0;

  function begin(point) { change({ strokes: [...now.strokes, [point]] }); }
  function draw(points) {
    const stroke = [...now.strokes.at(-1)];
    for (const [x, y] of points) if (Math.hypot(x - stroke.at(-1)[0], y - stroke.at(-1)[1]) >= 0.1) stroke.push([x, y]);
    adjust({ strokes: [...now.strokes.slice(0, -1), stroke] });
  }

  // Where an event lies, in pixels of the picture; `inside` says how far a pointer may be out.
  function place({ clientX, clientY }) {
    const { left, top, width: wide } = surface.getBoundingClientRect();
    return [clientX - left, clientY - top].map((value) => (value / wide) * size);
  }
  const within = (point) => point.map((value) => Math.max(0, Math.min(size, value)));
  const pen = (event) => within(place(event));

  track(surface, (event, phase) => {
    if (phase === "start") {
      if (event.button !== 0) return false;
      lift();
      delete stage.dataset.keys;
      surface.focus({ preventScroll: true });
      begin(pen(event));
      held = true;
    }
    if (phase === "move" && held) {
      const all = event.getCoalescedEvents?.() ?? [];
      draw((all.length ? all : [event]).map(pen));
    }
    if (phase === "end" && held) {
      held = false;
      at = now.strokes.at(-1)?.at(-1) ?? at;
      frame.ask();
    }
    return undefined;
  });

  function lift() {
    if (!keyed) return;
    keyed = false;
    say("Pen up.");
    frame.ask();
  }
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const steps = (event) => ARROWS[event.key]?.map((step) => step * (event.shiftKey ? 5 : 1));
  surface.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || held) return;
    const step = steps(event);
    if (step) {
      at = within(at.map((value, k) => value + step[k]));
      if (keyed) draw([at]);
      else say(`Row ${Math.round(at[1])}, column ${Math.round(at[0])}.`);
    } else if (event.key === " " || event.key === "Enter") {
      if (event.repeat) return event.preventDefault();
      if (keyed) lift();
      else {
        begin(at);
        keyed = true;
        say("Pen down.");
      }
    } else if (event.key === "Backspace") undo();
    else if (event.key === "Escape" && keyed) lift();
    else return undefined;
    stage.dataset.keys = "";
    frame.ask();
    return event.preventDefault();
  });
  surface.addEventListener("blur", () => {
    lift();
    delete stage.dataset.keys;
    frame.ask();
  });

  // The square as it is now, as fine as the screen is.
  function show() {
    const side = Math.max(size, Math.round(surface.clientWidth * (globalThis.devicePixelRatio || 1))) || 8 * size;
    if (canvas.width !== side) [canvas.width, canvas.height] = [side, side];
    const paper = canvas.getContext("2d");
    paper.setTransform(side / size, 0, 0, side / size, 0, 0);
    paper.globalCompositeOperation = "source-over";
    Object.assign(paper, { fillStyle: "#000", strokeStyle: "#fff", lineWidth: width, lineCap: "round", lineJoin: "round" });
    paper.fillRect(0, 0, size, size);
    paper.globalCompositeOperation = "lighten";
    for (const { stamp, x, y } of stamps(now)) {
      if (stamp.strokes) for (const stroke of stamp.strokes) ink(paper, stroke, x, y);
      else paper.drawImage(ghost(stamp), x, y);
    }
    for (const stroke of now.strokes) ink(paper, stroke, 0, 0);
    cursor.setAttribute("transform", `translate(${at.join(" ")})`);
    cursor.classList.toggle("lb-pad-down", keyed);
    stage.toggleAttribute("data-empty", isEmpty());
    stage.dataset.steps = past.length;
  }
  function ink(paper, stroke, x, y) {
    const [first, ...others] = stroke;
    paper.beginPath();
    paper.moveTo(first[0] + x, first[1] + y);
    if (others.length === 0) paper.lineTo(first[0] + x + 1e-3, first[1] + y); // a line of no length would leave no dot
    for (const point of others) paper.lineTo(point[0] + x, point[1] + y);
    paper.stroke();
  }
  function ghost(stamp) {
    if (!ghosts.has(stamp)) {
      ghosts.set(stamp, document.createElement("canvas"));
      paintGrey(ghosts.get(stamp), stamp.values);
    }
    return ghosts.get(stamp);
  }

  const watch = new ResizeObserver(show);
  watch.observe(surface);
  function stop() {
    watch.disconnect();
    frame.cancel();
    listeners.clear();
  }
  function on(act) {
    listeners.add(act);
    return () => listeners.delete(act);
  }

  // All of it with its buttons; Ctrl+Z undoes wherever in it the focus is.
  function assemble(tools = [], rows = []) {
    const tool = (name, act) => h("button", { type: "button", class: "lb-button", onclick: act }, name);
    const bar = h("div", { class: "lb-bar lb-pad-bar" }, tool("Undo", undo), tool("Clear", clear), ...tools);
    const side = (size * Math.max(1, Math.round(SIDE_ON_SCREEN / size))) / 16;
    const element = h("div", { class: "lb-pad", style: `--lb-pad-side:${side}rem` }, stage, bar, ...rows, live);
    element.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() !== "z" || event.shiftKey || event.altKey || !(event.ctrlKey || event.metaKey)) return;
      undo();
      event.preventDefault();
    });
    return element;
  }

  return {
    stage, surface, words, say, change, adjust, write, undo, clear, place, within, steps, show, stop, on, assemble,
    now: () => now, drag: (is) => { dragged = is; frame.ask(); },
  };
}

// A row of sample digits, each a button; `take(stamp)` when one is pressed.
function sampleButtons(stamps, legend, says, take) {
  const buttons = stamps.map((stamp) => {
    const canvas = h("canvas", { class: "lb-picture", "aria-hidden": "true" });
    paintGrey(canvas, stamp.values);
    return h("button", {
      type: "button", class: "lb-pad-sample", "aria-label": says(stamp.name), onclick: () => take(stamp),
    }, h("span", { class: "lb-print" }, canvas));
  });
  const id = newId("lb-pad-samples");
  const element = h("div", { class: "lb-pad-samples", role: "group", "aria-labelledby": id },
    h("span", { class: "lb-pad-legend", id }, legend), h("div", {}, ...buttons));
  return { element, buttons };
}

function stampNamed(stamps, name) {
  const found = stamps.find((stamp) => stamp.name === String(name)), names = stamps.map((stamp) => stamp.name).join(", ");
  if (!found) throw new RangeError(`no sample digit "${name}": there are ${names || "none"}`);
  return found;
}

// A pad for one digit. label: what a screen reader calls it; samples: { name: strokes of any scale, or an image } to begin
// with; centre: whether image() places what was drawn as MNIST's digits are, or leaves it where it is; hint: on an empty pad.
function pad({ label, size = 28, width = PEN, centre = true, samples = {}, hint = "draw a digit", legend = "or begin with" }) {
  const stamps = Object.entries(samples).map(([name, sample]) => stampOf(name, sample, size, width));
  const board = drawingBoard({
    label, hint, size, width, empty: { strokes: [], base: null },
    stamps: ({ base }) => (base ? [{ stamp: base, x: 0, y: 0 }] : []),
  });
  function begin(name) {
    const stamp = stampNamed(stamps, name);
    board.change(stamp.strokes ? { strokes: stamp.strokes, base: null } : { strokes: [], base: stamp });
    board.say(`A ${stamp.name} to begin with.`);
  }
  // An image stays as it is, and what is drawn on it where it is.
  function image() {
    const { strokes, base } = board.now();
    const values = rasterise(centre && !base ? centred(strokes, { size, width }) : strokes, { size, width });
    return base ? values.map((value, k) => Math.max(value, base.values[k])) : values;
  }
  const row = sampleButtons(stamps, legend, (name) => `Begin with ${aDigit(name)}`, ({ name }) => begin(name));
  const { stage, surface, undo, clear, on, show, stop } = board, element = board.assemble([], stamps.length ? [row.element] : []);
  show();
  return {
    element, stage, surface, image, on, undo, clear, begin, show, stop,
    write: (strokes) => board.write(strokes, { base: null }), // in place of all that is there
    get strokes() { return moved(board.now().strokes, Number); },
  };
}
