"""The localisation network: its scenes, its first window, what each term asks for, and where its gradient comes from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from latentbook.data.digits import Batch, load_digits
from latentbook.layers.spatial_transformer import box_corners, image_to_window, window_to_image
from latentbook.models.localisation import WINDOW, Localisation, LocalisationConfig, Reader, place
from latentbook.training.loop import fit, initialise, load_weights, save_weights


@pytest.fixture(scope="module")
def batch() -> Batch:
    digits = load_digits("test", source="offline")
    return Batch(digits.images[:64], digits.labels[:64])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(**choices) -> Localisation:
    return initialise(lambda: Localisation(LocalisationConfig(hidden_dim=16, **choices)), 0)


def test_a_scene_holds_the_whole_digit_at_its_where(batch):
    model = build()
    many = batch.images.repeat(20, 1, 1, 1)
    canvas, where = model.scene(many, seeded())
    assert canvas.shape == (1280, 1, 40, 40) and where.shape == (1280, 3)
    assert torch.equal(canvas, window_to_image(many, where, 40))
    boxes = box_corners(where, 40)
    assert boxes.min() > -1e-4 and boxes.max() < 40 + 1e-4  # no digit is cut
    sizes = boxes[:, 2] - boxes[:, 0]
    assert 14 <= sizes.min() < 14.2 and 35.8 < sizes.max() <= 36.0001
    assert sizes.mean() == pytest.approx(25, abs=0.7)  # uniform
    small = sizes < 16
    centres = (boxes[small, :2] + boxes[small, 2:]) / 2
    assert centres.min() < 9 and centres.max() > 31  # small ones come near the border on every side
    ink = canvas.sum((1, 2, 3)) / many.sum((1, 2, 3))  # interpolation keeps ink by area
    assert (ink / (sizes / WINDOW) ** 2).mean() == pytest.approx(1, abs=0.02)


def test_scenes_follow_the_generator(batch):
    model = build()
    first, again, other = (model.scene(batch.images, seeded(s))[1] for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("start_scale", [1.2, 1.5, 4.0])
def test_the_first_window_is_the_same_everywhere(start_scale, batch):
    model = build(start_scale=start_scale)
    canvas, _ = model.scene(batch.images, seeded())
    expected = torch.tensor([start_scale, 0.0, 0.0]).expand(64, 3)
    torch.testing.assert_close(model.where(canvas), expected)
    assert model(canvas[:1]).shape == (1, 1, WINDOW, WINDOW)


def test_no_window_leaves_the_canvas(batch):
    """However wild the network: the centre stays on the canvas and the window is smaller than it."""
    model = build()
    torch.nn.init.normal_(model.network[-1].weight, std=30.0, generator=seeded())
    canvas, _ = model.scene(batch.images, seeded())
    scale, centre = place(model.where(canvas)).split([1, 2], 1)
    assert (scale >= 0).all() and (centre.abs() <= 1 + 1e-5).all() and centre.abs().max() > 0.9


def test_the_whole_canvas_is_the_identity(batch):
    model = build(looks="whole")
    canvas, _ = model.scene(batch.images, seeded())
    shrunk = F.interpolate(canvas, size=WINDOW, mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(canvas), shrunk)


def test_place_is_log_scale_and_centre():
    where = torch.tensor([[2.0, -0.6, 0.5], [1.0, 0.0, 0.25]])
    torch.testing.assert_close(place(where), torch.tensor([[math.log(2), 0.3, -0.25], [0.0, 0.0, -0.25]]))


def test_the_terms_are_what_they_are_called(batch, monkeypatch):
    """With the network's answer in our hands each term can be worked out."""
    model = build()
    canvas, true = model.scene(batch.images, seeded())
    monkeypatch.setattr(model, "where", lambda canvas: true * 1.2)  # the same centre, a smaller window
    terms = model.loss(batch, generator=seeded())
    assert {name: term.shape for name, term in terms.items()} == dict.fromkeys(
        ("cross_entropy", "pixels", "where"), (64,)
    )
    torch.testing.assert_close(terms["where"], torch.full((64,), math.log(1.2) ** 2))
    window = image_to_window(canvas, true * 1.2, WINDOW)
    torch.testing.assert_close(terms["pixels"], (window - batch.images).square().sum((1, 2, 3)))
    expected = F.cross_entropy(model.reader(window), batch.labels, reduction="none")
    torch.testing.assert_close(terms["cross_entropy"], expected)
    monkeypatch.setattr(model, "where", lambda canvas: true)
    right = model.loss(batch, generator=seeded())
    assert (right["where"] == 0).all() and right["pixels"].mean() < 0.5 * terms["pixels"].mean()


