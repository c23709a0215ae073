// The plane of two numbers of a code, for figures that put it in front of their own module, after base.js.

const PLANE = 3.5; // it reaches from -PLANE to PLANE
const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#B0528B", "#7d63c4", "#A87B00", "#2A9AC9", "#C0392B", "#6B8E23", "#777777"];
const onPlane = (value, most = PLANE) => Math.max(-most, Math.min(most, value));
const isOnPlane = (point, most = PLANE) => Array.isArray(point) && point.length === 2
  && point.every((value) => typeof value === "number" && Math.abs(value) <= most);

// The plane of codes: figures of their class over the prior's circles, and the point that can be moved. point: where it is;
// move: takes where it goes, at most `most` from the axes; names: what the two numbers are called.
function planeOf(labels, { point, move, most = PLANE, names = ["unit 1", "unit 2"] }) {
  const neat = (value) => Number(onPlane(value, most).toFixed(2));
  const canvas = h("canvas", { role: "img" });
  const grab = h("div", { class: "lb-grab", tabindex: 0, role: "slider", "aria-valuemin": -most, "aria-valuemax": most });
  const ring = (radius) => svg("circle", { cx: 0, cy: 0, r: radius });
  const circles = svg("svg", { viewBox: `${-PLANE} ${-PLANE} ${2 * PLANE} ${2 * PLANE}`, "aria-hidden": "true" },
    svg("path", { d: `M${-PLANE} 0H${PLANE}M0 ${-PLANE}V${PLANE}` }), ring(1), ring(2));
  const notes = [1, 2].map((radius) =>
    h("span", { class: "lb-ring", style: `--at:${radius / PLANE}`, "aria-hidden": "true" }, `${radius} sd`));
  const element = h("div", { class: "lb-plane" }, circles, canvas, ...notes, grab);
  const paper = canvas.getContext("2d");
  let figures = [], size = 0;

  function measure() {
    const ratio = Math.min(2, devicePixelRatio || 1), wide = Math.round(element.clientWidth * ratio);
    if (!wide || wide === size) return false;
    canvas.width = canvas.height = size = wide;
    const high = Math.round(9.5 * ratio);
    figures = PALETTE.map((colour, digit) => {
      const glyph = document.createElement("canvas"), ink = glyph.getContext("2d");
      glyph.width = glyph.height = high + 2;
      Object.assign(ink, { fillStyle: colour, font: `600 ${high}px system-ui, sans-serif` });
      Object.assign(ink, { textAlign: "center", textBaseline: "middle" });
      ink.fillText(String(digit), glyph.width / 2, glyph.height / 2 + 1);
      return glyph;
    });
    return true;
  }
  // Codes between two looks: `share` of the way.
  function draw(before, after, share) {
    measure();
    if (!size) return;
    paper.clearRect(0, 0, size, size);
    const half = figures[0].width / 2, unit = size / 2 / PLANE, way = (k) => before[k] + share * (after[k] - before[k]);
    for (let k = 0; k < labels.length; k++) {
      const x = (onPlane(way(2 * k)) + PLANE) * unit, y = (PLANE - onPlane(way(2 * k + 1))) * unit;
      paper.drawImage(figures[labels[k]], Math.round(x - half), Math.round(y - half));
    }
  }
  function mark() {
    const [x, y] = point();
    Object.assign(grab.style, { left: `${(50 * (x + PLANE)) / PLANE}%`, top: `${(50 * (PLANE - y)) / PLANE}%` });
    grab.setAttribute("aria-valuenow", x.toFixed(1));
    grab.setAttribute("aria-valuetext", `${names[0]} at ${x.toFixed(1)}, ${names[1]} at ${y.toFixed(1)}`);
    grab.setAttribute("aria-label", "the code to decode; arrow keys move it");
  }
  const carry = ({ clientX, clientY }) => {
    const { left, top, width } = element.getBoundingClientRect();
    move([((clientX - left) / width) * 2 - 1, 1 - ((clientY - top) / width) * 2].map((part) => neat(part * PLANE)));
  };
  track(element, (event, phase) => {
    if (phase === "start" && (event.button > 0 || (event.pointerType === "touch" && event.target !== grab))) return false;
    if (phase === "start" || phase === "move") carry(event);
    return undefined;
  });
  element.addEventListener("click", carry); // a tap; a finger that scrolls the page makes no click
  grab.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    move(point().map((value, k) => neat(value + way[k] * (event.shiftKey ? 0.5 : 0.1))));
  });
  return { element, canvas, draw, mark };
}
