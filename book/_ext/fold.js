// The switch at a chapter's head: all folded code opens, or folds again. It holds for this visit: sessionStorage, where there is any.
(() => {
  "use strict";
  const KEY = "latentbook-show-code";
  const remembered = () => { try { return sessionStorage.getItem(KEY) === "yes"; } catch { return false; } };
  const remember = (shown) => { try { sessionStorage.setItem(KEY, shown ? "yes" : "no"); } catch { /* opened from a folder */ } };

  function start() {
    const button = document.querySelector("button.lb-show-code");
    if (!button) return;
    const folds = [...document.querySelectorAll("details.lb-fold.lb-code")];
    const words = button.textContent;
    const show = (shown) => {
      for (const fold of folds) fold.open = shown;
      button.textContent = shown ? "Hide code again" : words;
      button.dataset.shown = String(shown);
    };
    button.hidden = !folds.length;
    button.addEventListener("click", () => {
      const shown = button.dataset.shown !== "true";
      show(shown);
      remember(shown);
    });
    if (remembered()) show(true);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
