// Shared by the figures with an attention window: bilinear sampling, rounded to 32 bits where PyTorch rounds on a CPU with
// fused multiply-add (a product and a sum in one f32), so that the two agree to the last bit there.
// A picture is { values: Float32Array, width, height }, its values between 0 and 1. `where` is [scale, shift_x, shift_y]
// as in latentbook.spatial_transformer: canvas to window coordinates.
const f32 = Math.fround;

// The map back, from window to canvas coordinates: again a scale and two shifts.
function invert([scale, x, y]) {
  const s = f32(scale);
  return [f32(1 / s), f32(-f32(x) / s), f32(-f32(y) / s)];
}

// Centres of `count` pixels between -1 and 1, as affine_grid has them with align_corners=False.
function centres(count) {
  const last = count - 1, step = f32(2 / last);
  return Float32Array.from({ length: count }, (_, i) => {
    const edge = i < count >> 1 ? f32(step * i - 1) : f32(1 - step * (last - i));
    return count === 1 ? 0 : f32(f32(edge * last) / count);
  });
}

// Where `count` output pixels read a picture of `size` pixels along one axis: at `places` (pixel 0 has its centre at
// 0), between the pixels `low` and low + 1, the share `part` of the way.
function axis(count, scale, shift, size) {
  const [s, t] = [f32(scale), f32(shift)];
  const places = centres(count).map((u) => f32((f32(f32(f32(u * s) + t) + 1) * size) / 2 - 0.5));
  const low = Int32Array.from(places, Math.floor);
  return { places, low, part: places.map((place, i) => place - low[i]) };
}

// The value of a picture at a pixel; nothing lies outside.
function valueAt({ values, width, height }, column, row) {
  return column < 0 || row < 0 || column >= width || row >= height ? 0 : values[row * width + column];
}

// grid_sample of a picture on a grid of width by height pixels that [scale, shift_x, shift_y] takes to the picture.
function sample(picture, [scale, x, y], width, height = width) {
  const across = axis(width, scale, x, picture.width), down = axis(height, scale, y, picture.height);
  const values = new Float32Array(width * height);
  for (let j = 0; j < height; j++) {
    const row = down.low[j], b = down.part[j], above = f32(1 - b);
    for (let i = 0; i < width; i++) {
      const column = across.low[i], a = across.part[i], left = f32(1 - a);
      let sum = f32(f32(left * above) * valueAt(picture, column, row));
      sum = f32(sum + f32(a * above) * valueAt(picture, column + 1, row));
      sum = f32(sum + f32(left * b) * valueAt(picture, column, row + 1));
      values[j * width + i] = sum + f32(a * b) * valueAt(picture, column + 1, row + 1);
    }
  }
  return { values, width, height };
}

// What a window sees, `size` pixels large, and a window pasted back on an empty canvas.
const cropAt = (picture, where, size) => sample(picture, invert(where), size);
const pasteAt = (window, where, { width, height }) => sample(window, where, width, height);

// The pictures of a figure's sheet, read from their pixels. Resolves to one picture for each place.
async function readPictures(model) {
  const lay = await sprites(model), { places, width, height } = model.get("packing");
  const canvas = document.createElement("canvas"), paper = canvas.getContext("2d", { willReadFrequently: true });
  return places.map((_, number) => {
    lay(canvas, 1, [number]);
    const { data } = paper.getImageData(1, 1, width, height);
    return { values: Float32Array.from({ length: width * height }, (_, k) => data[4 * k] / 255), width, height };
  });
}

// A canvas of a picture's own size, hidden from those who listen where no label is given: then something else says it.
// paint(picture) draws it with 256 greys, light ink on black as `sprites` does.
function easel(width, height = width, label = null) {
  const canvas = h("canvas", { class: "lb-picture", width, height, role: label && "img", "aria-label": label, "aria-hidden": label ? null : "true" });
  const paper = canvas.getContext("2d"), image = paper.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const paint = ({ values }) => {
    for (let k = 0; k < pixels.length; k++) pixels[k] = 0xff000000 | (Math.round(255 * values[k]) * 0x010101);
    paper.putImageData(image, 0, 0);
  };
  return { canvas, paint };
}
