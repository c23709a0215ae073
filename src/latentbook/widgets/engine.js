// The engine of the figures that run a model of the book in the page: layers, the models that export.py writes, and training.
// Shared by figures, after base.js and sampling.js. A figure opens a model by `openModel(model.get("network"))` and asks it
// by `await network.run("decode", z)`: in a Worker, or in the page where there is none. `engine.model(await inflate(...))` is
// the same in the page, at once. Vectors are typed arrays; `where` is [scale, shift_x, shift_y] as in sampling.js.

// All of it in one function, whose text is also the Worker's script.
function makeEngine() {
  function expect(name, values, length) {
    if (values?.length !== length) throw new Error(`${name} must hold ${length} numbers, got ${values?.length ?? values}`);
    return values;
  }

  // LAYERS. A layer is { weight: [outputs * inputs], bias: [outputs], inputs }, a kernel's inputs its channels * height * width.

  function dot(a, from, b, start, count) {
    let even = 0, odd = 0, k = 0;
    for (; k < count - 1; k += 2) {
      even += a[from + k] * b[start + k];
      odd += a[from + k + 1] * b[start + k + 1];
    }
    return even + odd + (k < count ? a[from + k] * b[start + k] : 0);
  }

  function dense({ weight, bias, inputs }, values) {
    expect("a layer's input", values, inputs);
    return Float64Array.from(bias, (shift, i) => shift + dot(weight, i * inputs, values, 0, inputs));
  }

  // A convolution of a picture { values: [channels * height * width], height, width }.
  function conv({ weight, bias, inputs, shape }, { values, height, width }, { stride = 1, padding = 0 } = {}) {
    const [outputs, channels, tall, wide] = shape;
    expect("a picture", values, channels * height * width);
    const rows = Math.floor((height + 2 * padding - tall) / stride) + 1;
    const columns = Math.floor((width + 2 * padding - wide) / stride) + 1;
    const result = new Float64Array(outputs * rows * columns), patch = new Float64Array(inputs);
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
      let k = 0;
      for (let channel = 0; channel < channels; channel++) for (let i = 0; i < tall; i++) for (let j = 0; j < wide; j++) {
        const y = row * stride + i - padding, x = column * stride + j - padding;
        patch[k++] = y < 0 || x < 0 || y >= height || x >= width ? 0 : values[(channel * height + y) * width + x];
      }
      for (let o = 0; o < outputs; o++) {
        result[(o * rows + row) * columns + column] = bias[o] + dot(weight, o * inputs, patch, 0, inputs);
      }
    }
    return { values: result, height: rows, width: columns };
  }

  // Windows of 2 by 2 pixels, each as one number; what is left over at the edge is left out.
  function pool({ values, height, width }, join) {
    const rows = height >> 1, columns = width >> 1, channels = values.length / (height * width);
    const result = new Float64Array(channels * rows * columns);
    for (let k = 0; k < result.length; k++) {
      const channel = Math.floor(k / (rows * columns)), row = Math.floor(k / columns) % rows;
      const at = (channel * height + 2 * row) * width + 2 * (k % columns);
      result[k] = join(values[at], values[at + 1], values[at + width], values[at + width + 1]);
    }
    return { values: result, height: rows, width: columns };
  }
  const maxPool = (picture) => pool(picture, Math.max);
  const averagePool = (picture) => pool(picture, (a, b, c, d) => (a + b + c + d) / 4);

  const each = (of) => (values) => Float64Array.from(values, of);
  const relu = each((value) => Math.max(0, value)), tanh = each(Math.tanh);
  const sigmoid = each((value) => 1 / (1 + Math.exp(-value)));
  const softplus = (value) => Math.max(0, value) + Math.log1p(Math.exp(-Math.abs(value)));

  function softmax(logits) {
    const most = Math.max(...logits), shares = Float64Array.from(logits, (value) => Math.exp(value - most));
    const total = shares.reduce((sum, share) => sum + share, 0);
    return shares.map((share) => share / total);
  }

  function join(...parts) {
    const all = new Float64Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
    return all;
  }

  function oneHot(label, classes) {
    const found = Float64Array.from({ length: classes }, (_, k) => Number(k === label));
    if (!found.includes(1)) throw new Error(`a class is one of 0 to ${classes - 1}, got ${label}`);
    return found;
  }

  // The reparameterised sample of a Gaussian { mean, logVar }.
  function reparameterise({ mean, logVar }, noise) {
    expect("noise", noise, mean.length);
    return Float64Array.from(mean, (value, k) => value + Math.exp(logVar[k] / 2) * noise[k]);
  }

  // The product of Gaussians [{ mean, logVar }, ...]. exact: divided by the prior N(0, 1) as often as it was counted too much.
  function productOfExperts(experts, exact = false) {
    if (!experts.length) throw new Error("a product needs at least one expert, got none");
    const size = experts[0].mean.length, mean = new Float64Array(size), logVar = new Float64Array(size);
    for (const expert of experts) for (const part of ["mean", "logVar"]) expect(`an expert's ${part}`, expert[part], size);
    for (let k = 0; k < size; k++) {
      const top = Math.max(...experts.map((expert) => -expert.logVar[k]));
      const shares = experts.map((expert) => (-expert.logVar[k] === top ? 1 : Math.exp(-expert.logVar[k] - top)));
      const total = shares.reduce((sum, share) => sum + share, 0);
      const again = exact ? (experts.length - 1) * Math.exp(-top) / total : 0;
      if (again >= 1) throw new Error("the experts are wider than the prior: divided by it they are no Gaussian");
      mean[k] = experts.reduce((sum, expert, i) => sum + shares[i] * expert.mean[k], 0) / total / (1 - again);
      logVar[k] = -(top + Math.log(total) + Math.log1p(-again));
    }
    return { mean, logVar };
  }

  // N(0, 1) from a seed, as export.py's seeded_noise draws it; `noise(count)` goes on where the last call ended.
  function normals(seed) {
    const next = generator(seed), kept = [];
    const uniform = () => next() / 4294967296;
    return (count) => Float64Array.from({ length: count }, () => {
      if (!kept.length) {
        const radius = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
        kept.push(radius * Math.sin(angle), radius * Math.cos(angle));
      }
      return kept.pop();
    });
  }

  // MODELS. Each takes its configuration and layers by their names in PyTorch, and reads one example at a time; grey values
  // are 0 to 1, a Gaussian is { mean, logVar }, and what is decoded are means.

  class Network {
    constructor(config, layers) { Object.assign(this, { config, layers }); }
    layer(name) {
      if (!this.layers[name]) throw new Error(`no layer is called ${name}; there are: ${Object.keys(this.layers).join(", ")}`);
      return this.layers[name];
    }
    through(name, values) { return dense(this.layer(name), values); }
    gaussian(values, mean = "mean", logVar = "log_var") {
      return { mean: this.through(mean, values), logVar: this.through(logVar, values) };
    }
  }

  class VAE extends Network {
    encode(image) { return this.gaussian(relu(this.through("encoder.0", image))); }
    // seen: the true image, for a decoder whose pixels also see those before them (neighbours.weight).
    decode(z, seen = null) {
      const logits = this.through("decoder.1", relu(this.through("decoder.0.0", z))), { neighbours } = this.layers;
      if (neighbours && seen) beforeRows(neighbours.weight, seen, logits.length, 1, (at, i, value) => { logits[i] += value; });
      return sigmoid(logits);
    }
    // The same without a true image: pixels of zero and one are drawn one after the other, by chances of the seed, and seen.
    draw(z, seed = 0) {
      const chances = this.decode(z), next = generator(seed), seen = this.layers.neighbours?.weight;
      if (!seen) return chances;
      chances.forEach((chance, i) => {
        const logit = Math.log(chance / (1 - chance)) + dot(seen, i * chances.length, chances, 0, i);
        chances[i] = Number(next() / 4294967296 < 1 / (1 + Math.exp(-logit)));
      });
      return chances;
    }
  }

  class ConditionalVAE extends Network {
    label(y) { return typeof y === "number" ? oneHot(y, this.config.n_classes) : expect("y", y, this.config.n_classes); }
    // Probabilities of the classes. y below: a class, or probabilities of all.
    classify(image) { return softmax(this.through("classifier.1", relu(this.through("classifier.0.0", image)))); }
    encode(image, y) {
      const seen = this.config.posterior === "image" ? image : join(expect("image", image, this.config.pixels), this.label(y));
      return this.gaussian(relu(this.through("encoder.0", seen)));
    }
    decode(z, y) {
      const seen = join(expect("z", z, this.config.latent_dim), this.label(y));
      return sigmoid(this.through("decoder.1", relu(this.through("decoder.0.0", seen))));
    }
  }

  class MixAndMatch extends Network {
    features(side, pixels) { return relu(this.through(`${side}_encoder.3`, relu(this.through(`${side}_encoder.0`, pixels)))); }
    // Features where the mask is set are `chosen`'s.
    mix(chosen, other, mask) {
      const size = this.config.hidden_dim;
      if (this.config.mixing === "concatenation") return join(chosen, other);
      return Float64Array.from(expect("mask", mask, size), (set, k) => (set ? chosen[k] : other[k]));
    }
    // data: the pixels to complete, condition: those that are given.
    encode(data, condition, mask) {
      return this.gaussian(this.mix(this.features("data", data), this.features("condition", condition), mask));
    }
    prior(condition) {
      const zeros = new Float64Array(this.config.latent_dim);
      if (this.config.prior === "standard") return { mean: zeros, logVar: zeros };
      const features = this.features("condition", condition);
      const head = (name) => this.through(`${name}.1`, relu(this.through(`${name}.0.0`, features)));
      return { mean: head("prior_mean"), logVar: head("prior_log_var") };
    }
    decode(z, condition, mask) {
      const mixed = this.mix(this.features("condition", condition), relu(this.through("latent_projection.0", z)), mask);
      return sigmoid(this.through("decoder.1", relu(this.through("decoder.0.0", mixed))));
    }
    // Many completions of one condition, with noise and mask of each; z comes from the prior, or where `standard`, from N(0, 1).
    complete(condition, noise, masks, standard = false) {
      const n = noise.length, size = this.config.hidden_dim, given = this.features("condition", condition);
      const q = standard ? null : this.prior(condition), z = join(...noise.map((each) => (q ? reparameterise(q, each) : each)));
      const latent = relu(denseRows(this.layer("latent_projection.0"), z, n));
      const mixed = join(...noise.map((_, k) => this.mix(given, latent.subarray(k * size, (k + 1) * size), masks[k])));
      const hidden = relu(denseRows(this.layer("decoder.0.0"), mixed, n));
      const all = Float32Array.from(sigmoid(denseRows(this.layer("decoder.1"), hidden, n))), pixels = all.length / n;
      return noise.map((_, k) => all.slice(k * pixels, (k + 1) * pixels));
    }
  }

  class MultiLevelVAE extends Network {
    // { style, class }, two Gaussians: what one image says.
    encode(image) {
      const hidden = tanh(this.through("encoder.0", image));
      const [style, group] = ["style", "class"].map((name) => this.gaussian(hidden, `${name}_mean`, `${name}_log_var`));
      if (this.config.exact) group.logVar = group.logVar.map((value) => -softplus(-value));
      return { style, class: group };
    }
    // What a group's images say together, from the class of each.
    accumulate(experts) { return productOfExperts(experts, this.config.exact); }
    decode(style, group) {
      const { style_dim, class_dim } = this.config;
      const codes = join(expect("style", style, style_dim), expect("class", group, class_dim));
      return sigmoid(this.through("decoder.2", tanh(this.through("decoder.0", codes))));
    }
  }

  class Localisation extends Network {
    where(canvas) {
      const { canvas: side, start_scale } = this.config;
      const seen = averagePool({ values: expect("canvas", canvas, side ** 2), height: side, width: side });
      const hidden = relu(this.through("network.2.2", relu(this.through("network.2.0", seen.values))));
      const [raw, x, y] = this.through("network.3", hidden);
      const scale = 1 + softplus(raw + Math.log(Math.expm1(start_scale - 1)));
      return [scale, -scale * Math.tanh(x), -scale * Math.tanh(y)];
    }
    // What a window of 28 by 28 pixels shows of the canvas.
    window(canvas, where = this.where(canvas)) {
      const side = this.config.canvas, picture = { values: expect("canvas", canvas, side ** 2), width: side, height: side };
      return Float64Array.from(cropAt(picture, where, 28).values);
    }
    // Probabilities of the ten digits in a window.
    read(window) { return softmax(this.through("reader.layers.2", relu(this.through("reader.layers.1.0", window)))); }
  }

  class Judge extends Network {
    // Probabilities of the ten digits in an image of 28 by 28 pixels.
    judge(image) {
      let seen = { values: expect("image", image, 784), height: 28, width: 28 };
      for (const [number, how] of [[0, { stride: 2, padding: 2 }], [3, { stride: 2, padding: 1 }], [6, { padding: 1 }]]) {
        seen = conv(this.layer(`features.${number}`), seen, how);
        seen.values = relu(seen.values);
      }
      return softmax(this.through("head", maxPool(seen).values));
    }
  }

  class AIR extends Network {
    bounded([scale, x, y]) {
      const [low, high] = this.config.scale_range ?? [-Infinity, Infinity];
      return [Math.min(high, Math.max(low, scale)), x, y];
    }
    logVarOf(values) {
      const [low, high] = this.config.log_var_range ?? [-Infinity, Infinity];
      return values.map((value) => Math.min(high, Math.max(low, value)));
    }
    // The scene's share of the recurrent network's first layer, the same in every step.
    look(image) {
      const side = this.config.canvas;
      let seen = { values: expect("image", image, side ** 2), height: side, width: side };
      for (const [name, how] of [["1", { stride: 4, padding: 1 }], ["3", { padding: 1 }]]) {
        seen = conv(this.layer(`inference.of_image.${name}`), seen, how);
        seen.values = relu(seen.values);
      }
      return this.through("inference.of_image.6", seen.values);
    }
    // One step of the recurrent network: the logit of presence, the Gaussian of where, and the next state.
    step(projected, z, state) {
      const rest = this.through("inference.of_rest", join(z, state));
      const hidden = relu(this.through("inference.second", relu(rest.map((value, k) => value + projected[k]))));
      const outputs = this.through("inference.last", hidden);
      const [mean, logVar] = [outputs.slice(1, 4), this.logVarOf(outputs.slice(4, 7))];
      return { logit: outputs[0], mean, logVar, state: outputs.slice(7) };
    }
    // A window's crop: the Gaussian of its code, and the window that a code is decoded to.
    encode(crop) {
      const both = this.through("what.encoder.2", relu(this.through("what.encoder.0", crop))), n = this.config.what_dim;
      return { mean: both.slice(0, n), logVar: this.logVarOf(both.slice(n)) };
    }
    decode(what) {
      const logits = this.through("what.decoder.2", relu(this.through("what.decoder.0", what)));
      return sigmoid(logits.map((value) => value + this.config.output_bias));
    }
    paste(window, where) {
      const { window: size, canvas } = this.config, picture = { values: window, width: size, height: size };
      return Float64Array.from(pasteAt(picture, where, { width: canvas, height: canvas }).values);
    }
    // All steps as if every object were there: { steps: [{ presence, where, what, crop, decoded, canvas, ... }], counts }, the
    // counts being probabilities of 0, 1, ... objects. noise [steps * (3 + what)]: without it, means. where: windows in place of
    // the model's own in some steps, as [null, [2, 0, 0]]; the steps after them are inferred anew.
    infer(image, { noise = null, where: given = [] } = {}) {
      const { steps, what_dim: n, window, canvas, hidden_dim } = this.config;
      const picture = { values: image, width: canvas, height: canvas };
      if (noise) expect("noise", noise, steps * (3 + n));
      const projected = this.look(image), seen = [];
      let z = new Float64Array(4 + n).fill(1), state = new Float64Array(hidden_dim);
      for (let k = 0; k < steps; k++) {
        const eps = noise ? noise.slice(k * (3 + n), (k + 1) * (3 + n)) : new Float64Array(3 + n);
        const { logit, mean, logVar, state: next } = this.step(projected, z, state);
        const where = given[k] ?? this.bounded(reparameterise({ mean, logVar }, eps.slice(0, 3)));
        const crop = Float64Array.from(cropAt(picture, where, window).values), code = this.encode(crop);
        const what = reparameterise(code, eps.slice(3)), decoded = this.decode(what);
        const [presence] = sigmoid([logit]), place = { mean, logVar };
        seen.push({ logit, presence, place, where, crop, code, what, decoded, canvas: this.paste(decoded, where) });
        z = join([1], where, what);
        state = next;
      }
      return { steps: seen, counts: countPosterior(seen.map(({ presence }) => presence)) };
    }
    // A scene of objects [{ where, what }, ...], clamped to 0 to 1.
    render(objects) {
      const sum = new Float64Array(this.config.canvas ** 2);
      for (const { where, what } of objects) this.paste(this.decode(what), where).forEach((value, k) => { sum[k] += value; });
      return sum.map((value) => Math.min(1, value));
    }
  }

  // q(n), n = 0..steps, where presence stops at the first absence.
  function countPosterior(presence) {
    const reached = [1];
    presence.forEach((p, k) => reached.push(reached[k] * p));
    return Float64Array.from(reached, (q, n) => (n < presence.length ? q * (1 - presence[n]) : q));
  }

  const models = { VAE, ConditionalVAE, MixAndMatch, MultiLevelVAE, Localisation, Judge, AIR };

  // A model from its file's content (export.py's pack_model), inflated: an ArrayBuffer.
  function model(content) {
    const size = new DataView(content).getUint32(0, true);
    const { model: kind, config, layers: shapes } = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 4, size)));
    if (!models[kind]) throw new Error(`no model is called ${kind}; there are: ${Object.keys(models).join(", ")}`);
    let at = 4 + size;
    const floats = (n) => new Float32Array(content, (at += 4 * n) - 4 * n, n), layers = {};
    for (const { name, shape } of shapes) layers[name] = { shape, steps: floats(shape[0]), bias: floats(shape[0]) };
    for (const { name, shape, bits } of shapes) {
      if (bits !== 8 && bits !== 16) throw new Error(`weights have 8 or 16 bits, got ${bits} in ${name}`);
      const layer = layers[name], count = shape.reduce((product, n) => product * n, 1), inputs = count / shape[0];
      const high = new Int8Array(content, at, count), low = bits === 16 ? new Uint8Array(content, at + count, count) : null;
      at += low ? 2 * count : count;
      const level = low ? (k) => 256 * high[k] + low[k] : (k) => high[k];
      layer.inputs = inputs;
      layer.weight = Float32Array.from(high, (_, k) => level(k) * layer.steps[Math.floor(k / inputs)]);
    }
    return new models[kind](config, layers);
  }

  // TRAINING. Rows of a batch stand one after the other, in 64 bits. What is called ...Back takes the gradient of a loss with
  // respect to an output, and returns those with respect to what it came from.

  function denseRows({ weight, bias, inputs }, x, n) {
    const outputs = bias.length, y = new Float64Array(n * outputs);
    expect("a batch", x, n * inputs);
    for (let row = 0; row < n; row++) {
      const from = row * inputs;
      let o = 0;
      for (; o < outputs - 3; o += 4) { // four outputs read an input once
        let a = bias[o], b = bias[o + 1], c = bias[o + 2], d = bias[o + 3];
        for (let k = 0, w = o * inputs; k < inputs; k++, w++) {
          const value = x[from + k];
          a += weight[w] * value;
          b += weight[w + inputs] * value;
          c += weight[w + 2 * inputs] * value;
          d += weight[w + 3 * inputs] * value;
        }
        y.set([a, b, c, d], row * outputs + o);
      }
      for (; o < outputs; o++) y[row * outputs + o] = bias[o] + dot(weight, o * inputs, x, from, inputs);
    }
    return y;
  }

  // { weight, bias, input }; input: false where nothing before the layer learns.
  function denseBack({ weight, bias, inputs }, x, gradient, n, input = true) {
    const outputs = bias.length, zeros = (length) => new Float64Array(length);
    const found = { weight: zeros(weight.length), bias: zeros(outputs), input: input ? zeros(n * inputs) : null };
    expect("a gradient", gradient, n * outputs);
    for (let row = 0; row < n; row++) for (let o = 0; o < outputs; o++) {
      const g = gradient[row * outputs + o], w = o * inputs, from = row * inputs;
      if (g === 0) continue;
      found.bias[o] += g;
      for (let k = 0; k < inputs; k++) found.weight[w + k] += g * x[from + k];
      if (input) for (let k = 0; k < inputs; k++) found.input[from + k] += g * weight[w + k];
    }
    return found;
  }

  // Of an activation's output y.
  const reluBack = (y, gradient) => gradient.map((g, k) => (y[k] > 0 ? g : 0));
  const tanhBack = (y, gradient) => gradient.map((g, k) => g * (1 - y[k] ** 2));
  const sigmoidBack = (y, gradient) => gradient.map((g, k) => g * y[k] * (1 - y[k]));
  function softmaxBack(y, gradient, n) {
    const size = y.length / n, result = new Float64Array(y.length);
    for (let row = 0; row < n; row++) {
      const mean = dot(y, row * size, gradient, row * size, size);
      for (let k = row * size; k < (row + 1) * size; k++) result[k] = y[k] * (gradient[k] - mean);
    }
    return result;
  }
  function reparameteriseBack({ logVar }, noise, gradient) {
    return { mean: gradient.slice(), logVar: gradient.map((g, k) => (g * noise[k] * Math.exp(logVar[k] / 2)) / 2) };
  }

  // Sums over a batch, and their gradients: -log p(x) of Bernoulli pixels, KL(q || N(0, I)), the cross-entropy of class numbers.
  function bernoulli(logits, x) {
    let total = 0;
    const gradient = logits.map((logit, k) => {
      total += softplus(logit) - logit * x[k];
      return 1 / (1 + Math.exp(-logit)) - x[k];
    });
    return { total, gradient };
  }
  function gaussianKl({ mean, logVar }) {
    let total = 0;
    mean.forEach((value, k) => { total += (value ** 2 + Math.exp(logVar[k]) - 1 - logVar[k]) / 2; });
    return { total, gradient: { mean: mean.slice(), logVar: logVar.map((value) => (Math.exp(value) - 1) / 2) } };
  }
  function crossEntropy(logits, labels) {
    const n = labels.length, size = logits.length / n, gradient = new Float64Array(logits.length);
    let total = 0;
    for (let row = 0; row < n; row++) {
      const shares = softmax(logits.slice(row * size, (row + 1) * size));
      total -= Math.log(shares[labels[row]]);
      shares[labels[row]] -= 1;
      gradient.set(shares, row * size);
    }
    return { total, gradient };
  }

  // Adam (Kingma and Ba, 2015) on parameters, a list of arrays: step(gradients, learningRate) changes them.
  function adam(parameters, { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = {}) {
    const [first, second] = [0, 1].map(() => parameters.map((parameter) => new Float64Array(parameter.length)));
    let count = 0;
    return (gradients, learningRate) => {
      count += 1;
      const rate = learningRate / (1 - beta1 ** count), scale = 1 / Math.sqrt(1 - beta2 ** count);
      parameters.forEach((parameter, i) => {
        const m = first[i], v = second[i], g = gradients[i];
        for (let k = 0; k < parameter.length; k++) {
          m[k] += (1 - beta1) * (g[k] - m[k]);
          v[k] += (1 - beta2) * (g[k] * g[k] - v[k]);
          parameter[k] -= (rate * m[k]) / (Math.sqrt(v[k]) * scale + epsilon);
        }
      });
    };
  }

  // A VAE that learns in the page, with the loss of latentbook.models.VAE and the steps of `fit`.
  // images: [n * pixels], grey values 0 to 1, or bytes. weights: by their names in PyTorch; without them, drawn from the seed.
  // labels: for the probe of `gauge`. What may change while it trains: learningRate, klWeight, neighbours (each pixel's logit
  // also sees the true pixels before it, latentbook.models.Neighbours, from weights of zero) and reduction: "mean" averages the
  // reconstruction over the pixels in place of summing it.
  class VAETrainer {
    constructor(options) {
      const { images, labels = null, pixels = 196, hidden = 64, latent = 2, seed = 0, weights = null } = options;
      const { batch = 64, learningRate = 1e-3, klWeight = 1, neighbours = false, reduction = "sum" } = options;
      const many = images?.length;
      if (!many || many % pixels) throw new Error(`images must hold ${pixels} numbers each, got ${many} in all`);
      Object.assign(this, { pixels, hidden, latent, batch, labels });
      this.images = images instanceof Uint8Array ? Float64Array.from(images, (value) => value / 255) : Float64Array.from(images);
      this.count = images.length / pixels;
      this.restart({ seed, weights, learningRate, klWeight, neighbours, reduction });
    }
    // From the start, as a new one with these options.
    restart({ seed = 0, weights = null, ...set } = {}) {
      const { pixels, hidden, latent } = this, next = generator(seed), sizes = [
        ["encoder.0", hidden, pixels], ["mean", latent, hidden], ["log_var", latent, hidden],
        ["decoder.0.0", hidden, latent], ["decoder.1", pixels, hidden],
      ];
      const numbers = (name, length, inputs) => (weights
        ? Float64Array.from(expect(name, weights[name], length))
        : Float64Array.from({ length }, () => (next() / 2147483648 - 1) / Math.sqrt(inputs))); // as torch starts a layer
      this.layers = Object.fromEntries(sizes.map(([name, outputs, inputs]) => {
        const [weight, bias] = [numbers(`${name}.weight`, outputs * inputs, inputs), numbers(`${name}.bias`, outputs, inputs)];
        return [name, { inputs, weight, bias }];
      }));
      this.model = new VAE({ pixels, hidden_dim: hidden, latent_dim: latent }, this.layers);
      this.update = adam(Object.values(this.layers).flatMap(({ weight, bias }) => [weight, bias]));
      Object.assign(this, { steps: 0, next, noise: normals(seed + 1), order: [] });
      this.change(set);
      if (set.neighbours && weights?.["neighbours.weight"]) this.layers.neighbours.weight.set(weights["neighbours.weight"]);
    }
    // From now on.
    change({ neighbours = this.neighbours, reduction = this.reduction, ...rest }) {
      if (reduction !== "sum" && reduction !== "mean") throw new Error(`reduction must be sum or mean, got ${reduction}`);
      Object.assign(this, { neighbours, reduction }, rest);
      if (neighbours && !this.layers.neighbours) {
        const weight = new Float64Array(this.pixels ** 2);
        this.layers.neighbours = { inputs: this.pixels, weight };
        this.updateSeen = adam([weight]);
      }
      if (!neighbours) delete this.layers.neighbours;
    }
    // The next batch: all examples in a new order, then again; the last of an epoch may be smaller.
    rows() {
      if (!this.order.length) {
        this.order = Array.from({ length: this.count }, (_, k) => k);
        for (let k = this.count - 1; k > 0; k--) {
          const other = Math.floor((this.next() * (k + 1)) / 4294967296);
          [this.order[k], this.order[other]] = [this.order[other], this.order[k]];
        }
      }
      return this.order.splice(0, this.batch);
    }
    // Logits of codes in rows; with neighbours also of the true images x.
    logits(z, x, n) {
      const { neighbours, ["decoder.0.0"]: decoder, ["decoder.1"]: output } = this.layers;
      const features = relu(denseRows(decoder, z, n)), logits = denseRows(output, features, n);
      if (neighbours) beforeRows(neighbours.weight, x, this.pixels, n, (at, i, value) => { logits[at + i] += value; });
      return { features, logits };
    }
    // The loss of a batch and the gradients of all parameters: means over its n examples, in nats.
    gradients(x, noise, n) {
      const [encoder, mean, logVar, decoder, output] = Object.values(this.layers), { pixels } = this;
      const hidden = relu(denseRows(encoder, x, n));
      const q = { mean: denseRows(mean, hidden, n), logVar: denseRows(logVar, hidden, n) };
      const z = reparameterise(q, noise), { features, logits } = this.logits(z, x, n);
      const bce = bernoulli(logits, x), kl = gaussianKl(q), share = this.reduction === "mean" ? n * pixels : n;
      const slope = bce.gradient.map((g) => g / share);
      const last = denseBack(output, features, slope, n);
      const before = denseBack(decoder, z, reluBack(features, last.input), n);
      const codes = reparameteriseBack(q, noise, before.input);
      for (const part of ["mean", "logVar"]) kl.gradient[part].forEach((g, k) => { codes[part][k] += (this.klWeight * g) / n; });
      const heads = [denseBack(mean, hidden, codes.mean, n), denseBack(logVar, hidden, codes.logVar, n)];
      const first = denseBack(encoder, x, reluBack(hidden, heads[0].input.map((g, k) => g + heads[1].input[k])), n, false);
      const gradients = [first, ...heads, before, last].flatMap(({ weight, bias }) => [weight, bias]);
      const seen = this.layers.neighbours ? beforeBack(x, slope, pixels, n) : null;
      return { bce: bce.total / n, kl: kl.total / n, gradients, seen };
    }
    // Examples by their numbers, in rows.
    examples(rows) {
      const x = new Float64Array(rows.length * this.pixels);
      rows.forEach((row, k) => x.set(this.images.subarray(row * this.pixels, (row + 1) * this.pixels), k * this.pixels));
      return x;
    }
    // One step on examples by their numbers; { bce, kl } before it.
    step(rows = this.rows(), noise = this.noise(rows.length * this.latent)) {
      const { bce, kl, gradients, seen } = this.gradients(this.examples(rows), noise, rows.length);
      this.update(gradients, this.learningRate);
      if (seen) this.updateSeen([seen], this.learningRate);
      this.steps += 1;
      return { bce, kl };
    }
    // Some steps at once: how many there were in all, and the mean terms of these. set: as for `change`.
    train(count = 1, set = {}) {
      this.change(set);
      let [bce, kl] = [0, 0];
      for (let k = 0; k < count; k++) {
        const terms = this.step();
        [bce, kl] = [bce + terms.bce / count, kl + terms.kl / count];
      }
      return { steps: this.steps, bce, kl };
    }
    // The Gaussians of some examples at once, their rows one after the other.
    codes(rows) {
      const [encoder, mean, logVar] = Object.values(this.layers), n = rows.length;
      const hidden = relu(denseRows(encoder, this.examples(rows), n));
      return { mean: denseRows(mean, hidden, n), logVar: denseRows(logVar, hidden, n) };
    }
    // The instruments, by seeded noise, the same at every call (latentbook.widgets.collapse.gauge): the KL of each unit, over
    // all examples; bce and listening, how much it rises with the code of the next example, over the first `some`; the probe's
    // hit rate on sampled codes and its control. means: where all codes lie, spread: how far from 0. In nats an example.
    gauge(some = 512) {
      const n = this.count, { latent, pixels } = this, all = Array.from({ length: n }, (_, k) => k), used = Math.min(some, n);
      const q = this.codes(all), z = reparameterise(q, (this.still ??= normals(GAUGE_SEED)(n * latent)));
      const kls = new Array(latent).fill(0);
      q.mean.forEach((mean, k) => { kls[k % latent] += (mean ** 2 + Math.exp(q.logVar[k]) - 1 - q.logVar[k]) / 2 / n; });
      const x = this.images.subarray(0, used * pixels), own = z.slice(0, used * latent);
      const bce = (codes) => bernoulli(this.logits(codes, x, used).logits, x).total / used;
      const [bceOwn, bceOther] = [bce(own), bce(join(own.slice(latent), own.slice(0, latent)))];
      const probe = this.labels && nearestMean(z, this.labels, latent);
      const dealt = (shift) => this.labels.map((_, k) => this.labels[(k + shift) % n]);
      const wrong = this.labels && SHIFTS.map((shift) => nearestMean(z, dealt(shift), latent));
      const control = wrong && wrong.reduce((sum, rate) => sum + rate / wrong.length, 0);
      const spread = Math.sqrt(dot(q.mean, 0, q.mean, 0, q.mean.length) / q.mean.length), means = Float32Array.from(q.mean);
      return { steps: this.steps, bce: bceOwn, kls, listening: bceOther - bceOwn, probe, control, spread, means };
    }
    // Some steps, and how it stands then: as `gauge` says, and the weights of what decodes, in 32 bits.
    advance(count, set) {
      this.train(count, set);
      const decoder = Object.entries(this.weights()).filter(([name]) => /^(decoder|neighbours)/.test(name));
      return { ...this.gauge(), weights: Object.fromEntries(decoder.map(([name, values]) => [name, Float32Array.from(values)])) };
    }
    encode(image) { return this.model.encode(image); }
    decode(z) { return this.model.decode(z); }
    weights() {
      const parts = (layer) => ["weight", "bias"].filter((part) => layer[part]);
      const of = ([name, layer]) => parts(layer).map((part) => [`${name}.${part}`, layer[part].slice()]);
      return Object.fromEntries(Object.entries(this.layers).flatMap(of));
    }
  }
  const GAUGE_SEED = 7, SHIFTS = [1, 2, 3, 4, 5].map((k) => 97 * k); // by which labels are dealt to other examples

  // What the pixels before each pixel say of it: sum over j < i of weight[i, j] * x[j], for every row, told to `say`.
  function beforeRows(weight, x, pixels, n, say) {
    for (let row = 0; row < n; row++) for (let i = 0, at = row * pixels; i < pixels; i++) {
      say(at, i, dot(weight, i * pixels, x, at, i));
    }
  }
  function beforeBack(x, gradient, pixels, n) {
    const found = new Float64Array(pixels * pixels);
    for (let row = 0; row < n; row++) for (let i = 0, at = row * pixels; i < pixels; i++) {
      const g = gradient[at + i], w = i * pixels;
      for (let j = 0; j < i; j++) found[w + j] += g * x[at + j];
    }
    return found;
  }

  // The share of a second half of codes whose nearest class mean, of the codes in the first half, is that of their label.
  function nearestMean(z, labels, size) {
    const half = labels.length >> 1, classes = Math.max(...labels) + 1, sums = new Float64Array(classes * size);
    const counts = new Float64Array(classes);
    for (let k = 0; k < half; k++) {
      counts[labels[k]] += 1;
      for (let d = 0; d < size; d++) sums[labels[k] * size + d] += z[k * size + d];
    }
    let hits = 0;
    for (let k = half; k < labels.length; k++) {
      let best = -1, least = Infinity;
      for (let c = 0; c < classes; c++) {
        let far = 0;
        for (let d = 0; d < size; d++) far += (z[k * size + d] - sums[c * size + d] / counts[c]) ** 2;
        if (far < least) [best, least] = [c, far]; // no class without examples: its mean is none
      }
      hits += best === labels[k];
    }
    return hits / (labels.length - half);
  }

  // What can be opened, and how it is asked: a method by its name, or "each" with a method and a list of arguments' lists.
  const kinds = { model, trainer: (given) => new VAETrainer(given) };
  function ask(opened, method, args) {
    if (method === "each") return args[1].map((each) => ask(opened, args[0], each));
    if (typeof opened[method] !== "function") throw new Error(`a ${opened.constructor.name} has no ${method}`);
    return opened[method](...args);
  }
  function open(kind, given) {
    if (!kinds[kind]) throw new Error(`what can be opened is ${Object.keys(kinds).join(" or ")}, got ${kind}`);
    return kinds[kind](given);
  }

  // A Worker's side: the first message opens something, the others ask it.
  function serve(worker) {
    let opened = null;
    worker.onmessage = ({ data: { kind, given, method, args } }) => {
      try {
        if (kind) opened = open(kind, given);
        worker.postMessage({ value: kind ? null : ask(opened, method, args) });
      } catch (error) {
        worker.postMessage({ error: error.message });
      }
    };
    worker.postMessage("ready");
  }

  return {
    dense, conv, maxPool, averagePool, relu, tanh, sigmoid, softmax, softplus, oneHot, reparameterise, productOfExperts, normals,
    countPosterior, models, model, denseRows, denseBack, reluBack, tanhBack, sigmoidBack, softmaxBack, reparameteriseBack,
    bernoulli, gaussianKl, crossEntropy, adam, VAETrainer, open, ask, serve,
  };
}

