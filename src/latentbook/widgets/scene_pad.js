// Shared by the figures for which a reader makes a scene: the drawing board of pad.js, with digits to drop and drag.

const GRIP = 8; // pixels, at least, to take hold of a digit by: 44 on the screen
// Where a digit is dropped that is told no place: the freest of these, as shares of where its corner can lie.
const PLACES = [[0.15, 0.2], [0.9, 0.8], [0.85, 0.1], [0.1, 0.9], [0.5, 0.5]];

// A canvas for scenes: strokes, and digits of `digit` pixels, dropped by a button or dragged from it, that can be dragged
// about, moved by key and taken away. They lie at whole pixels and inside the canvas, as those of latentbook.data.scenes do;
// where ink overlaps it adds up, at most to 1. most: how many digits.
function scenePad({
  label, size = 50, digit = 24, width = STAMP_PEN, most = 9, samples = {}, hint = "draw, or drop digits", legend = "drop a digit",
}) {
  if (digit > size) throw new RangeError(`a scene of ${size} pixels cannot hold a digit of ${digit}: enlarge size`);
  const stamps = Object.entries(samples).map(([name, sample]) => stampOf(name, sample, digit, width)), handles = new Map();
  const board = drawingBoard({
    label, hint, size, width, empty: { strokes: [], digits: [] }, stamps: ({ digits }) => digits,
    help: stamps.length ? " Tab goes on to the digits: arrow keys move them, Delete takes them away." : "",
  });
  const { stage, say, undo, clear, show, stop } = board, digits = () => board.now().digits, room = size - digit;
  const settled = (x, y) => [x, y].map((value) => Math.max(0, Math.min(room, Math.round(value))));
  const find = (id) => digits().find((one) => one.id === id);
  const others = (id) => digits().filter((one) => one.id !== id);
  const under = (k, x, y) => (y + Math.floor(k / digit)) * size + x + (k % digit); // a stamp's pixel k on the canvas
  let next = 1, last = null;

  function image() {
    const values = rasterise(board.now().strokes, { size, width });
    for (const { stamp, x, y } of digits()) stamp.values.forEach((value, k) => { values[under(k, x, y)] += value; });
    return values.map((value) => Math.min(1, value));
  }
  function freest(stamp) {
    const seen = image();
    const overlap = ([x, y]) => stamp.values.reduce((sum, value, k) => sum + value * seen[under(k, x, y)], 0);
    const corners = PLACES.map(([u, v]) => settled(u * room, v * room));
    const found = corners.map((corner) => ({ corner, cost: overlap(corner) }));
    return found.reduce((best, one) => (one.cost < best.cost ? one : best)).corner;
  }
  // Put a sample digit on the canvas, its upper left corner at x, y; gives its id, or null where there are `most` already.
  function drop(name, { x, y } = {}) {
    const stamp = stampNamed(stamps, name);
    if (digits().length >= most) {
      say(`There is room for ${most} digits: take one away first.`);
      return null;
    }
    const [left, top] = x === undefined ? freest(stamp) : settled(x, y);
    if (!Number.isFinite(left + top)) throw new RangeError(`a digit's place must be two numbers x and y, got ${x} and ${y}`);
    last = next++;
    board.change({ digits: [...digits(), { id: last, stamp, x: left, y: top }] });
    arrange();
    say(`A ${stamp.name} dropped: ${whereabouts(find(last))}.`);
    return last;
  }
  const whereabouts = ({ x, y }) => `row ${y + digit / 2}, column ${x + digit / 2}`;
  const placed = (id, x, y) => digits().map((one) => (one.id === id ? { ...one, x, y } : one));
  function remove(id = last) {
    const found = find(id) ?? digits().at(-1);
    if (!found) return say("There is no digit to take away.");
    const focused = handles.get(found.id)?.contains(document.activeElement);
    board.change({ digits: others(found.id) });
    last = digits().at(-1)?.id ?? null;
    arrange();
    if (focused) (handles.get(last) ?? board.surface).focus({ preventScroll: true });
    return say(`The ${found.stamp.name} is taken away.`);
  }

  // A gesture that moves a digit is one step, which begins when the digit first leaves its place.
  function mover() {
    let begun = false;
    return (id, x, y) => {
      const one = find(id), [left, top] = settled(x, y);
      if (!one || (one.x === left && one.y === top)) return;
      board[begun ? "adjust" : "change"]({ digits: placed(id, left, top) });
      begun = true;
      arrange();
    };
  }
  const outside = (event, far = 0) => board.place(event).some((value) => value < -far || value > size + far);

  // What takes hold of a digit: its ink's box, and at least what a finger needs.
  function handle({ id, stamp }) {
    const line = Array.from({ length: digit }, (_, k) => k);
    const span = (of) => {
      const on = line.filter((k) => line.some((j) => stamp.values[of(k, j)] > 0.1)), long = on.at(-1) + 1 - on[0];
      const more = Math.max(0, GRIP - long);
      return [on[0] - more / 2, long + more].map((value) => (100 * value) / size);
    };
    const [left, wide] = span((k, j) => j * digit + k), [top, tall] = span((k, j) => k * digit + j);
    const element = h("div", {
      class: "lb-pad-digit", tabindex: 0, role: "application", "aria-describedby": board.words.id,
      style: `--left:${left}%;--top:${top}%;width:${wide}%;height:${tall}%`,
    });
    let grip = null;
    track(element, (event, phase) => {
      if (phase === "start") {
        if (event.button !== 0) return false;
        const [x, y] = board.place(event), one = find(id);
        grip = { x: x - one.x, y: y - one.y, move: mover() };
        element.focus({ preventScroll: true });
        last = id;
        board.drag(true);
      }
      if (phase === "move") {
        const [x, y] = board.place(event);
        grip.move(id, x - grip.x, y - grip.y);
        element.classList.toggle("lb-pad-leaving", outside(event, 2));
      }
      if (phase === "end") {
        board.drag(false);
        element.classList.remove("lb-pad-leaving");
        if (event.type === "pointerup" && outside(event, 2)) remove(id);
        else if (find(id)) say(`The ${stamp.name}: ${whereabouts(find(id))}.`);
      }
      return undefined;
    });
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const step = board.steps(event), one = find(id);
      if (step) {
        mover()(id, one.x + step[0], one.y + step[1]);
        say(`${whereabouts(find(id))}.`);
      } else if (event.key === "Delete" || event.key === "Backspace") remove(id);
      else return;
      event.preventDefault();
    });
    element.addEventListener("focus", () => { last = id; });
    return element;
  }

  // The handles as the digits are now, after an undo too.
  function arrange() {
    for (const [id, element] of handles) if (!find(id)) (element.remove(), handles.delete(id));
    for (const one of digits()) {
      if (!handles.has(one.id)) {
        handles.set(one.id, handle(one));
        stage.append(handles.get(one.id));
      }
      const element = handles.get(one.id);
      element.style.left = `calc(${(100 * one.x) / size}% + var(--left))`;
      element.style.top = `calc(${(100 * one.y) / size}% + var(--top))`;
      element.setAttribute("aria-label", `Digit ${one.stamp.name}, ${whereabouts(one)}`);
    }
  }

  // A mouse can also drag a digit from its button; a finger there scrolls the page, and taps.
  let pulled = false; // then the click that ends the gesture drops nothing
  const row = sampleButtons(stamps, legend, (name) => `Drop ${aDigit(name)}`, ({ name }) => { if (!pulled) drop(name); });
  row.buttons.forEach((button, k) => {
    let start = null, id = null;
    const centre = (event) => board.place(event).map((value) => value - digit / 2);
    track(button, (event, phase) => {
      if (phase === "start") {
        pulled = false;
        if (event.pointerType === "touch" || event.button !== 0) return false;
        [start, id] = [[event.clientX, event.clientY], null];
      }
      if (phase === "move") {
        pulled ||= Math.hypot(event.clientX - start[0], event.clientY - start[1]) > 6;
        const [x, y] = centre(event);
        if (id !== null) {
          const [left, top] = settled(x, y);
          board.adjust({ digits: placed(id, left, top) });
          arrange();
        } else if (!outside(event) && (id = drop(stamps[k].name, { x, y })) !== null) board.drag(true);
      }
      if (phase === "end") {
        setTimeout(() => { pulled = false; });
        if (id === null) return undefined;
        board.drag(false);
        if (outside(event)) undo();
      }
      return undefined;
    });
  });

  const takeAway = h("button", { type: "button", class: "lb-button", onclick: () => remove() }, "Take a digit away");
  board.on(arrange);
  const element = stamps.length ? board.assemble([takeAway], [row.element]) : board.assemble();
  show();
  return {
    element, stage, surface: board.surface, image, on: board.on, undo, clear, drop, remove, show, stop,
    write: (strokes) => board.write(strokes), // in place of the strokes, beside the digits
    get strokes() { return moved(board.now().strokes, Number); },
    get digits() { return digits().map(({ id, stamp, x, y }) => ({ id, name: stamp.name, x, y })); },
  };
}
