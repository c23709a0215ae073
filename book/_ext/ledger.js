// The ledger: eight columns at first and any on demand, rows sorted and filtered, and behind each row its runs.
// The page holds all of it without this script; here it is only shown and hidden.
"use strict";
(() => {
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const words = (text) => text.toLowerCase().replaceAll(/[\s-]+/g, " ").trim();

  // A cell as a number: its mean, of seeds how many they are, of times the seconds; null for a dash.
  function number(text, heading) {
    if (heading === "seeds") {
      const spans = [...text.matchAll(/(\d+)(?:-(\d+))?/g)];
      return spans.length ? spans.reduce((sum, [, a, b]) => sum + (b ? b - a : 0) + 1, 0) : null;
    }
    const found = text.replaceAll("−", "-").match(/^-?[\d.]+/);
    return found ? Number(found[0]) * (/\bmin$/.test(text) ? 60 : 1) : null;
  }

  class Table {
    constructor(section, table) {
      this.section = section;
      this.table = table;
      this.body = table.tBodies[0];
      this.heads = [...table.tHead.rows[0].cells];
      this.titles = this.heads.map((head) => head.textContent.trim());
      this.rows = [...this.body.rows];
      this.box = table.parentElement;
      this.addHeads();
      this.addTools();
      this.addRuns();
      this.show(this.heads.map((head) => head.classList.contains("lb-first")));
    }

    addHeads() {
      this.heads.forEach((head, column) => {
        head.scope = "col";
        const button = make("button", { type: "button", className: "lb-sort", textContent: this.titles[column] });
        button.addEventListener("click", () => this.sort(column));
        head.replaceChildren(button);
      });
    }

    addTools() {
      const name = this.section.querySelector("h2").firstChild.textContent.trim();
      this.field = make("input", { type: "search", autocomplete: "off", spellcheck: false, placeholder: "part of a name" });
      this.field.setAttribute("aria-label", `Filter the rows of ${name}`);
      this.field.addEventListener("input", () => this.filter());
      this.count = make("span", { className: "lb-count" });
      this.count.setAttribute("role", "status");
      this.boxes = this.titles.map((title, column) => {
        const box = make("input", { type: "checkbox", value: title, disabled: column === 0 });
        box.addEventListener("change", () => this.show(this.boxes.map((other) => other.checked)));
        return box;
      });
      const labels = this.boxes.map((box, column) => make("label", {}, box, this.titles[column]));
      const choose = (text, wanted) => {
        const button = make("button", { type: "button", textContent: text });
        button.addEventListener("click", () => this.show(this.heads.map(wanted)));
        return button;
      };
      this.summary = make("summary");
      const buttons = make("p", {}, choose("all", () => true), choose("the first eight", (head) => head.classList.contains("lb-first")));
      const picker = make("details", { className: "lb-columns" }, this.summary,
        make("fieldset", {}, make("legend", { textContent: `Columns of ${name}` }), buttons, make("div", {}, ...labels)));
      const tools = make("div", { className: "lb-tools" }, make("label", {}, "Rows ", this.field), this.count, picker);
      this.box.before(tools);
      this.filter();
    }

    // Each row's runs stand below it, folded; its name opens them.
    addRuns() {
      const list = this.section.querySelector(".lb-runs");
      const found = new Map([...(list?.querySelectorAll(".lb-run") ?? [])].map((run) => [run.dataset.row, run]));
      this.runs = new Map();
      for (const row of this.rows) {
        const run = found.get(row.id);
        if (!run) continue;
        run.querySelector("p").remove();
        const cell = make("td", {}, run);
        const below = make("tr", { className: "lb-below", id: `${row.id}-runs`, hidden: true }, cell);
        const name = row.cells[0];
        const button = make("button", { type: "button", className: "lb-open", textContent: name.textContent.trim() });
        button.setAttribute("aria-expanded", "false");
        button.setAttribute("aria-controls", below.id);
        button.addEventListener("click", () => this.open(row, below.hidden));
        name.replaceChildren(button);
        row.after(below);
        this.runs.set(row, below);
      }
      list?.remove();
    }

    open(row, wanted) {
      const below = this.runs.get(row);
      if (!below) return;
      below.hidden = !wanted;
      row.querySelector(".lb-open").setAttribute("aria-expanded", String(wanted));
    }

    show(wanted) {
      wanted[0] = true;
      wanted.forEach((shown, column) => {
        this.boxes[column].checked = shown;
        for (const row of [this.table.tHead.rows[0], ...this.rows]) row.cells[column].hidden = !shown;
      });
      const shown = wanted.filter(Boolean).length;
      this.summary.textContent = `Columns: ${shown} of ${wanted.length}`;
      for (const below of this.runs.values()) below.cells[0].colSpan = shown;
    }

    filter() {
      const asked = words(this.field.value).split(" ");
      let shown = 0;
      for (const row of this.rows) {
        const fits = asked.every((word) => words(row.cells[0].textContent).includes(word));
        row.hidden = !fits;
        this.runs?.get(row)?.classList.toggle("lb-gone", !fits);
        shown += fits;
      }
      this.count.textContent = shown === this.rows.length ? `${shown} rows` : `${shown} of ${this.rows.length} rows`;
    }

    // Numbers from the largest down first, names from A; once more turns it round, a third time restores the order.
    sort(column) {
      const first = column ? "descending" : "ascending", second = column ? "ascending" : "descending";
      const before = this.heads[column].getAttribute("aria-sort");
      const order = before === first ? second : before === second ? null : first;
      this.heads.forEach((head) => head.removeAttribute("aria-sort"));
      if (order) this.heads[column].setAttribute("aria-sort", order);
      this.table.classList.toggle("lb-sorted", Boolean(order));
      const sign = order === "descending" ? -1 : 1;
      const keys = new Map(this.rows.map((row) => {
        const text = row.cells[column].textContent.trim();
        return [row, column ? number(text, this.titles[column]) : words(text)];
      }));
      const rows = order ? [...this.rows].sort((a, b) => {
        const [x, y] = [keys.get(a), keys.get(b)];
        if (x === null || y === null) return (x === null) - (y === null); // what has no value stands last either way
        return sign * (column ? x - y : x.localeCompare(y, "en", { numeric: true }));
      }) : this.rows;
      this.body.append(...rows.flatMap((row) => [row, ...(this.runs.has(row) ? [this.runs.get(row)] : [])]));
    }
  }

  const tables = [...document.querySelectorAll("section.lb-ledger")]
    .map((section) => [section, section.querySelector("table")])
    .filter(([, table]) => table?.tHead)
    .map(([section, table]) => new Table(section, table));

  // A link to a row opens what stands behind it.
  function follow() {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const home = tables.find((table) => table.rows.includes(row));
    if (!home) return;
    if (row.hidden) {
      home.field.value = "";
      home.filter();
    }
    home.open(row, true);
    row.scrollIntoView();
  }
  addEventListener("hashchange", follow);
  addEventListener("load", follow);
})();
