// Starts the interactive figures of a built page, each <div class="lb-static" data-name>, when they come near, and sets
// the page's formulas once its text stands. A figure's state is in its data-state, or in a script that data-from names:
// it registers what it brings, for a page that is opened from the folder may not fetch anything else.
// A figure's module gets a model with the get/set/on/off/save_changes of a notebook's widget, without a kernel. What comes
// after the figure (data-later: a network's weights) is a promise in the model until it is there.
class Model {
  constructor(state, place = null, asked = {}) {
    Object.assign(this, { state, place, asked }); // place: the figure's name in an address; asked: what the address wants of it
    this.handlers = new Map();
  }
  get(key) { return this.state[key]; }
  set(key, value) {
    if (this.state[key] === value) return;
    this.state[key] = value;
    for (const name of ["change:" + key, "change"]) for (const handler of [...(this.handlers.get(name) ?? [])]) handler();
  }
  ask(asked) { // the address has changed
    this.asked = asked;
    for (const handler of this.handlers.get("asked") ?? []) handler();
  }
  on(name, handler) { this.handlers.set(name, [...(this.handlers.get(name) ?? []), handler]); }
  off(name, handler) {
    this.handlers.set(name, (this.handlers.get(name) ?? []).filter((other) => handler && other !== handler));
  }
  save_changes() {}
  send() {}
}

// The next frame, or a quarter of a second: a page that is not seen draws none, and a busy browser none for long.
const frame = () => new Promise((resolve) => {
  setTimeout(() => requestAnimationFrame(resolve));
  setTimeout(resolve, document.hidden ? 0 : 250);
});

const states = (window.latentbookStates ??= {}), scripts = new Map();

// Load a script once.
function load(address) {
  if (!scripts.has(address)) scripts.set(address, new Promise((resolve, reject) => {
    const script = document.createElement("script");
    Object.assign(script, { src: address, fetchPriority: "high", onload: resolve, onerror: () => {
      scripts.delete(address); // to be tried again
      reject(new Error(`${address} does not load`));
    } });
    document.head.append(script);
  }));
  return scripts.get(address);
}

// What a state's script registers, by the script's name.
async function registered(address) {
  await load(address);
  return structuredClone(states[/([^/]+)\.js$/.exec(address)[1]]);
}

// A line over a figure that says what it waits for. Nothing moves when it comes or goes.
function note(div, words) {
  const line = document.createElement("p"), text = document.createElement("span");
  line.className = "lb-loading";
  line.setAttribute("role", "status");
  text.textContent = words;
  line.append(text);
  div.setAttribute("aria-busy", "true");
  div.append(line);
  return () => { line.remove(); div.removeAttribute("aria-busy"); };
}

// The rest of a state: every value a promise until it has come, and then itself. It is fetched once the figure stands.
function promised(div, state) {
  const parts = (div.dataset.later ?? "").split(" ").filter(Boolean).map((part) => part.split("="));
  if (!parts.length) return;
  const waits = parts.map(async ([key, address]) => {
    const value = await (state[key] = frame().then(() => registered(address)));
    state[key] = value;
  });
  const size = Number(div.dataset.size), words = size < 100 ? `${size} kB` : `${(size / 1000).toFixed(1)} MB`;
  const what = parts.every(([key]) => key === "digits") ? `digits: ${words}, the model trains here` : `model: ${words}, it runs here`;
  const done = note(div, `Loading the ${what} \u2026`);
  Promise.all(waits).then(done, (error) => {
    console.error("interactive figure", div.dataset.name, error);
    done();
    note(div, "The model of this figure could not be loaded.");
    div.removeAttribute("aria-busy");
  });
}

// The still picture inside the div gives way to the figure, and stays there unseen, for paper; if anything fails, it stays.
function mount(div, state = JSON.parse(div.dataset.state)) {
  const name = div.dataset.name;
  try {
    if (!widgets[name]) throw new Error(`no figure of this name; there are: ${Object.keys(widgets).join(", ")}`);
    promised(div, state);
    const place = placeOf(div), before = { ...state };
    const draw = (asked) => {
      const el = document.createElement("div"), model = new Model(Object.assign(state, before), place, asked);
      widgets[name].render({ model, el });
      return { el, model };
    };
    const { el, model } = linked?.place === place ? either(() => draw(linked.values), () => draw({})) : draw({});
    const live = document.createElement("div");
    live.className = "lb-live";
    live.append(el);
    for (const still of div.children) if (!still.matches(".lb-loading")) still.hidden = true;
    div.prepend(live);
    div.latentbook = { model };
    div.dataset.live = "true";
    div.style.height = "";
  } catch (error) {
    fail(div, error);
  }
}

