// Gaussians of a class code seen in a plane, for figures that put this in front of their own module, after base.js.

const project = (plane, code) => plane.map((row) => row.reduce((all, along, d) => all + along * code[d], 0));

// Two standard deviations of a Gaussian seen in a plane, where its covariance is P diag(var) P^T: { x, y, a, b, angle }.
function ellipse(plane, { mean, logVar }) {
  const vars = Array.from(logVar, Math.exp);
  const [xx, xy, yy] = [[0, 0], [0, 1], [1, 1]].map(([i, j]) => vars.reduce((all, v, d) => all + plane[i][d] * plane[j][d] * v, 0));
  const middle = (xx + yy) / 2, reach = Math.hypot((xx - yy) / 2, xy), [x, y] = project(plane, mean);
  const [a, b] = [middle + reach, middle - reach].map((variance) => 2 * Math.sqrt(Math.max(0, variance)));
  return { x, y, a, b, angle: Math.atan2(2 * xy, xx - yy) / 2 };
}

// Two directions at right angles of the plane through a code and one or two centres: from the first centre to the second, and
// from that line to the code; `spare` has directions for what coincides.
function planeThrough(code, near, spare) {
  const found = [], less = (a, b) => Array.from(a, (value, d) => value - b[d]);
  const dot = (a, b) => a.reduce((all, value, d) => all + value * b[d], 0);
  for (const direction of [less(near[near.length - 1], near[0]), less(code, near[0]), ...spare]) {
    const rest = found.reduce((left, one) => { const along = dot(direction, one); return left.map((v, d) => v - along * one[d]); }, direction);
    const length = Math.hypot(...rest);
    if (length > 1e-9 * Math.max(1, Math.hypot(...direction)) && found.length < 2) found.push(rest.map((v) => v / length));
  }
  return found;
}