@pytest.mark.parametrize("term", ["cross_entropy", "pixels", "where"])
def test_every_term_reaches_the_network_and_none_a_fixed_reader(term, batch):
    model = build()
    model.loss(batch, generator=seeded())[term].mean().backward()
    assert model.network[-1].weight.grad.abs().max() > 0 and model.network[-1].bias.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in model.reader.parameters())


def test_a_window_that_sees_nothing_teaches_nothing_unless_it_is_told_where(batch):
    model = build(start_scale=20.0)  # two pixels
    with torch.no_grad():
        model.network[-1].bias[1:] = 3.0  # in the corner
    empty = Batch(batch.images * (torch.arange(28) < 14), batch.labels)  # digits with an empty right half
    terms = model.loss(empty, generator=seeded())
    for name in ("cross_entropy", "pixels"):
        (gradient,) = torch.autograd.grad(terms[name].sum(), model.network[-1].bias, retain_graph=True)
        assert (gradient == 0).all(), name
    (gradient,) = torch.autograd.grad(terms["where"].sum(), model.network[-1].bias)
    assert (gradient != 0).all()


def test_a_learning_reader_learns(batch):
    model = build(reader_learns=True)
    model.loss(batch, generator=seeded())["cross_entropy"].mean().backward()
    assert all(parameter.grad is not None for parameter in model.reader.parameters())


def test_the_reader_reads_digits_as_they_are():
    digits, test = (load_digits(split, source="offline") for split in ("train", "test"))
    reader = initialise(Reader, 0)
    assert reader(test.images[:1]).shape == (1, 10)
    fit(reader, digits, epochs=5, batch_size=50, learning_rate=3e-3, progress=False)
    assert (reader(test.images).argmax(1) == test.labels).float().mean() > 0.93


def test_a_network_finds_the_digits_by_their_pixels():
    """In seconds on small digits: the true centre from pixels alone, nobody having told it."""
    digits, test = (load_digits(split, source="offline") for split in ("train", "test"))
    model = initialise(lambda: Localisation(LocalisationConfig(hidden_dim=64)), 0)
    canvas, true = model.scene(test.images, seeded(1))

    def error() -> float:
        with torch.no_grad():
            return float((place(model.where(canvas)) - place(true))[:, 1:].norm(dim=1).mean())

    before = error()
    weights = {"cross_entropy": 0.0, "where": 0.0}
    fit(model, digits, epochs=6, batch_size=50, learning_rate=4e-3, weights=weights, progress=False)
    assert error() < 0.6 * before


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"looks": "around"}, "looks must be one of window, whole, got 'around'"),
        ({"smallest": 0.0}, "0 < smallest <= largest <= canvas=40 pixels, got 0.0, 36.0"),
        ({"smallest": 38.0}, "got 38.0, 36.0"),
        ({"largest": 41.0}, "got 14.0, 41.0"),
        ({"start_scale": 1.0}, "start_scale must be a finite number above 1, got 1.0"),
        ({"start_scale": float("nan")}, "got nan"),
    ],
)
def test_a_configuration_that_makes_no_sense(choices, message):
    with pytest.raises(ValueError, match=message):
        build(**choices)