const engine = makeEngine();

// The Worker's script: the engine and what it uses of base.js and sampling.js.
function engineScript() {
  const used = [generator, invert, centres, axis, valueAt, sample, makeEngine];
  const constants = `const f32 = Math.fround, cropAt = ${cropAt}, pasteAt = ${pasteAt};`;
  return ['"use strict";', constants, ...used, "makeEngine().serve(self);"].join("\n");
}

// A Worker that answers one message at a time, null where the page may have none. A Blob's address works from a folder, too.
async function startWorker() {
  const address = URL.createObjectURL(new Blob([engineScript()], { type: "text/javascript" }));
  try {
    const worker = new Worker(address);
    const next = () => new Promise((resolve, reject) => Object.assign(worker, {
      onmessage: ({ data }) => resolve(data),
      onerror: (event) => { event.preventDefault(); reject(new Error(event.message ?? "the Worker has ended")); },
    }));
    await next(); // it is ready
    const send = async (message) => {
      const answer = next();
      worker.postMessage(message);
      const { value, error } = await answer;
      if (error) throw new Error(error);
      return value;
    };
    return { send, end: () => worker.terminate(), where: "worker" };
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(address);
  }
}

// The same in the page, between other events.
function stayInPage() {
  let opened = null;
  const send = async ({ kind, given, method, args }) => {
    await new Promise((resolve) => setTimeout(resolve));
    if (!kind) return engine.ask(opened, method, args);
    opened = engine.open(kind, given);
    return null;
  };
  return { send, end: () => { opened = null; }, where: "page" };
}

