// Shared by the figures that run a small network in the page: linear layers with weights in 8 bits (decoders.py).

// The layers of the packed trait, of shapes [[outputs, inputs], ...]: steps and biases of the outputs, weights in those steps.
async function unpackLayers(packed, shapes) {
  const content = await inflate(packed);
  let at = 0;
  const floats = (n) => new Float32Array(content, (at += 4 * n) - 4 * n, n);
  const layers = shapes.map(([outputs, inputs]) => ({ inputs, steps: floats(outputs), bias: floats(outputs) }));
  for (const layer of layers) {
    const size = layer.inputs * layer.bias.length;
    layer.weight = new Int8Array(content, (at += size) - size, size);
  }
  return layers;
}

// A layer's outputs.
function linear({ inputs, steps, bias, weight }, values) {
  return Float64Array.from(bias, (shift, i) => {
    let sum = 0;
    for (let k = 0, w = i * inputs; k < inputs; k++, w++) sum += weight[w] * values[k];
    return shift + steps[i] * sum;
  });
}

const relu = (values) => values.map((value) => Math.max(0, value));
