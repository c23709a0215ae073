"""The engine in a real browser: every layer, every shipped model and every gradient against PyTorch, Workers, and training."""

import base64
import functools
import importlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import site_harness as harness
import torch
import torch.nn.functional as F
import traitlets
from matplotlib.figure import Figure as Drawing
from torch import nn

from latentbook.data.digits import Batch, Digits
from latentbook.layers.distributions import DiagonalGaussian, bernoulli_nll, product_of_experts
from latentbook.layers.spatial_transformer import image_to_window, window_to_image
from latentbook.models import VAE, VAEConfig
from latentbook.training.loop import fit, initialise
from latentbook.widgets import base, collapse, export
from latentbook.widgets.model import ModelFigure

EXT = harness.ROOT / "book" / "_ext"
sys.path.insert(0, str(EXT))
light, offline_site = importlib.import_module("light"), importlib.import_module("offline_site")
SOURCE = base.compose("engine", ".js", "sampling")
N, CLOSE = 100, 1e-4  # random inputs, and the largest difference from PyTorch


@pytest.fixture(scope="module")
def lab(browser):
    """lab(function's text, *arguments): what the function returns in a page that holds the engine and nothing else."""
    page = browser.new_page()
    page.add_script_tag(content=SOURCE)
    yield functools.partial(asked, page)
    page.close()


def asked(page, function: str, *arguments):
    """Call a JavaScript function; arguments and result travel as text, which is much faster. Tensors become nested lists."""
    plain = [a.tolist() if isinstance(a, torch.Tensor) else a for a in arguments]
    call = f"""async (text) => JSON.stringify(await ({function})(...JSON.parse(text)),
        (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value)) ?? "null" """
    return json.loads(page.evaluate(call, json.dumps(plain)))


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(found, wanted: torch.Tensor, close: float = CLOSE) -> None:
    """The two have one shape and differ by less than `close` anywhere."""
    found, wanted = torch.tensor(found, dtype=torch.float64), wanted.detach().double()
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < close


def as_layer(layer: nn.Module) -> dict:
    """A linear layer or a convolution as engine.js has it."""
    weight = layer.weight.detach()
    shape = list(weight.shape)
    return {
        "weight": weight.flatten().tolist(),
        "bias": layer.bias.tolist(),
        "inputs": weight[0].numel(),
        "shape": shape,
    }


# Layers


def test_dense(lab):
    layer, x = initialise(lambda: nn.Linear(37, 11), 0), randn(N, 37)
    same(lab("(layer, x) => x.map((v) => engine.dense(layer, v))", as_layer(layer), x), layer(x))
    same(lab("(layer, x, n) => engine.denseRows(layer, x, n)", as_layer(layer), x.flatten(), N), layer(x).flatten())


@pytest.mark.parametrize("stride, padding, size", [(1, 0, 3), (2, 1, 3), (4, 1, 8), (1, 1, 3)])
def test_convolution(lab, stride, padding, size):
    layer, x = initialise(lambda: nn.Conv2d(3, 5, size, stride, padding), 0), randn(N, 3, 14, 15)
    how = {"stride": stride, "padding": padding}
    found = lab(
        """(layer, x, how) => x.map((v) => engine.conv(layer, { values: v.flat(2), height: 14, width: 15 }, how))""",
        as_layer(layer), x, how,
    )  # fmt: skip
    wanted = layer(x)
    assert [found[0]["height"], found[0]["width"]] == list(wanted.shape[2:])
    same([each["values"] for each in found], wanted.flatten(1))


@pytest.mark.parametrize("name, module", [("maxPool", nn.MaxPool2d(2)), ("averagePool", nn.AvgPool2d(2))])
def test_pools(lab, name, module):
    x = randn(N, 3, 7, 8)
    found = lab(f"(x) => x.map((v) => engine.{name}({{ values: v.flat(2), height: 7, width: 8 }}).values)", x)
    same(found, module(x).flatten(1))


@pytest.mark.parametrize("dim", [1, 2])
def test_batch_norm_is_folded_into_its_layer(lab, dim):
    layer, norm = (nn.Linear(6, 4), nn.BatchNorm1d(4)) if dim == 1 else (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4))
    model, shape = nn.Sequential(layer, norm).train(), (N, 6) if dim == 1 else (N, 2, 5, 5)
    with torch.no_grad():
        norm.weight.copy_(randn(4))
        norm.bias.copy_(randn(4, seed=1))
        for seed in range(3):
            model(3 * randn(*shape, seed=seed) + 1)  # running statistics that are not those of the start
    model.eval()
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weight, bias = export.folded(tensors)["0"]
    given = {
        "weight": weight.ravel().tolist(),
        "bias": bias.tolist(),
        "inputs": weight[0].size,
        "shape": list(weight.shape),
    }
    run = (
        "engine.dense(layer, v)"
        if dim == 1
        else "engine.conv(layer, { values: v.flat(2), height: 5, width: 5 }).values"
    )
    x = randn(*shape, seed=9)
    same(lab(f"(layer, x) => x.map((v) => {run})", given, x), model(x).flatten(1))


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softmax"])
def test_activations(lab, name):
    x = 5 * randn(N, 10)
    wanted = x.softmax(1) if name == "softmax" else getattr(torch, name)(x)
    same(lab(f"(x) => x.map(engine.{name})", x), wanted)


