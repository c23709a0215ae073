// The search page: results are sections, found in window.latentbookSections = [[page, title, [[anchor, title, prose, code]]]].
(() => {
  "use strict";
  const SHOWN = 60, BEFORE = 90, AFTER = 170; // results; characters of a summary around the first word found
  let stemmer = null; // of language_data.js, which may come later than this script
  const plain = (text) => text.toLowerCase();

  // What must stand in a section: each word in its stem, so that "training" finds "trained".
  function stems(query) {
    stemmer ??= new Stemmer();
    const words = plain(query).split(/[^\p{Letter}\p{Number}_]+/u).filter(Boolean);
    const asked = words.filter((word) => !stopwords.includes(word));
    return (asked.length ? asked : words).map((word) => {
      const stem = stemmer.stemWord(word);
      return word.startsWith(stem) ? stem : word;
    });
  }

  function count(text, word) {
    let found = 0;
    for (let at = text.indexOf(word); at >= 0 && found < 20; at = text.indexOf(word, at + word.length)) found += 1;
    return found;
  }

  // The score of a section: words of its title first, then how often each word stands in its prose and its code; 0 if one is missing.
  function score(title, prose, code, words, phrase) {
    let sum = 0;
    for (const word of words) {
      const here = 20 * count(title, word) + 2 * Math.sqrt(count(prose, word)) + Math.sqrt(count(code, word)) / 2;
      if (!here) return 0;
      sum += here;
    }
    return sum + (words.length > 1 && (title.includes(phrase) || prose.includes(phrase)) ? 15 : 0);
  }

  function find(query, pages = window.latentbookSections) {
    const words = stems(query), phrase = plain(query).trim(), found = [];
    if (!words.length) return [];
    for (const [page, name, sections] of pages) {
      for (const [anchor, title, prose, code] of sections) {
        const value = score(plain(title), plain(prose), plain(code), words, phrase);
        if (value) found.push({ page, name, anchor, title, text: words.some((w) => plain(prose).includes(w)) || !code ? prose : code, value });
      }
    }
    return found.sort((a, b) => b.value - a.value);
  }

  // The words around the first that was found, the found ones marked.
  function summary(text, words) {
    const low = plain(text);
    const first = Math.min(...words.map((word) => low.indexOf(word)).filter((at) => at >= 0), text.length);
    let start = first === text.length ? 0 : Math.max(0, first - BEFORE);
    if (start) start = text.indexOf(" ", start) + 1 || start;
    let end = Math.min(text.length, start + BEFORE + AFTER);
    if (end < text.length) end = Math.max(text.lastIndexOf(" ", end), start + 1);
    const p = document.createElement("p");
    p.className = "context";
    const piece = text.slice(start, end), marks = new RegExp(words.map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "giu");
    let done = 0;
    p.append(start ? "… " : "");
    for (const match of piece.matchAll(marks)) {
      const mark = document.createElement("mark");
      mark.textContent = match[0];
      p.append(piece.slice(done, match.index), mark);
      done = match.index + match[0].length;
    }
    p.append(piece.slice(done), end < text.length ? " …" : "");
    return p;
  }

  function show(query, box) {
    const found = find(query), words = stems(query);
    const heading = document.createElement("h2"), status = document.createElement("p"), list = document.createElement("ul");
    heading.textContent = "Search results";
    status.className = "search-summary";
    status.setAttribute("role", "status");
    status.textContent = found.length ? `${found.length} section${found.length > 1 ? "s" : ""} found.` : "No section has all of these words.";
    list.className = "search";
    for (const { page, name, anchor, title, text } of found.slice(0, SHOWN)) {
      const item = document.createElement("li"), link = document.createElement("a");
      link.href = `${document.documentElement.dataset.content_root ?? "./"}${page}.html#${anchor}`;
      link.textContent = title && title !== name ? `${name} › ${title}` : name;
      item.append(link);
      if (text) item.append(summary(text, words));
      list.append(item);
    }
    box.replaceChildren(heading, status, list);
  }

  // In the place of Sphinx's own search, which lands on the tops of pages.
  window.latentbookSearch = { find, stems };
  const start = () => {
    const box = document.getElementById("search-results"), query = new URLSearchParams(location.search).get("q");
    for (const input of document.querySelectorAll('input[name="q"]')) input.value = query ?? "";
    if (box && query) show(query, box);
  };
  if (document.readyState === "complete") start();
  else addEventListener("load", start);
})();
