// Starts the interactive figures of a built page: each <div class="lb-static" data-name data-state>.
// A figure's module gets a model with the get/set/on/off/save_changes of a notebook's widget, without a kernel.
class Model {
  constructor(state) {
    this.state = state;
    this.handlers = new Map();
  }
  get(key) { return this.state[key]; }
  set(key, value) {
    if (this.state[key] === value) return;
    this.state[key] = value;
    for (const name of ["change:" + key, "change"]) for (const handler of [...(this.handlers.get(name) ?? [])]) handler();
  }
  on(name, handler) { this.handlers.set(name, [...(this.handlers.get(name) ?? []), handler]); }
  off(name, handler) {
    this.handlers.set(name, (this.handlers.get(name) ?? []).filter((other) => handler && other !== handler));
  }
  save_changes() {}
  send() {}
}

// The still picture inside the div gives way to the figure; if anything fails, it stays.
function mount(div) {
  const name = div.dataset.name;
  try {
    if (!widgets[name]) throw new Error(`no figure of this name; there are: ${Object.keys(widgets).join(", ")}`);
    const model = new Model(JSON.parse(div.dataset.state));
    const el = document.createElement("div");
    widgets[name].render({ model, el });
    div.replaceChildren(el);
    div.latentbook = { model };
    div.dataset.live = "true";
  } catch (error) {
    console.error("interactive figure", name, error);
  }
}

window.latentbook = { widgets, Model, mount };
const start = () => document.querySelectorAll("div.lb-static:not([data-live])").forEach(mount);
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
