"""How fast the page's engine is on this machine: training steps a second, and milliseconds a model takes for an example."""

from __future__ import annotations

import base64
from typing import Any

from latentbook.authoring.site import started
from latentbook.widgets.base import compose
from latentbook.widgets.export import SHIPPED, sent_bytes, shipped_model

TIMED = {  # what is asked of a shipped model
    "judge": "model.judge(pixels(784))",
    "primer-kl-weight-1": "model.decode(model.encode(pixels(784)).mean)",
    "mix-and-match-best": "model.decode(model.prior(pixels(284)).mean, pixels(284), mask)",
    "conditional-vae-fixed": "model.decode(model.encode(pixels(784), 3).mean, 3)",
    "multi-level-vae-unnamed": "model.decode(...Object.values(model.encode(pixels(784))).map(({ mean }) => mean))",
    "spatial-transformer-reader": "model.read(model.window(pixels(1600)))",
    "air-exact": "model.infer(pixels(2500))",
}
# Rounds of half a second each; the median of five.
CLOCK = """
function median(once) {
  const rates = [];
  for (let round = 0; round < 6; round++) {
    const start = performance.now();
    let count = 0;
    for (; performance.now() - start < 500; count++) once();
    rates.push(count / (performance.now() - start));
  }
  return rates.slice(1).sort((a, b) => a - b)[2];
}
const pixels = (n) => Float64Array.from({ length: n }, (_, k) => (k % 7) / 7);
const mask = Array.from({ length: 128 }, (_, k) => k % 2);
"""
TRAIN = """() => {
  const images = Uint8Array.from({ length: 1000 * 196 }, (_, k) => (k * 7919) % 256);
  const trainer = new engine.VAETrainer({ images });
  return 1000 * median(() => trainer.step());
}"""
RUN = """async (packed) => {
  const model = engine.model(await inflate(packed));
  return 1 / median(() => CALL);
}"""


def bench() -> dict[str, Any]:
    """{"experiment": "engine", "steps_per_second", "models": {name: {"ms", "kilobytes"}}}, on one core of this machine.

    A step is one of Adam on 64 images of 196 pixels, for a VAE of 196-64-2-64-196. Raises ValueError where there is no browser.
    """
    with started() as browser:
        page = browser.new_page()
        page.add_script_tag(content=compose("engine", ".js", "sampling") + CLOCK)
        found: dict[str, Any] = {"experiment": "engine", "steps_per_second": page.evaluate(TRAIN), "models": {}}
        for name in SHIPPED:
            row = found["models"][name] = {"kilobytes": sent_bytes(shipped_model(name)) / 1000}
            if name in TIMED:
                packed = base64.b64encode(shipped_model(name)).decode()
                row["ms"] = page.evaluate(RUN.replace("CALL", TIMED[name]), packed)
    return found


def in_words(found: dict[str, Any]) -> str:
    """The measurements as a table."""
    rate = found["steps_per_second"]
    rows = [f"training a VAE of 196-64-2-64-196 in the page, on one core: {rate:.0f} steps of 64 images a second"]
    rows.append(f"{'':36}{'kB':>8}{'ms':>8}")
    for name, row in found["models"].items():
        ms = f"{row['ms']:.1f}" if "ms" in row else "–"
        rows.append(f"{name:36}{row['kilobytes']:>8.0f}{ms:>8}")
    return "\n".join(rows)