@pytest.mark.parametrize(
    "cast", [torch.Tensor.bool, torch.Tensor.byte, torch.Tensor.half, torch.Tensor.numpy, torch.Tensor.tolist]
)
def test_digits_of_any_type_give_the_loss_of_their_floats(cast, batch, plain):
    model, images = build(reader_learns=True), batch.images.round()
    expected = model.loss(Batch(images, batch.labels), generator=seeded())
    for labels in (batch.labels, batch.labels.to(torch.uint8), batch.labels.numpy(), batch.labels.tolist()):
        found = model.loss(Batch(cast(images), labels), generator=seeded())
        assert all(torch.equal(found[name], term) for name, term in expected.items())
    read = model.reader.loss(Batch(cast(images), batch.labels))["cross_entropy"]
    assert torch.equal(read, model.reader.loss(Batch(images, batch.labels))["cross_entropy"])


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_the_networks_precision_is_that_of_all_it_gives(precision, batch):
    model, images = build(reader_learns=True).to(precision), batch.images.round().to(precision)
    terms = model.loss(Batch(images, batch.labels), generator=seeded())
    assert {term.dtype for term in terms.values()} == {precision}
    sum(term.mean() for term in terms.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    canvas, where = model.scene(images, seeded())
    assert {canvas.dtype, where.dtype, model(canvas).dtype, model.reader(model(canvas)).dtype} == {precision}


def test_a_network_where_torch_is_double_by_default(batch, double_by_default):
    model = build()
    terms = model.loss(batch, generator=seeded())  # float32 digits, which float64 holds exactly
    assert {term.dtype for term in terms.values()} == {torch.float64}
    assert model(model.scene(batch.images)[0]).dtype == torch.float64


def test_sizes_may_be_numpys(tmp_path):
    config = LocalisationConfig(canvas=np.int64(41), largest=np.float64(36), hidden_dim=np.uint8(16))
    assert config == LocalisationConfig(canvas=41, hidden_dim=16) and type(config.canvas) is int
    model = Localisation(config)
    save_weights(tmp_path / "model.safetensors", model)
    again = load_weights(tmp_path / "model.safetensors", lambda config: Localisation(LocalisationConfig(**config)))
    assert again.config == config
    assert model(torch.zeros(1, 1, 41, 41)).shape == (1, 1, WINDOW, WINDOW)  # an odd canvas: its last row is left out


MODEL = build()
DIGIT, LABEL, CANVAS = torch.ones(2, 1, 28, 28), torch.tensor([1, 2]), torch.ones(2, 1, 40, 40)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LocalisationConfig(canvas=(40, 50)), "canvas must be a whole .*one number stands for height and width"),
        (lambda: LocalisationConfig(canvas=1, smallest=0.5, largest=1), "canvas must be a whole number at least 2, got 1"),
        (lambda: LocalisationConfig(canvas=True), "canvas must be a whole number at least 2, got True"),
        (lambda: LocalisationConfig(hidden_dim=3), "hidden_dim must be a whole number at least 4, got 3"),
        (lambda: LocalisationConfig(smallest="14"), "smallest must be a finite number, got '14'"),
        (lambda: LocalisationConfig(reader_learns="no"), "reader_learns must be True or False, got 'no'"),
        (lambda: Localisation(None), "config must be a LocalisationConfig, got None"),
        (lambda: Reader(0), "hidden_dim must be a whole number at least 1, got 0"),
        (lambda: MODEL.loss(None), "batch must have images and labels, got None"),
        (lambda: MODEL.loss([DIGIT, LABEL]), "batch must have images and labels, got a list"),
        (lambda: MODEL.loss(Batch(255 * DIGIT, LABEL)), "got 255 to 255: divide bytes by 255"),
        (lambda: MODEL.loss(Batch(255 * DIGIT.byte(), LABEL)), "got 255 to 255: divide bytes by 255"),
        (lambda: MODEL.loss(Batch(DIGIT * math.nan, LABEL)), "without NaN"),
        (lambda: MODEL.loss(Batch(DIGIT.double(), LABEL)), "float64, which float32 would round"),
        (lambda: MODEL.loss(Batch(torch.ones(2, 1, 20, 30), LABEL)), "a digit has 28 x 28 pixels here"),
        (lambda: MODEL.loss(Batch(DIGIT, LABEL[:1])), r"labels must be \[2\], one for each example, got \[1\]"),
        (lambda: MODEL.loss(Batch(DIGIT, LABEL.unsqueeze(1))), r"got \[2, 1\]: flatten it"),
        (lambda: MODEL.loss(Batch(DIGIT, [1, 10])), r"labels must be class numbers 0\.\.9, got 1\.\.10"),
        (lambda: MODEL.loss(Batch(DIGIT, [1, -100])), "got -100"),
        (lambda: MODEL.loss(Batch(DIGIT, LABEL.float())), "labels must be whole numbers"),
        (lambda: MODEL.loss(Batch(DIGIT, LABEL), generator=0), "generator must be a torch.Generator or None, got an int"),
        (lambda: MODEL.scene(DIGIT[:, 0]), r"images must have shape \[batch, 1, 28, 28\]"),
        (lambda: MODEL.where(255 * CANVAS), "canvas must hold grey values"),
        (lambda: MODEL(CANVAS * math.nan), "canvas must hold grey values"),
        (lambda: MODEL(torch.ones(2, 1, 50, 50)), "another size needs another LocalisationConfig"),
        (lambda: MODEL(torch.ones(2, 1, 40, 50)), r"canvas must have shape \[batch, 1, 40, 40\]"),
        (lambda: MODEL.reader(torch.ones(2, 1, 40, 40)), "a digit has 28 x 28 pixels here"),
        (lambda: MODEL.reader.loss(Batch(DIGIT, [1, 10])), r"labels must be class numbers 0\.\.9, got 1\.\.10"),
    ],
)  # fmt: skip
def test_what_the_network_cannot_take_is_refused_in_words(plain, call, message):
    with pytest.raises(ValueError, match=message):
        call()