def test_softplus(lab):
    x = torch.cat((20 * randn(N), torch.tensor([-800.0, 800.0])))
    same(lab("(x) => x.map(engine.softplus)", x), F.softplus(x))


def test_noise_comes_from_its_seed_as_python_draws_it(lab):
    found = lab("(seeds) => seeds.map((seed) => { const noise = engine.normals(seed); return [...noise(7), ...noise(8)]; })",
                [0, 7, 2**32 - 1])  # fmt: skip
    for row, seed in zip(found, (0, 7, 2**32 - 1), strict=True):
        assert row == pytest.approx(export.seeded_noise(seed, 15).tolist(), abs=1e-12)


def test_reparameterisation_with_seeded_noise(lab):
    q = DiagonalGaussian(randn(N, 20), randn(N, 20, seed=1))
    noise = torch.from_numpy(export.seeded_noise(3, N * 20)).view(N, 20)
    found = lab(
        """(mean, logVar) => { const noise = engine.normals(3);
            return mean.map((m, i) => engine.reparameterise({ mean: m, logVar: logVar[i] }, noise(20))); }""",
        q.mean, q.log_var,
    )  # fmt: skip
    same(found, q.sample(noise.float()))


@pytest.mark.parametrize("exact", [False, True])
def test_product_of_experts(lab, exact):
    mean, log_var = randn(N, 5, 10), 3 * randn(N, 5, 10, seed=1)
    log_var[0], log_var[1] = -300, 2.0  # beyond what exp can hold; all equally certain
    if exact:
        log_var = -F.softplus(-log_var)
    zeros = torch.zeros(10)
    groups = torch.arange(N).repeat_interleave(5)
    flat = DiagonalGaussian(mean.flatten(0, 1), log_var.flatten(0, 1))
    wanted = product_of_experts(flat, groups, DiagonalGaussian(zeros, zeros) if exact else None)
    found = lab(
        """(mean, logVar, exact) => mean.map((m, i) =>
            engine.productOfExperts(m.map((v, k) => ({ mean: v, logVar: logVar[i][k] })), exact))""",
        mean, log_var, exact,
    )  # fmt: skip
    same([each["mean"] for each in found], wanted.mean)
    same([each["logVar"] for each in found], wanted.log_var)


def windows(n: int, seed: int = 0) -> torch.Tensor:
    scale = 0.8 * (10 / 0.8) ** rand(n, 1, seed=seed)
    return torch.cat([scale, scale * (2 * rand(n, 2, seed=seed + 1) - 1)], 1)


def test_spatial_transformer(lab):
    image, where = rand(50, 50), windows(N)
    crops = image_to_window(image.expand(N, 1, -1, -1), where, 24)
    pasted = window_to_image(crops, where, 50)
    found = lab(
        """(image, where) => where.map((at) => {
            const crop = cropAt({ values: image.flat(), width: 50, height: 50 }, at, 24);
            return [crop.values, pasteAt(crop, at, { width: 50, height: 50 }).values];
        })""",
        image, where,
    )  # fmt: skip
    same([crop for crop, _ in found], crops.flatten(1))
    same([canvas for _, canvas in found], pasted.flatten(1))


# Models


@functools.cache
def reference(name: str) -> nn.Module:
    """A shipped model in PyTorch, with the weights that the page has."""
    return export.read_model(export.shipped_model(name))


def run(lab, name: str, body: str, *arguments):
    """For each of the rows of the arguments what a function of the model and them returns, in the page."""
    packed = base64.b64encode(export.shipped_model(name)).decode()
    function = f"""async (packed, ...columns) => {{
        const model = engine.model(await inflate(packed));
        return columns[0].map((_, k) => ({body})(model, ...columns.map((column) => column[k])));
    }}"""
    return lab(function, packed, *arguments)


def named(kind: str) -> list[str]:
    return [name for name in export.SHIPPED if export.read_weights(export.WEIGHTS / f"{name}.safetensors")[0] == kind]


def test_every_shipped_model_is_tried_here():
    kinds = {export.read_weights(export.WEIGHTS / f"{name}.safetensors")[0] for name in export.SHIPPED}
    assert kinds == set(export.MODELS)
    assert {path.stem for path in export.WEIGHTS.glob("*")} == set(export.SHIPPED)


@pytest.mark.parametrize("name", named("Judge"))
@torch.no_grad()
def test_judge(lab, name):
    x = rand(N, 1, 28, 28)
    same(run(lab, name, "(m, x) => m.judge(x)", x.flatten(1)), reference(name)(x).softmax(1))


@pytest.mark.parametrize("name", named("VAE"))
@torch.no_grad()
def test_vae(lab, name):
    model, x, z = reference(name), rand(N, 784), randn(N, 16)
    found, q = run(lab, name, "(m, x, z) => [m.encode(x), m.decode(z)]", x, z), model.posterior(x)
    same([each["mean"] for each, _ in found], q.mean)
    same([each["logVar"] for each, _ in found], q.log_var)
    same([each for _, each in found], model.decode(z).sigmoid())