// What a link asks for may be more than a figure can show.
function either(first, second) {
  try { return first(); } catch { return second(); }
}

// Without its figure, the still picture is shown.
function fail(div, error) {
  div.dataset.failed = "true";
  console.error("interactive figure", div.dataset.name, error);
}

// A figure's name in an address: that of its number, or else its own.
const placeOf = (div) => div.closest("figure[id]")?.id || div.id || div.dataset.name;

// What an address wants of a figure: "#figure-2-3~label=7&source=1", values as JSON. What cannot be read is left out.
function readLink(hash) {
  const found = /^#([^~]+)~(.*)$/.exec(hash);
  if (!found) return null;
  const values = {};
  for (const part of found[2].split("&")) {
    const [name, text] = part.split("=");
    try { values[name] = JSON.parse(decodeURIComponent(text)); } catch { /* a link cut short by a mail program */ }
  }
  return { place: found[1], values };
}
let linked = readLink(location.hash);

// Show the figure that the address names, in the state it tells: at first, and when a link on the page is followed.
function visit() {
  const div = linked && [...document.querySelectorAll("div.lb-static")].find((each) => placeOf(each) === linked.place);
  if (!div) return;
  div.scrollIntoView({ block: div.offsetHeight > innerHeight ? "start" : "center" });
  if (div.latentbook) div.latentbook.model.ask(linked.values);
  else start(div);
}

const starting = new WeakMap(), pending = new Set();

// Start a figure once its state is there; a promise that ends when it stands or cannot.
function start(div) {
  if (!starting.has(div)) {
    const begun = begin(div).finally(() => pending.delete(begun));
    pending.add(begun);
    starting.set(div, begun);
  }
  return starting.get(div);
}

async function begin(div) {
  if (!div.dataset.from) return mount(div);
  const done = note(div, "Loading the figure \u2026");
  try {
    const state = await registered(div.dataset.from);
    done();
    mount(div, state);
  } catch (error) {
    done();
    starting.delete(div); // it is tried again when it comes near once more
    fail(div, error);
  }
}

// Figures start a screen before they are seen.
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) start(target);
}, { rootMargin: "100% 0px" });

// Formulas are set once the figures stand that are near from the start: the observer sees them in the second frame at last.
async function formulas() {
  const address = document.documentElement.dataset.formulas;
  if (!address) return;
  await frame().then(frame);
  while (pending.size) await Promise.all(pending);
  try {
    await load(address);
    await window.MathJax.startup.promise;
  } finally {
    delete document.documentElement.dataset.formulas; // the room that was kept for them
  }
}

// Everything that a reader would meet on the way down, now: for paper, and for tests.
async function whole() {
  const images = [...document.querySelectorAll("img[loading=lazy]")];
  for (const image of images) image.loading = "eager";
  await Promise.all([ready, ...images.map((image) => image.decode().catch(() => {}))]);
}

// Those in sight start at once: the observer's first word comes only after the theme's scripts.
function watch() {
  const figures = [...document.querySelectorAll("div.lb-static")];
  const places = figures.map((div) => div.getBoundingClientRect());
  figures.forEach((div, k) => {
    near.observe(div);
    if (places[k].bottom > 0 && places[k].top < innerHeight) start(div);
  });
  visit();
  addEventListener("hashchange", () => {
    linked = readLink(location.hash);
    visit();
  });
  const kept = document.querySelectorAll("div.lb-static[data-fine]");
  addEventListener("resize", () => kept.forEach((div) => window.latentbookReserve(div)));
  addEventListener("beforeprint", whole);
}

// The script is deferred: it runs when the whole page has been read, but before the last of that kind.
watch();
const ready = new Promise((resolve) => {
  if (document.readyState === "complete") resolve();
  else document.addEventListener("DOMContentLoaded", resolve);
}).then(formulas);
window.latentbook = { widgets, Model, mount, start, ready, whole };
