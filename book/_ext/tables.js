// A table that is wider than its box: the box takes the focus, has a name, and its edges fade where the table goes on.
"use strict";
(() => {
  const boxes = document.querySelectorAll("article .pst-scrollable-table-container, article .lb-scroll");

  // What the table is about: its caption, or the heading that it stands under.
  function subject(box) {
    const caption = box.querySelector("caption");
    if (caption) return caption.textContent.trim();
    const heading = box.closest("section")?.querySelector("h1, h2, h3, h4");
    return [...(heading?.childNodes ?? [])].filter((n) => !n.classList?.contains("headerlink")).map((n) => n.textContent).join("").trim();
  }

  function edges(box) {
    const hidden = box.scrollWidth - box.clientWidth, at = Math.abs(box.scrollLeft);
    box.classList.toggle("lb-more-left", hidden > 1 && at > 1);
    box.classList.toggle("lb-more-right", hidden > 1 && at < hidden - 1);
    return hidden > 1;
  }

  function look(box) {
    if (edges(box)) {
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", `Table, scrolls sideways: ${subject(box)}`);
    } else for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
  }

  const sizes = new ResizeObserver((entries) => new Set(entries.map((e) => e.target.closest(".pst-scrollable-table-container, .lb-scroll"))).forEach(look));
  for (const box of boxes) {
    box.addEventListener("scroll", () => edges(box), { passive: true });
    sizes.observe(box);
    if (box.firstElementChild) sizes.observe(box.firstElementChild);
  }
})();
