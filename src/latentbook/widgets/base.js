// Shared by every interactive figure. This text is put in front of a figure's own module, in the notebook and in the
// built page alike, so it neither imports nor exports.

// Element builder: h("button", { class: "x", onclick: f, "aria-label": "..." }, "text", child, ...)
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// The same for the elements of a drawing: svg("circle", { cx: 5, cy: 5, r: 3 })
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A new id for this page, so that labels find their inputs when a figure stands twice.
function newId(prefix) {
  globalThis.latentbookIds = (globalThis.latentbookIds ?? 0) + 1;
  return `${prefix}-${globalThis.latentbookIds}`;
}

// What a figure says of a judge's ten probabilities, of a digit, of a share.
const best = (chances) => chances.indexOf(Math.max(...chances));
const aDigit = (digit) => (Number(digit) === 8 ? `an ${digit}` : `a ${digit}`);
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

// Grey values 0 to 1 on a canvas of their own size, light ink on black as `sprites` has it; ImageData rounds.
function paintGrey(canvas, values) {
  const side = Math.sqrt(values.length), image = new ImageData(side, side);
  if (canvas.width !== side) [canvas.width, canvas.height] = [side, side];
  values.forEach((value, k) => image.data.set([255 * value, 255 * value, 255 * value, 255], 4 * k));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// mulberry32: a small seeded generator of unsigned 32-bit integers, mirrored in Python (latentbook.widgets.mixing).
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

// An integer in 0..below-1, exact in floating point for below < 2^21.
function integerBelow(next, below) {
  return Math.floor((next() * below) / 4294967296);
}

// Set a trait and send it to the kernel, if there is one.
function assign(model, values) {
  for (const [key, value] of Object.entries(values)) model.set(key, value);
  model.save_changes();
}

// Call `draw` now and whenever one of the traits changes; returns what stops it.
function follow(model, names, draw) {
  for (const name of names) model.on("change:" + name, draw);
  draw();
  return () => { for (const name of names) model.off("change:" + name, draw); };
}

// A labelled slider bound to a trait. `say` turns the value into the words beside it.
function slider(model, name, { label, min, max, step = 1, say = String }) {
  const id = newId("lb-" + name);
  const input = h("input", { type: "range", id, min, max, step, "data-trait": name });
  const output = h("output", { for: id });
  input.addEventListener("input", () => assign(model, { [name]: Number(input.value) }));
  const show = () => {
    input.value = model.get(name);
    output.textContent = say(model.get(name));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  const element = h("div", { class: "lb-control lb-slider" }, h("label", { for: id }, label), input, output);
  return { element, show };
}

// A choice between named values of a trait: [[value, words], ...]. Native radio buttons, so arrow keys work.
function choice(model, name, { label, options }) {
  const group = newId("lb-" + name);
  const inputs = options.map(([value]) => h("input", { type: "radio", name: group, value, "data-trait": name }));
  inputs.forEach((input) => input.addEventListener("change", () => assign(model, { [name]: input.value })));
  const show = () => inputs.forEach((input) => { input.checked = input.value === model.get(name); });
  const element = h(
    "div",
    { class: "lb-control lb-choice", role: "radiogroup", "aria-label": label },
    h("span", { "aria-hidden": "true" }, label),
    ...options.map(([, words], i) => h("label", {}, inputs[i], h("span", {}, words))),
  );
  return { element, show };
}

// Follow one pointer (mouse, pen or finger) over an element. `at(event, phase)` gets phase "start", "move" or "end";
// returning false from "start" lets the gesture go. A mouse also hovers: phase "hover", and "leave" when it goes.
function track(element, at) {
  let held = null;
  const on = (type, handler) => element.addEventListener(type, handler);
  on("pointerdown", (event) => {
    if (held !== null || at(event, "start") === false) return;
    held = event.pointerId;
    element.setPointerCapture(event.pointerId);
  });
  on("pointermove", (event) => {
    if (held === event.pointerId) at(event, "move");
    else if (event.pointerType === "mouse" && held === null) at(event, "hover");
  });
  for (const type of ["pointerup", "pointercancel"]) on(type, (event) => {
    if (held !== event.pointerId) return;
    held = null;
    at(event, "end");
  });
  on("pointerleave", (event) => { if (held === null && event.pointerType === "mouse") at(event, "leave"); });
}

// The pictures of a sheet (latentbook.widgets.sprites: traits `sheet` and `packing`). Resolves to lay(canvas, columns,
// numbers), which draws pictures in rows of `columns`, each with a margin of one pixel: grey 0 to 255, light ink on
// black; base.css turns it into dark ink where the page is light.
async function sprites(model) {
  const { places, across, height, width } = model.get("packing");
  const sheet = new Image();
  sheet.src = model.get("sheet");
  await sheet.decode();
  return (canvas, columns, numbers) => {
    const paper = canvas.getContext("2d");
    canvas.width = columns * (width + 2);
    canvas.height = Math.ceil(numbers.length / columns) * (height + 2);
    numbers.forEach((number, i) => {
      const place = places[number], column = i % columns, row = Math.floor(i / columns);
      paper.drawImage(sheet, (place % across) * width, Math.floor(place / across) * height, width, height,
        column * (width + 2) + 1, row * (height + 2) + 1, width, height);
    });
  };
}

// A canvas for rows * columns pictures of a sheet, of its final size from the start, so that nothing moves when they come.
function picture(model, columns, rows = 1) {
  const { height, width } = model.get("packing");
  return h("canvas", { class: "lb-picture", role: "img", width: columns * (width + 2), height: rows * (height + 2) });
}

// Bytes of a trait: a DataView from a kernel, base64 in a page.
function bytes(value) {
  if (value instanceof DataView) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (typeof value === "string") return Uint8Array.from(atob(value), (c) => c.charCodeAt(0));
  return Uint8Array.from(value ?? []);
}

// A trait that Python has deflated, as an ArrayBuffer. In a page a large one comes after the figure, as a promise.
async function inflate(packed) {
  const stream = new Blob([bytes(await packed)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// MANNERS of every figure: telling states to set, a question before the answer, the way back, and a link to what is shown.

const below = (n) => (value) => Number.isInteger(value) && value >= 0 && value < n;

// state: the traits that make up what is shown, each with what it accepts, since links are typed by others:
// { label: (value, the whole state) => boolean }; tries: telling states [[words, { trait: value }], ...], or functions that
// give them; complete: the state that is meant where only some traits are named; onRequest: traits that stand in the address
// only once a link is asked for; question: as `wager` takes it. The figure puts `ask` (null without a question) before what it shows and `row` behind it, calls `press` where the states to try have
// changed, `close` where the question has been overtaken, and `stop` at its end.
function manners(model, { state, tries = [], complete = (wanted) => wanted, onRequest = [], question = null }) {
  const names = Object.keys(state), same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  const now = () => Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const start = now(), meant = (wanted) => complete(typeof wanted === "function" ? wanted() : wanted);
  const ask = question && wager(question, () => assign(model, start));
  const tool = (words, act) => h("button", { type: "button", class: "lb-button", onclick: act }, words);
  const buttons = tries.map(([words, wanted]) => tool(words, () => { ask?.unveil(); assign(model, meant(wanted)); }));
  const said = h("span", { class: "lb-said", role: "status" });
  const linking = tool("link to this", () => {
    write(true);
    const copied = navigator.clipboard?.writeText(location.href) ?? Promise.reject(new Error("no clipboard"));
    copied.then(() => "Copied.", () => "The address bar has it.").then((words) => { said.textContent = words; });
  });
  const row = h("div", { class: "lb-tries", role: "group", "aria-label": "states of this figure" },
    ...(buttons.length ? [h("span", { "aria-hidden": "true" }, "try"), ...buttons] : []),
    tool("start again", () => assign(model, start)), ...(model.place ? [linking, said] : []));

  // The address tells what differs from the start, a moment after the hand has stopped.
  let late = 0;
  const short = (_, value) => (typeof value === "number" ? Number(value.toFixed(5)) : value);
  function write(asked = false) {
    clearTimeout(late);
    if (!row.isConnected) return;
    const changed = Object.entries(now()).filter(([name, value]) => !same(value, start[name]) && (asked || !onRequest.includes(name)));
    const told = changed.map(([name, value]) => `${name}=${encodeURIComponent(JSON.stringify(value, short))}`).join("&");
    if (told || location.hash.startsWith(`#${model.place}~`)) {
      history.replaceState(history.state, "", told ? `#${model.place}~${told}` : `#${model.place}`);
    }
  }
  // What an address asks for, as far as the figure can show it.
  function adopt() {
    const wanted = {};
    for (const name of names) {
      const value = model.asked?.[name];
      if (value !== undefined && state[name](value, { ...start, ...complete(wanted) })) wanted[name] = value;
    }
    if (!Object.keys(wanted).length) return;
    ask?.unveil();
    assign(model, { ...start, ...complete(wanted) });
  }
  const changes = () => { // who plays first finds nothing veiled
    if (!same(now(), start)) ask?.unveil();
    said.textContent = "";
    clearTimeout(late);
    if (model.place) late = setTimeout(() => write(), 400);
  };
  const press = () => tries.forEach(([, wanted], k) => {
    buttons[k].setAttribute("aria-pressed", Object.entries(meant(wanted)).every(([name, value]) => same(model.get(name), value)));
  });
  adopt();
  const stops = [follow(model, names, press), () => { for (const name of names) model.off("change:" + name, changes); }];
  for (const name of names) model.on("change:" + name, changes);
  if (model.place) model.on("asked", adopt);
  return { ask: ask?.element ?? null, row, press, close: () => ask?.close(), stop: () => { clearTimeout(late); for (const stop of stops) stop(); } };
}

// A question that is answered before something is shown. words: the question; options: what can be said; right: the number of
// the option that holds; answer: what is said then (both may be functions); veiled: elements that are not seen until then;
// then: what a bet sets off, once `restart` has brought back the state that the question is about.
function wager({ words, options, right, answer, then = () => {}, veiled = [] }, restart) {
  const id = newId("lb-question"), reply = h("p", { class: "lb-answer", tabindex: -1 });
  const given = (value) => (typeof value === "function" ? value() : value);
  const bets = h("div", { class: "lb-bets" },
    ...options.map((option, k) => h("button", { type: "button", class: "lb-bet", onclick: () => reveal(k) }, option)),
    h("button", { type: "button", class: "lb-button", onclick: () => reveal(null) }, "just show me"));
  const element = h("div", { class: "lb-question", role: "group", "aria-labelledby": id },
    h("p", { id }, words), h("div", { class: "lb-replies" }, bets, reply));
  const veil = (on) => veiled.forEach((each) => { each.classList.toggle("lb-veiled", on); each.inert = on; });
  const unveil = () => veil(false);
  const close = () => { // the reader has gone on: what was asked about is no longer there
    unveil();
    element.classList.add("lb-closed");
    bets.inert = true;
  };
  function reveal(said) {
    unveil();
    if (said !== null) restart();
    reply.textContent = (said === null ? "" : said === given(right) ? "Yes. " : "No. ") + given(answer);
    element.dataset.answered = said === null ? "skipped" : said === given(right) ? "right" : "wrong";
    bets.inert = true;
    reply.focus({ preventScroll: true }); // its button is gone
    if (said !== null) then();
  }
  veil(true);
  return { element, unveil, close };
}

// Call `move` at every frame while the element is on the screen and `goes()` says so; `wake()` looks again. Where less motion
// is wanted nothing moves by itself.
function whileSeen(element, goes, move) {
  let seen = false, frame = 0;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const step = (time) => {
    frame = 0;
    if (goes()) move(time);
    wake();
  };
  const wake = () => {
    const moves = seen && !calm.matches && goes();
    if (moves && !frame) frame = requestAnimationFrame(step);
    if (moves) return;
    cancelAnimationFrame(frame);
    frame = 0;
  };
  const watch = new IntersectionObserver(([entry]) => { seen = entry.isIntersecting; wake(); });
  watch.observe(element);
  return { wake, stop: () => { watch.disconnect(); cancelAnimationFrame(frame); } };
}