@pytest.mark.parametrize("name", named("ConditionalVAE"))
@torch.no_grad()
def test_conditional_vae(lab, name):
    model, x, z, y = reference(name), rand(N, 784), randn(N, 20), rand(N, 10).softmax(1)
    found = run(lab, name, "(m, x, z, y) => [m.classify(x), m.encode(x, y), m.decode(z, y)]", x, z, y)
    q = model.encode(x, y)
    same([each for each, _, _ in found], model.classifier(x).softmax(1))
    same([each["mean"] for _, each, _ in found], q.mean)
    same([each["logVar"] for _, each, _ in found], q.log_var)
    same([each for _, _, each in found], model.decode(z, y).sigmoid())
    labels = torch.arange(N) % 10
    same(run(lab, name, "(m, z, y) => m.decode(z, y)", z, labels), model.sample(labels, z=z).flatten(1))


@pytest.mark.parametrize("name", named("MixAndMatch"))
@torch.no_grad()
def test_mix_and_match(lab, name):
    model, x, z = reference(name), rand(N, 784), randn(N, 32)
    data, condition, mask = x[:, :500], x[:, 500:], rand(N, 128) < 0.5
    body = "(m, x, c, z, mask) => [m.encode(x, c, mask), m.prior(c), m.decode(z, c, mask)]"
    found, features = run(lab, name, body, data, condition, z, mask), model.condition_encoder(condition)
    for k, wanted in enumerate((model.encode(model.data_encoder(data), features, mask), model.prior(features))):
        same([each[k]["mean"] for each in found], wanted.mean)
        same([each[k]["logVar"] for each in found], wanted.log_var)
    same([each[2] for each in found], model.sample(condition, z=z, mask=mask))


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("name", named("MixAndMatch"))
@torch.no_grad()
def test_many_completions_of_one_condition(lab, name, standard):
    model, condition, noise, mask = reference(name), rand(5, 284), randn(5, 18, 32), rand(5, 18, 128) < 0.5
    body = f"(m, c, noise, masks) => m.complete(c, noise, masks, {str(standard).lower()})"
    found = run(lab, name, body, condition, noise, mask)
    for k, each in enumerate(condition.unsqueeze(1).expand(-1, 18, -1)):
        q = model.prior(model.condition_encoder(each))
        z = noise[k] if standard else q.sample(noise[k])
        same(found[k], model.sample(each, z=z, mask=mask[k]))


@pytest.mark.parametrize("name", named("MultiLevelVAE"))
@torch.no_grad()
def test_multi_level_vae(lab, name):
    model, x, evidence = reference(name), rand(N, 784), rand(N, 3, 784, seed=1)
    body = """(m, x, group) => {
        const { style, class: own } = m.encode(x), all = m.accumulate(group.map((image) => m.encode(image).class));
        return [style, own, all, m.decode(style.mean, all.mean)];
    }"""
    found, (style, own) = run(lab, name, body, x, evidence), model.posteriors(x)
    together = model.infer_class(evidence.view(N, 3, 1, 28, 28))
    for k, wanted in enumerate((style, own, together)):
        same([each[k]["mean"] for each in found], wanted.mean)
        same([each[k]["logVar"] for each in found], wanted.log_var)
    same([each[3] for each in found], model.decode(style.mean, together.mean).sigmoid())


@pytest.mark.parametrize("name", named("Localisation"))
@torch.no_grad()
def test_localisation(lab, name):
    model, canvas = reference(name), rand(N, 1, 40, 40)
    body = "(m, x) => { const window = m.window(x); return [m.where(x), window, m.read(window)]; }"
    found, window = run(lab, name, body, canvas.flatten(1)), model(canvas)
    same([each[0] for each in found], model.where(canvas))
    same([each[1] for each in found], window.flatten(1))
    same([each[2] for each in found], model.reader.layers(window).softmax(1))


@pytest.mark.parametrize("name", named("AIR"))
@torch.no_grad()
def test_air_and_its_recurrent_step(lab, name):
    model, scenes = reference(name), rand(N, 1, 50, 50)
    seen = model.infer(scenes)
    found = run(lab, name, "(m, x) => m.infer(x)", scenes.flatten(1))
    same([each["counts"] for each in found], seen.count_log_probs.exp())
    for part, wanted in {"where": seen.where, "what": seen.what, "presence": seen.presence, "crop": seen.crops.flatten(2),
                         "canvas": seen.canvases.flatten(2)}.items():  # fmt: skip
        same([[step[part] for step in each["steps"]] for each in found], wanted)
    render = "(m, where, what) => m.render(where.map((at, k) => ({ where: at, what: what[k] })))"
    whole = model.render(seen.where, seen.what, torch.full((N,), 3)).flatten(1)
    same(run(lab, name, render, seen.where, seen.what), whole)
    projected, z, state = randn(N, 256), randn(N, 24, seed=1), randn(N, 256, seed=2)
    outputs, following = model.inference(projected, z, state)
    found = run(lab, name, "(m, p, z, state) => m.step(p, z, state)", projected, z, state)
    same([each["logit"] for each in found], outputs[:, 0])
    same([each["mean"] for each in found], outputs[:, 1:4])
    same([each["logVar"] for each in found], outputs[:, 4:].clamp(-8, 1))
    same([each["state"] for each in found], following)