// Opens "model" with a file's content, or "trainer" with its options. Resolves to { run, runAs, close, where }.
// run(method, ...args) resolves to what the method returns. Of requests for one method that wait, only the latest is answered;
// those before it resolve to null. runAs(slot, method, ...args): the latest of a slot. where: "worker" or "page".
async function openEngine(kind, given) {
  const host = (await startWorker()) ?? stayInPage(), waiting = new Map();
  let asked = null, closed = false;
  try {
    await host.send({ kind, given });
  } catch (error) {
    host.end();
    throw error;
  }
  async function work() {
    while (waiting.size && !asked) {
      const slot = waiting.keys().next().value;
      asked = waiting.get(slot);
      waiting.delete(slot);
      await host.send({ method: asked.method, args: asked.args }).then(asked.resolve, asked.reject);
      asked = null;
    }
  }
  const runAs = (slot, method, ...args) => new Promise((resolve, reject) => {
    waiting.get(slot)?.resolve(null);
    if (closed) resolve(null);
    else waiting.set(slot, { method, args, resolve, reject });
    work();
  });
  const close = () => {
    closed = true;
    for (const request of [asked, ...waiting.values()]) request?.resolve(null);
    waiting.clear();
    host.end();
  };
  return { run: (method, ...args) => runAs(method, method, ...args), runAs, close, where: host.where };
}

// A model from a figure's trait, which may still be on its way.
const openModel = async (packed) => openEngine("model", await inflate(packed));
const openTrainer = (options) => openEngine("trainer", options);
