"""EvidenceFigure: what it keeps of images and posteriors, the decoder it packs, its still picture, and what it refuses."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Ellipse
from PIL import Image

from latentbook.layers.distributions import DiagonalGaussian, product_of_experts
from latentbook.models.multi_level_vae import MultiLevelVAE, MultiLevelVAEConfig
from latentbook.training.loop import initialise
from latentbook.widgets import EvidenceFigure
from latentbook.widgets.base import render_png
from latentbook.widgets.decoders import decode, pack_decoder

SETS, N, STYLES, DIM = 2, 6, 3, 5
CONFIG = MultiLevelVAEConfig(hidden_dim=40, style_dim=4, class_dim=DIM, init_std=0.4)
DECODER = initialise(lambda: MultiLevelVAE(CONFIG), 0).decoder


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


GIVEN = {
    "images": pictures(SETS, N, 28, 28),
    "mean": normal(SETS, N, DIM),
    "log_var": normal(SETS, N, DIM, seed=1).sub(2),
    "names": ["sevens", "a mixture"],
    "centres": normal(10, DIM, seed=2),
    "styles": pictures(STYLES, 28, 28, seed=1),
    "style_codes": normal(STYLES, 4, seed=3),
    "decoder": DECODER.parameters,
}


def build(**changes) -> EvidenceFigure:
    choices = {**GIVEN, **changes}
    if callable(choices["decoder"]):
        choices["decoder"] = choices["decoder"]()  # parameters() can be gone through once
    return EvidenceFigure(**choices)


def bytes_of(values: torch.Tensor) -> np.ndarray:
    return (values.double() * 255).round().to(torch.uint8).numpy()


def exact_decoding(style_codes: torch.Tensor, class_code: torch.Tensor) -> np.ndarray:
    rows = torch.cat((style_codes, class_code.expand(len(style_codes), -1).float()), 1)
    return DECODER(rows).sigmoid().detach().numpy()


def test_lists_arrays_and_tensors_are_taken_alike():
    lists = {name: GIVEN[name].tolist() for name in ("images", "mean", "log_var", "centres", "styles", "style_codes")}
    lists["decoder"] = [part.tolist() for part in DECODER.parameters()]
    arrays = {name: np.asarray(value) for name, value in lists.items() if name != "decoder"}
    assert build(**lists).state() == build(**arrays).state() == build().state()


def test_the_pictures_are_kept_to_the_byte_and_in_order():
    figure = build()
    for i, name in enumerate(GIVEN["names"]):
        figure.evidence = name
        images, styles = figure.pictures()
        assert np.array_equal(images, bytes_of(GIVEN["images"][i]))
        assert np.array_equal(styles, bytes_of(GIVEN["styles"]))


def test_the_state_is_plain_and_reaches_the_notebook():
    state = build().state()
    assert set(state) == set(EvidenceFigure._saved) and json.loads(json.dumps(state)) == state
    assert all(build().trait_metadata(name, "sync") for name in EvidenceFigure._saved)


def test_it_starts_with_half_of_the_first_set_or_as_told():
    assert (build().evidence, build().used, build().combination) == ("sevens", [0, 1, 2], "product")
    assert build(k=0).used == [] and build(k=N).used == list(range(N))
    assert build(exact=True).combination == "exact"
    assert build().labels == [str(i) for i in range(10)]


def test_choices_outside_are_refused_later_too():
    figure = build()
    figure.used = [5, 1, 1]
    assert figure.used == [1, 5]
    with pytest.raises(traitlets.TraitError, match="used must lie between 0 and 5, got \\[6\\]"):
        figure.used = [6]
    with pytest.raises(traitlets.TraitError, match="evidence must be one of \\['sevens', 'a mixture'\\], got 'nine'"):
        figure.evidence = "nine"
    figure.used = list(np.arange(2))
    assert figure.used == [0, 1] and json.dumps(figure.state()) and build(k=np.int64(1)).used == [0]
    with pytest.raises(traitlets.TraitError, match="combination"):
        figure.combination = "sum"


@pytest.mark.parametrize("combination", ["product", "exact"])
@pytest.mark.parametrize("used", [[0], [1, 4], list(range(N))])
def test_the_images_in_use_are_combined_as_in_the_library(combination, used):
    figure = build()
    figure.evidence = "a mixture"
    experts = DiagonalGaussian(*(GIVEN[name][1, used].double() for name in ("mean", "log_var")))
    zeros = torch.zeros(DIM, dtype=torch.float64)
    prior = DiagonalGaussian(zeros, zeros) if combination == "exact" else None
    expected = product_of_experts(experts, torch.zeros(len(used), dtype=torch.long), prior)
    found = figure.combined(used, combination)
    assert torch.allclose(found.mean, expected.mean, atol=1e-4)
    assert torch.allclose(found.log_var, expected.log_var, atol=1e-4)


def test_without_evidence_there_is_the_prior_and_wide_experts_have_no_exact_combination():
    figure = build(log_var=torch.full((SETS, N, DIM), 2.0))
    for combination in ("product", "exact"):
        found = figure.combined([], combination)
        assert not found.mean.any() and not found.log_var.any()
    assert figure.combined([0], "exact") is not None  # one image's posterior is what it is
    assert figure.combined([0, 1], "product") is not None
    assert figure.combined([0, 1], "exact") is None


def test_the_plane_goes_through_the_code_and_the_two_nearest_centres():
    figure = build(k=2)
    code, centres = figure.combined(figure.used, "product").mean[0].numpy(), np.asarray(figure.centres)
    plane, near = figure.drawn_plane(), figure.nearest_two(code)
    assert np.allclose(plane @ plane.T, np.eye(2))
    far, drawn = (np.linalg.norm(part, axis=1) for part in (centres - code, (centres - code) @ plane.T))
    assert (
        sorted(near) == sorted(far.argsort()[:2])
        and np.allclose(drawn[near], far[near])
        and (drawn <= far + 1e-9).all()
    )
    assert np.array_equal(build(k=0).drawn_plane(), np.asarray(build().plane))  # without evidence there is none
    given = normal(2, DIM)
    assert np.array_equal(build(plane=given, k=2).drawn_plane(), np.asarray(build(plane=given).plane))


def test_without_evidence_the_directions_drawn_are_the_principal_ones_of_the_centres():
    plane = np.asarray(build().plane)
    centres = GIVEN["centres"] - GIVEN["centres"].mean(0)
    _, vectors = torch.linalg.eigh(centres.T @ centres)
    assert np.allclose(abs(plane @ vectors[:, [-1, -2]].numpy()), np.eye(2), atol=1e-4)
    assert build(plane=normal(2, DIM)).plane == [[round(float(v), 5) for v in row] for row in normal(2, DIM).double()]


def test_the_packed_decoder_decodes_as_the_model_does():
    figure, worst = build(), 0.0
    for used in ([0], [1, 2], [0, 3, 4, 5], list(range(N))):
        together = figure.combined(used, "product").mean
        found = decode(figure.decoder, STYLES, together[0].numpy(), 784)
        worst = max(worst, abs(found - exact_decoding(GIVEN["style_codes"], together)).max())
    assert 0 < worst < 0.02


def test_the_reproductions_decoder_fits_into_a_page():
    decoder = initialise(MultiLevelVAE, 0).decoder
    packed = pack_decoder(list(decoder.parameters()), np.zeros((2, 10)), 10, 784)
    assert len(packed) * 4 / 3 < 500_000


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**31))
def test_decoders_of_any_size_are_packed(styles, dim, hidden, pixels, seed):
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(hidden, 2 + dim)), random.normal(size=(pixels, hidden)) / hidden
    biases, codes, code = random.normal(size=hidden), random.normal(size=(styles, 2)), random.normal(size=dim)
    packed = pack_decoder([first, biases, second, np.zeros(pixels)], codes, dim, pixels)
    rows = np.concatenate((codes, np.tile(code, (styles, 1))), 1)
    expected = 1 / (1 + np.exp(-np.tanh(rows @ first.T + biases) @ second.T))
    found = decode(packed, styles, code, pixels)
    assert found.shape == (styles, pixels) and np.allclose(found, expected, atol=0.02)


def test_a_hidden_unit_without_weights_is_no_trouble():
    packed = pack_decoder([np.ones((1, 2)), np.zeros(1), np.zeros((4, 1)), np.zeros(4)], np.ones((1, 1)), 1, 4)
    assert np.array_equal(decode(packed, 1, np.ones(1), 4), np.full((1, 4), 0.5))


def test_each_column_is_redrawn_with_all_images_in_use_up_to_it():
    figure = build()
    figure.used = [1, 2, 5]
    columns = figure.columns().astype(int)
    for k, column in ((1, 1), (2, 2), (3, 5)):
        code = figure.combined([1, 2, 5][:k], "product").mean
        expected = 255 * exact_decoding(GIVEN["style_codes"], code).reshape(STYLES, 28, 28)
        assert abs(columns[:, column] - expected).max() < 0.02 * 255 + 0.5
    assert not columns[:, [0, 3, 4]].any()


def test_the_still_picture_shows_evidence_styles_and_what_is_redrawn():
    figure = build()
    figure.used = [0, 3]
    evidence, styles, redrawn, _ = figure.still().axes
    shown = np.asarray(evidence.images[0].get_array())[1:29]
    assert np.array_equal(shown[:, 91:119], bytes_of(GIVEN["images"])[0, 3])
    assert shown[:, 31:59].max() < 0.31 * 255  # what is left out is faint
    assert [text.get_text() for text in evidence.get_xticklabels()] == ["1", "–", "–", "2", "–", "–"]
    assert np.array_equal(np.asarray(styles.images[0].get_array())[31:59, 1:29], bytes_of(GIVEN["styles"])[1])
    assert np.array_equal(np.asarray(redrawn.images[0].get_array())[31:59, 91:119], figure.columns()[1, 3])


def test_an_ellipse_holds_two_standard_deviations_of_the_projected_gaussian():
    plane = normal(2, DIM, seed=5)
    figure = build(plane=plane, k=2)
    ellipses = [patch for patch in figure.still().axes[3].patches if isinstance(patch, Ellipse)]
    assert len(ellipses) == N + 3  # each image, the prior, both combinations
    for patch, found in zip(
        ellipses[N:],
        [figure.combined([], "product"), figure.combined([0, 1], "product"), figure.combined([0, 1], "exact")],
        strict=True,
    ):
        plane64 = torch.tensor(figure.plane, dtype=torch.float64)
        covariance = plane64 @ torch.diag(found.log_var[0].exp()) @ plane64.T
        edge = patch.get_patch_transform().transform(patch.get_path().vertices[::3])  # between them, controls
        away = torch.as_tensor(edge) - plane64 @ found.mean[0]
        assert torch.allclose((away @ covariance.inverse() * away).sum(1), torch.tensor(4.0).double(), atol=1e-3)


def test_what_does_not_exist_is_said_in_place_of_its_ellipse():
    figure = build(log_var=torch.full((SETS, N, DIM), 2.0), exact=True)
    axes = figure.still().axes[3]
    assert len(axes.patches) == N + 2
    assert "exact: does not exist here" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert figure.columns()[:, 0].any() and not figure.columns()[:, 1:].any()


@pytest.mark.parametrize("changes", [{}, {"k": 0}, {"images": pictures(SETS, N, 28, 28)[:, :1]}])
def test_nothing_in_the_still_picture_is_cut_or_laid_over_another(changes):
    few = {name: GIVEN[name][:, :1] for name in ("mean", "log_var")} if "images" in changes else {}
    still = build(**changes, **few).still()
    png = np.asarray(Image.open(io.BytesIO(render_png(still))).convert("L"))
    assert min(png[0].min(), png[-1].min(), png[:, 0].min(), png[:, -1].min()) == 255
    boxes = [axes.get_tightbbox() for axes in still.axes]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


def test_it_says_what_its_picture_shows():
    figure = build(k=1, styles=GIVEN["styles"][:1], style_codes=GIVEN["style_codes"][:1])
    width = GIVEN["log_var"][0, 0].div(2).exp().mean()
    nearest = (GIVEN["centres"] - GIVEN["mean"][0, 0]).square().sum(1).argmin()
    assert f"1 of {N} images (sevens) are in use, and 1 other image is redrawn" in figure.describe()
    assert f"a mean standard deviation of {width:.2f} where the prior has 1, and nearest to the {nearest}." in (
        figure.describe()
    )


def test_the_saved_output_is_the_same_every_time():
    first, again = (build()._repr_mimebundle_()[0] for _ in range(2))
    assert first["text/plain"] == "EvidenceFigure()"
    for kind in ("text/html", "text/plain", "image/png"):
        assert first[kind] == again[kind]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": GIVEN["images"][0]}, "images must have shape [sets, n, height, width], nothing empty"),
        ({"images": GIVEN["images"] * 2}, "images must hold grey values in [0, 1] without NaN, got"),
        ({"images": pictures(1, 11, 28, 28)}, "a set has room for 10 images, got 11: leave some out"),
        ({"mean": GIVEN["mean"][:1]}, "mean must have shape [2, 6, class], nothing empty, got [1, 6, 5]"),
        ({"log_var": GIVEN["log_var"][..., :4]}, "log_var must have shape [2, 6, 5], nothing empty, got [2, 6, 4]"),
        ({"log_var": GIVEN["log_var"] / 0}, "log_var must be finite, got 60 values that are NaN or infinite"),
        ({"centres": GIVEN["centres"][:, :4]}, "centres must have shape [digits, 5], nothing empty, got [10, 4]"),
        ({"plane": normal(3, DIM)}, "plane must have shape [2, 5], nothing empty, got [3, 5]"),
        (
            {"styles": GIVEN["styles"][:, :20]},
            "styles must have shape [styles, 28, 28], nothing empty, got [3, 20, 28]",
        ),
        (
            {"style_codes": GIVEN["style_codes"][:2]},
            "style_codes must have shape [3, style], nothing empty, got [2, 4]",
        ),
        ({"names": ["sevens"]}, "names must hold one text for each set of images, 2 of them or none, got 1"),
        ({"names": ["sevens"] * 2}, "names must be 2 different ones, one for each set of images, got ['sevens',"),
        ({"labels": "ab"}, "labels must hold one text for each centre, 10 of them or none, got 1: ['ab']"),
        ({"k": 7}, "k must be a whole number between 0 and 6, got 7"),
        (
            {"decoder": list(DECODER)},
            "decoder must hold two layers' weights and biases, 4 tensors, got 3: give model.decoder.parameters()",
        ),
        (
            {"style_codes": normal(STYLES, 3)},
            "the decoder's first weight must have shape [hidden, 8], nothing empty, got [40, 9]",
        ),
        (
            {"decoder": [*list(DECODER.parameters())[:2], normal(700, 40), normal(700)]},
            "the decoder's second weight must have shape [784, 40], nothing empty, got [700, 40]",
        ),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_would(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**changes)