@torch.no_grad()
def test_air_with_noise_and_with_a_window_that_is_moved(lab):
    model, scenes, noise = reference("air-exact"), rand(N, 1, 50, 50), randn(N, 3, 23)
    path = model.attend(scenes, noise)
    body = "(m, x, noise) => m.infer(x, { noise }).steps.map(({ where, what }) => [...where, ...what])"
    same(run(lab, "air-exact", body, scenes.flatten(1), noise.flatten(1)), model.place(path.z))
    moved = windows(N)
    body = "(m, x, at) => m.infer(x, { where: [null, at] }).steps.map(({ crop, where }) => [...where, ...crop])"
    steps = torch.tensor(run(lab, "air-exact", body, scenes.flatten(1), moved))
    crops = image_to_window(scenes, moved, 24).flatten(1)
    same(steps[:, 1].tolist(), torch.cat((moved, crops), 1))
    own = model.infer(scenes).where
    same(steps[:, 0, :3].tolist(), own[:, 0])  # what came before stays
    assert (steps[:, 2, :3] - own[:, 2]).abs().amax(1).gt(CLOSE).all()  # what comes after is inferred anew


def test_what_does_not_fit_is_refused_in_words(lab):
    tries = {
        "model.encode(new Float64Array(10))": "a layer's input must hold 784 numbers, got 10",
        "model.decode([1, 2], 3)": "z must hold 20 numbers, got 2",
        "model.decode(new Float64Array(20), 10)": "a class is one of 0 to 9, got 10",
        "model.decode(new Float64Array(20), [1, 0])": "y must hold 10 numbers, got 2",
        "model.layer('nothing')": "no layer is called nothing; there are: classifier.0.0,",
        "engine.ask(model, 'draw', [])": "a ConditionalVAE has no draw",
        "engine.open('picture')": "what can be opened is model or trainer, got picture",
        "engine.productOfExperts([])": "a product needs at least one expert, got none",
        "new engine.VAETrainer({ images: new Uint8Array(10) })": "images must hold 196 numbers each, got 10 in all",
    }
    packed = base64.b64encode(export.shipped_model("conditional-vae-retrained")).decode()
    for code, message in tries.items():
        function = f"""async (packed) => {{
            const model = engine.model(await inflate(packed));
            try {{ {code}; }} catch (error) {{ return error.message; }}
        }}"""
        assert str(lab(function, packed)).startswith(message), code


# Gradients and training


