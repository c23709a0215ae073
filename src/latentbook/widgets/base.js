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

// A trait that Python has deflated, as an ArrayBuffer.
function inflate(packed) {
  const stream = new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