def grad(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def test_gradients_of_dense(lab):
    layer, x, weights = initialise(lambda: nn.Linear(37, 11), 0), randn(N, 37).requires_grad_(), randn(N, 11, seed=1)
    weight, bias, inputs = grad((layer(x) * weights).sum(), layer.weight, layer.bias, x)
    found = lab(
        "(layer, x, g, n) => engine.denseBack(layer, x, g, n)",
        as_layer(layer),
        x.detach().flatten(),
        weights.flatten(),
        N,
    )
    same(found["weight"], weight.flatten())
    same(found["bias"], bias)
    same(found["input"], inputs.flatten())
    less = lab(
        "(layer, x, g, n) => engine.denseBack(layer, x, g, n, false)",
        as_layer(layer),
        x.flatten(),
        weights.flatten(),
        N,
    )
    assert less == found | {"input": None}


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softmax"])
def test_gradients_of_activations(lab, name):
    x, weights = (3 * randn(N, 10)).requires_grad_(), randn(N, 10, seed=1)
    y = x.softmax(1) if name == "softmax" else getattr(torch, name)(x)
    call = f"(y, g, n) => engine.{name}Back(Float64Array.from(y), Float64Array.from(g), n)"
    same(lab(call, y.detach().flatten(), weights.flatten(), N), grad((y * weights).sum(), x)[0].flatten())


def test_gradients_of_reparameterisation(lab):
    mean, log_var, noise, weights = (randn(N, 2, seed=k) for k in range(4))
    q = DiagonalGaussian(mean.requires_grad_(), log_var.requires_grad_())
    wanted = grad((q.sample(noise) * weights).sum(), mean, log_var)
    found = lab(
        "(logVar, noise, g) => engine.reparameteriseBack({ logVar }, noise, Float64Array.from(g))",
        log_var.flatten(), noise.flatten(), weights.flatten(),
    )  # fmt: skip
    same(found["mean"], wanted[0].flatten())
    same(found["logVar"], wanted[1].flatten())


def test_losses_and_their_gradients(lab):
    logits, x = (3 * randn(N, 10)).requires_grad_(), rand(N, 10)
    loss = bernoulli_nll(logits, x).sum()
    found = lab("(logits, x) => engine.bernoulli(Float64Array.from(logits), x)", logits.flatten(), x.flatten())
    assert found["total"] == pytest.approx(loss.item(), rel=1e-5)
    same(found["gradient"], grad(loss, logits)[0].flatten())

    labels = torch.arange(N) % 10
    loss = F.cross_entropy(logits, labels, reduction="sum")
    found = lab("(logits, labels) => engine.crossEntropy(logits, labels)", logits.flatten(), labels)
    assert found["total"] == pytest.approx(loss.item(), rel=1e-5)
    same(found["gradient"], grad(loss, logits)[0].flatten())

    mean, log_var = randn(N, 2).requires_grad_(), randn(N, 2, seed=1).requires_grad_()
    loss = DiagonalGaussian(mean, log_var).kl().sum()
    found = lab("(mean, logVar) => engine.gaussianKl({ mean, logVar })", mean.flatten(), log_var.flatten())
    assert found["total"] == pytest.approx(loss.item(), rel=1e-5)
    for part, wanted in zip(("mean", "logVar"), grad(loss, mean, log_var), strict=True):
        same(found["gradient"][part], wanted.flatten())


STEPS, BATCH, EXAMPLES, KL_WEIGHT = 50, 64, 640, 0.7
CONFIG = VAEConfig(pixels=196, hidden_dim=64, latent_dim=2)


class WithNoise(VAE):
    """The library's VAE, whose noise is dealt out from what was drawn before."""

    dealt = iter(())

    def loss(self, batch, *, generator=None):
        return super().loss(batch, noise=next(self.dealt))


WAYS = {  # of training: what differs from the plain VAE, in PyTorch and in the page
    "plain": ({}, {}, {}),
    "neighbours": ({"teacher_forcing": True}, {}, {"neighbours": True}),
    "mean": ({}, {"bce": 1 / 196}, {"reduction": "mean"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_fifty_steps_in_the_page_are_those_of_fit(lab, way):
    choices, of_terms, options = WAYS[way]
    model = initialise(lambda: WithNoise(replace(CONFIG, **choices)), 0)
    images = rand(EXAMPLES, 1, 14, 14).round(decimals=2)
    noise = randn(STEPS, BATCH, 2, seed=5)
    start = {name: tensor.flatten().tolist() for name, tensor in model.state_dict().items()}
    numbers = Digits(images, torch.arange(EXAMPLES), "mnist", "none", "train")
    order = torch.Generator().manual_seed(3)  # as `fit` draws it from its seed
    rows = [batch.labels.tolist() for _ in range(STEPS // 10) for batch in numbers.batches(BATCH, order)]
    model.dealt = iter(noise)
    history = fit(model, numbers, epochs=STEPS // 10, batch_size=BATCH, learning_rate=3e-3,
                  weights={"kl": KL_WEIGHT} | of_terms, seed=3, progress=False)  # fmt: skip
    assert history.steps == STEPS
    found = lab(
        """(images, weights, rows, noise, klWeight, options) => {
            const trainer = new engine.VAETrainer({ images, weights, klWeight, learningRate: 3e-3, ...options });
            const terms = rows.map((row, k) => trainer.step(row, noise[k]));
            return [trainer.weights(), terms, trainer.codes([7, 3]), trainer.model.decode([1, -1], images.slice(0, 196))];
        }""",
        images.flatten(), start, rows, noise.flatten(1), KL_WEIGHT, options,
    )  # fmt: skip
    weights, terms, codes, drawn = found
    assert weights.keys() == start.keys()
    for name, tensor in model.state_dict().items():
        same(weights[name], tensor.flatten(), 1e-3)
    assert max(abs(a - b) for name in start for a, b in zip(weights[name], start[name], strict=True)) > 0.03
    for term in ("bce", "kl"):
        means = [sum(step[term] for step in terms[k : k + 10]) / 10 for k in range(0, STEPS, 10)]
        assert means == pytest.approx(history.curve(term), abs=1e-3)
    with torch.no_grad():
        q = model.encode(images[[7, 3]])
        same(codes["mean"], q.mean.flatten(), 1e-3)
        same(codes["logVar"], q.log_var.flatten(), 1e-3)
        same(drawn, model.decode(torch.tensor([[1.0, -1.0]]), images[:1].flatten(1)).sigmoid()[0], 1e-3)


@pytest.mark.parametrize("neighbours", [False, True])
def test_gradients_of_a_batch_are_those_of_pytorch(lab, neighbours):
    model = initialise(lambda: VAE(replace(CONFIG, teacher_forcing=neighbours)), 1)
    with torch.no_grad():
        if neighbours:
            model.neighbours.weight.copy_(randn(196, 196).tril(-1) / 50)
    images, noise = rand(N, 1, 14, 14), randn(N, 2, seed=2)
    terms = model.loss(Batch(images, torch.zeros(N, dtype=torch.long)), noise=noise)
    names = list(model.state_dict())
    wanted = grad((terms["bce"] / 196 + 3 * terms["kl"]).mean(), *model.parameters())
    found = lab(
        """(images, noise, weights, neighbours, n) => {
            const trainer = new engine.VAETrainer({ images, weights, neighbours, klWeight: 3, reduction: "mean" });
            const found = trainer.gradients(trainer.examples([...Array(n).keys()]), Float64Array.from(noise), n);
            const gradients = [...found.gradients, ...(neighbours ? [found.seen] : [])];
            return [found.bce, found.kl, gradients, Object.keys(trainer.weights())];
        }""",
        images.flatten(), noise.flatten(), {k: v.flatten().tolist() for k, v in model.state_dict().items()}, neighbours, N,
    )  # fmt: skip
    assert found[:2] == pytest.approx([terms[name].mean().item() for name in ("bce", "kl")], rel=1e-5)
    assert found[3] == names
    for ours, theirs in zip(found[2], wanted, strict=True):
        same(ours, theirs.flatten())


def test_the_instruments_are_those_of_pytorch(lab):
    labels = (10 * rand(300, seed=6)).long()
    images = (rand(300, 1, 14, 14, seed=4) * (labels[:, None, None, None] + 1) / 10 * 255).round() / 255
    digits = Digits(images, labels, "mnist", "none", "train")
    for choices in ({}, {"teacher_forcing": True}):
        model = initialise(lambda: VAE(replace(CONFIG, **choices)), 3)  # noqa: B023 (called at once)
        with torch.no_grad():
            model.mean.weight.mul_(20)
            if choices:
                model.neighbours.weight.copy_(randn(196, 196).tril(-1) / 50)
        wanted = collapse.gauge(model, digits)
        found = lab(
            """(images, labels, weights, neighbours) => {
                const trainer = new engine.VAETrainer({ images, labels, weights, neighbours });
                const [first, again] = [trainer.gauge(), trainer.gauge()], after = trainer.advance(0, {});
                const [a, b, c, d] = [first, again, first.kls, after.kls].map((value) => JSON.stringify(value));
                const same = a === b && c === d;
                return { ...first, means: [...first.means], same, sent: Object.keys(after.weights) };
            }""",
            images.flatten(), labels, {k: v.flatten().tolist() for k, v in model.state_dict().items()}, bool(choices),
        )  # fmt: skip
        assert found["same"] and ("neighbours.weight" in found["sent"]) == bool(choices)
        for name, value in wanted.items():
            assert found[name] == pytest.approx(value, abs=2e-4), name
        same(found["means"], model.encode(images).mean.detach().flatten())
        assert wanted["probe"] > wanted["control"] + 0.05


def test_a_picture_with_neighbours_is_drawn_pixel_after_pixel(lab):
    """Each pixel's chance, given those drawn before it, is the one that PyTorch's decoder has for the finished picture."""
    model = initialise(lambda: VAE(replace(CONFIG, teacher_forcing=True)), 1)
    with torch.no_grad():
        model.neighbours.weight.copy_(randn(196, 196).tril(-1) / 5)
    drawn, again, other, chances = lab(
        """(weights) => {
            const { model } = new engine.VAETrainer({ images: new Uint8Array(196), weights, neighbours: true });
            const next = generator(5);
            const chances = Array.from({ length: 196 }, () => next() / 4294967296);
            return [model.draw([1, 0], 5), model.draw([1, 0], 5), model.draw([1, 0], 6), chances];
        }""",
        {k: v.flatten().tolist() for k, v in model.state_dict().items()},
    )
    assert drawn == again != other and set(drawn) == {0, 1}
    with torch.no_grad():
        wanted = model.decode(torch.tensor([[1.0, 0.0]]), torch.tensor([drawn])).sigmoid()[0]
    assert drawn == [int(chance < p) for chance, p in zip(chances, wanted.tolist(), strict=True)]


def test_a_trainer_changes_its_ways_and_starts_again(lab):
    found = lab(
        """(images) => {
            const options = { images: Uint8Array.from(images), seed: 2, batch: 10, learningRate: 3e-3 };
            const one = new engine.VAETrainer(options), other = new engine.VAETrainer(options);
            const plain = [one.train(5), one.weights()];
            one.train(5, { neighbours: true, reduction: "mean", klWeight: 4 });
            const seen = one.weights()["neighbours.weight"], upper = seen.filter((_, k) => k % 196 >= Math.floor(k / 196));
            one.change({ neighbours: false });
            const gone = Object.keys(one.weights());
            one.restart({ seed: 2, learningRate: 3e-3, klWeight: 1, neighbours: false, reduction: "sum" });
            const again = [one.train(5), one.weights()];
            let refused = "";
            try { one.change({ reduction: "none" }); } catch (error) { refused = error.message; }
            const most = (values) => Math.max(...values.map(Math.abs));
            return [JSON.stringify(plain) === JSON.stringify(again), most(seen), most(upper), gone, refused];
        }""",
        (rand(30 * 196) * 255).round(),
    )
    assert found[0] and 0 < found[1] < 0.1 and found[2] == 0 and "neighbours.weight" not in found[3]
    assert found[4] == "reduction must be sum or mean, got none"


def test_training_is_decided_by_its_seed_and_learns(lab):
    bars = torch.zeros(256, 14, 14, dtype=torch.int64)
    for k in range(256):
        bars[k, k % 14, :] = 255
    train = """(images, seeds) => seeds.map((seed) => {
        const trainer = new engine.VAETrainer({ images: Uint8Array.from(images), seed, learningRate: 3e-3 });
        return [trainer.train(20), trainer.train(80), trainer.weights(), trainer.decode([0, 0])];
    })"""
    one, again, other = lab(train, bars.flatten(), [0, 0, 1])
    assert one == again and one[2] != other[2]
    assert one[0]["steps"] == 20 and one[1]["steps"] == 100
    assert one[1]["bce"] < one[0]["bce"] - 10 and one[1]["kl"] > 0
    assert len(one[3]) == 196 and all(0 < value < 1 for value in one[3])
    weight = torch.tensor(other[2]["encoder.0.weight"])
    assert weight.shape == (64 * 196,)


def test_new_weights_are_as_wide_as_pytorchs(lab):
    found = lab("(seed) => new engine.VAETrainer({ images: new Uint8Array(196), seed }).weights()", 4)
    for name, tensor in VAE(CONFIG).state_dict().items():
        assert len(found[name]) == tensor.numel()
    wide = torch.tensor(found["encoder.0.weight"])
    assert wide.abs().max() <= 196**-0.5 and wide.std() == pytest.approx((3 * 196) ** -0.5, rel=0.03)


# Workers

WORK = """async (packed) => {
    const network = await openModel(packed), here = engine.model(await inflate(packed)), z = new Float64Array(16).fill(0.5);
    const waits = [1, 2, 3, 4].map((k) => network.run("decode", z.map((value) => k * value)));
    const other = network.runAs("apart", "each", "decode", [[z], [z]]);
    const refused = await network.run("encode", [1]).catch((error) => error.message);
    const found = await Promise.all(waits), [first, second] = await other;
    const equal = (a, b) => a.length === b.length && a.every((value, k) => value === b[k]);
    const last = network.run("decode", z);
    network.close();
    return {
        where: network.where, stale: found.map((value) => value === null), refused,
        right: [1, 4].map((k) => equal(found[k - 1], here.decode(z.map((value) => k * value)))),
        each: equal(first, here.decode(z)) && equal(second, first), closed: [await last, await network.run("decode", z)],
    };
}"""
ANSWERS = {
    "stale": [False, True, True, False],  # the first was under way, and of those that waited the last was asked
    "refused": "a layer's input must hold 784 numbers, got 1",
    "right": [True, True],
    "each": True,
    "closed": [None, None],
}


@pytest.fixture
def fresh(browser, tmp_path):
    """fresh(before): a page of the engine's own, opened from a folder, after a script that changes what the browser has."""
    pages = []

    def open_page(before: str = ""):
        text = f"<!doctype html><meta charset=utf-8><title>x</title><script>{before}</script><script>{SOURCE}</script>"
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        pages.append(browser.new_page())
        pages[-1].goto((tmp_path / "page.html").as_uri())
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()


def packed_vae() -> str:
    return base64.b64encode(export.shipped_model("primer-kl-weight-1")).decode()


def test_heavy_work_runs_in_a_worker_also_from_the_folder(fresh):
    page = fresh()
    assert asked(page, WORK, packed_vae()) == {"where": "worker"} | ANSWERS
    assert page.url.startswith("file://")


@pytest.mark.parametrize(
    "before",
    [
        "delete window.Worker",
        "window.Worker = class { constructor() { throw new Error('not allowed'); } }",
        # as where a page's policy forbids it: there is an object, which only says that it has failed
        "window.Worker = class { constructor() { setTimeout(() => this.onerror({ preventDefault() {} })); } terminate() {} }",
    ],
)
def test_without_workers_it_runs_in_the_page(fresh, before):
    assert asked(fresh(before), WORK, packed_vae()) == {"where": "page"} | ANSWERS


def test_every_model_answers_from_a_worker(fresh):
    """The Worker's script holds all that a model uses."""
    calls = {
        "judge": "'judge', x(784)",
        "conditional-vae-fixed": "'decode', x(20), 3",
        "mix-and-match-best": "'prior', x(284)",
        "multi-level-vae-unnamed": "'encode', x(784)",
        "spatial-transformer-reader": "'window', x(1600)",
        "air-exact": "'infer', x(2500)",
    }
    page = fresh()
    for name, call in calls.items():
        function = f"""async (packed) => {{
            const x = (n) => Float64Array.from({{ length: n }}, (_, k) => (k % 7) / 7), network = await openModel(packed);
            const there = await network.run({call}), here = engine.ask(engine.model(await inflate(packed)), ...[{call}].reduce(
                ([name, args], value, k) => (k ? [name, [...args, value]] : [value, args]), [null, []]));
            network.close();
            return [network.where, JSON.stringify(there) === JSON.stringify(here)];
        }}"""
        assert asked(page, function, base64.b64encode(export.shipped_model(name)).decode()) == ["worker", True], name


def test_training_in_a_worker_is_training_in_the_page(fresh):
    function = """async () => {
        const images = Uint8Array.from({ length: 100 * 196 }, (_, k) => (k * 7919) % 256), options = { images, seed: 2 };
        const there = await openTrainer(options), here = new engine.VAETrainer(options);
        const found = [await there.run("train", 5), await there.run("train", 5, { klWeight: 3 }), await there.run("weights")];
        return [found, [here.train(5), here.train(5, { klWeight: 3 }), here.weights()]];
    }"""
    there, here = asked(fresh(), function)
    assert there == here and there[1]["steps"] == 10


def test_a_file_that_is_none_is_refused(fresh):
    function = """(packed) => openModel(packed).then(() => "opened", (error) => error.name)"""
    assert asked(fresh(), function, base64.b64encode(b"no model").decode()) == "TypeError"


# How a model comes into a page


class Toy(ModelFigure):
    """A figure that runs the judge on a white image."""

    _name = "toy"
    _saved = ("network", "caption")
    network = traitlets.Bytes().tag(sync=True)

    def still(self) -> Drawing:
        return Drawing(figsize=(1, 1))

    def describe(self) -> str:
        return "nothing"


MODULE = """function render({ model, el }) {
  openModel(model.get("network")).then(async (network) => {
    const shares = await network.run("judge", new Float64Array(784).fill(1));
    el.dataset.shown = [network.where, ...shares].join(" ");
  });
}
export default { render };
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Two pages with figures that name a model, made light and bundled as the site's builder does."""
    out, widgets = tmp_path_factory.mktemp("book"), tmp_path_factory.mktemp("widgets")
    for name in offline_site.SHARED:
        shutil.copy(offline_site.WIDGETS / name, widgets)
    (widgets / "toy.js").write_text(MODULE, encoding="utf-8")
    boot = offline_site.classic((EXT / "boot.js").read_text(encoding="utf-8"))
    (out / "boot.js").write_text(boot, encoding="utf-8")
    made, saved = light.Pages(out, {}, out, widgets), Toy(network=export.shipped_model("judge")).to_html()
    assert "{&quot;model&quot;:&quot;judge&quot;}" in saved
    for name in ("one", "two"):
        page = f"<!doctype html><html><head><title>{name}</title></head><body><main>{saved}{saved}</main></body></html>"
        page = made.lighten(page, name).replace("</head>", '<script defer src="boot.js"></script></head>')
        (out / f"{name}.html").write_text(page, encoding="utf-8")
    return out


def test_one_file_for_all_figures_and_pages_that_name_a_model(book):
    (file,) = (book / light.STATES).iterdir()
    packed = export.shipped_model("judge")
    registered = f'(window.latentbookStates??={{}})["{file.stem}"]="{base64.b64encode(packed).decode()}";\n'
    assert file.read_text(encoding="utf-8") == registered
    for name in ("one", "two"):
        page = (book / f"{name}.html").read_text(encoding="utf-8")
        assert page.count(f'data-later="network={light.STATES}/{file.name}"') == 2
        assert page.count('data-size="35"') == 2 and "judge" not in re.sub(r"<img[^>]*>", "", page)


@pytest.mark.parametrize("home", ["http", "folder"])
def test_a_figure_gets_the_model_that_it_names(browser, book, home):
    with harness.serve(book) as served:
        page, asked_for, held = browser.new_page(), [], []
        page.on("request", lambda request: asked_for.append(request.url))
        page.route("**/states/*.js", lambda route: held.append(route))
        page.goto((served if home == "http" else book.as_uri() + "/") + "one.html")
        note = page.get_by_role("status").first
        note.wait_for()
        assert note.inner_text() == "Loading the model: 35 kB, it runs here …"
        assert harness.becomes(lambda: (page.evaluate("0"), len(held)), (0, 1))
        held[0].continue_()
        page.locator(".lb-live [data-shown]").nth(1).wait_for(state="attached")
        shown = page.locator(".lb-live [data-shown]").evaluate_all("all => all.map((e) => e.dataset.shown)")
        with torch.no_grad():
            shares = reference("judge")(torch.ones(1, 1, 28, 28)).softmax(1)[0]
        assert len(shown) == 2 and len([url for url in asked_for if "/states/" in url]) == 1
        for text in shown:
            where, *values = text.split()
            assert where == "worker"
            same([float(value) for value in values], shares)
        assert note.count() == 0
        page.close()


def test_a_notebook_runs_the_same_engine_in_a_worker(fresh):
    page, source = fresh(), base.compose("engine", ".js", "sampling") + MODULE
    state = {"network": base64.b64encode(export.shipped_model("judge")).decode()}
    harness.start_module(page, source, state)
    shown = page.locator("[data-shown]")
    shown.wait_for(state="attached")
    where, *values = shown.get_attribute("data-shown").split()
    assert where == "worker"
    with torch.no_grad():
        same([float(value) for value in values], reference("judge")(torch.ones(1, 1, 28, 28)).softmax(1)[0])


def test_a_model_that_is_not_shipped_stops_the_build(tmp_path):
    with pytest.raises(ValueError, match="no shipped model is called 'otter'; there are: air-exact"):
        light.Pages(tmp_path, {}, tmp_path).outside({"network": {"model": "otter"}}, "")


def test_the_builder_needs_no_pytorch():
    code = "import sys, light; print(len(light.exporter().shipped_model('judge')) > 0, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXT, capture_output=True, text=True)
    assert done.stdout == "True False\n", done.stderr


def test_a_page_is_written_anew_when_a_models_weights_change(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"one")
    before = offline_site.fingerprint((tmp_path,))
    (tmp_path / "a.safetensors").write_bytes(b"two")
    assert offline_site.fingerprint((tmp_path,)) != before
    assert offline_site.WEIGHTS == export.WEIGHTS
