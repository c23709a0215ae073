"""RelabelFigure: what it keeps of digits, decodings and verdicts, its still picture and words, and what it refuses."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from latentbook.widgets import RelabelFigure
from latentbook.widgets.base import render_png

N, COUNT = 3, 10
SOURCES = torch.rand(N, 28, 28, generator=torch.Generator().manual_seed(0))
DECODINGS = {
    name: torch.rand(N, COUNT, 28, 28, generator=torch.Generator().manual_seed(seed))
    for seed, name in enumerate(("as published", "mended"), 1)
}
VERDICTS = {"as published": torch.tensor([[4] * 10, [7] * 10, [9] * 10]), "mended": torch.arange(10).expand(3, 10)}
CHANCES = {name: torch.full((N, COUNT), 0.876) for name in VERDICTS}
LABELS = [4, 7, 9]


def build(**given) -> RelabelFigure:
    choices = {"sources": SOURCES, "decodings": DECODINGS, "verdicts": VERDICTS, "labels": LABELS}
    return RelabelFigure(**{**choices, **given})


def bytes_of(values: torch.Tensor) -> np.ndarray:
    return (values.double() * 255).round().to(torch.uint8).numpy()


def test_the_pictures_are_kept_to_the_byte_and_in_order():
    sources, decodings = build().pictures()
    assert np.array_equal(sources, bytes_of(SOURCES))
    assert np.array_equal(decodings, bytes_of(torch.stack(list(DECODINGS.values()))))


def test_verdicts_and_probabilities_follow_the_order_of_the_models():
    turned = dict(reversed(VERDICTS.items()))
    figure = build(verdicts=turned, probabilities=CHANCES)
    assert figure.names == ["as published", "mended"]
    assert figure.verdicts == [VERDICTS[name].tolist() for name in figure.names]
    assert figure.probabilities == [[[88] * COUNT] * N] * 2
    assert build().probabilities == []


def test_the_state_is_plain_and_reaches_the_notebook():
    figure = build(probabilities=CHANCES)
    state = figure.state()
    assert set(state) == set(RelabelFigure._saved) and json.loads(json.dumps(state)) == state
    assert all(figure.trait_metadata(name, "sync") for name in RelabelFigure._saved)


def test_it_starts_with_the_label_after_the_digits_own():
    assert (build().source, build().label) == (0, 5)
    assert build(source=2).label == 0
    assert build(labels=None).label == 0 and build(label=3).label == 3


def test_numpys_numbers_and_lists_are_taken():
    figure = build(
        source=np.int64(1), label=np.int32(3), labels=np.array(LABELS, np.uint8),
        verdicts={name: values.tolist() for name, values in VERDICTS.items()},
    )  # fmt: skip
    assert (figure.source, figure.label, figure.labels) == (1, 3, LABELS)
    figure.label = np.int64(4)
    assert type(figure.label) is int and json.dumps(figure.state())


def test_choices_outside_are_refused_later_too():
    figure = build()
    figure.source, figure.label = 2, 9
    with pytest.raises(traitlets.TraitError, match="source must be between 0 and 2, got 3"):
        figure.source = 3
    with pytest.raises(traitlets.TraitError, match="label must be between 0 and 9, got 10"):
        figure.label = 10


def test_it_counts_the_labels_that_are_followed():
    assert [build().obeyed(model) for model in (0, 1)] == [1, 10]
    assert build().describe() == (
        "One digit, a test digit 4, and its decodings with the labels 0 to 9, a row for each model. "
        "Labels for which the judge sees the asked digit: as published: 1 of 10; mended: 10 of 10."
    )


def test_the_still_picture_shows_digit_decodings_and_verdicts():
    still = build(source=1).still()
    source, published, mended = still.axes
    assert np.array_equal(np.asarray(source.images[0].get_array())[1:29, 1:29], bytes_of(SOURCES)[1])
    assert np.array_equal(np.asarray(mended.images[0].get_array())[1:29, 91:119], bytes_of(DECODINGS["mended"])[1, 3])
    said = [text.get_text() for text in published.texts]
    assert said == [f"7 {'✓' if k == 7 else '✗'}" for k in range(10)] + ["judge sees"]
    assert [text.get_text() for text in mended.texts][:3] == ["0 ✓", "1 ✓", "2 ✓"]


@pytest.mark.parametrize("models", [1, 2, 3])
def test_nothing_in_the_still_picture_is_cut_or_laid_over_another(models):
    names = ["as published", "mended", "a third with a longer name"][:models]
    still = build(
        decodings=dict.fromkeys(names, DECODINGS["mended"]), verdicts=dict.fromkeys(names, VERDICTS["mended"])
    ).still()
    png = np.asarray(Image.open(io.BytesIO(render_png(still))).convert("L"))
    assert min(png[0].min(), png[-1].min(), png[:, 0].min(), png[:, -1].min()) == 255
    boxes = [axes.get_tightbbox() for axes in still.axes]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


def test_the_saved_output_is_the_same_every_time():
    first, again = (build()._repr_mimebundle_()[0] for _ in range(2))
    assert first["text/plain"] == "RelabelFigure()"
    for kind in ("text/html", "text/plain", "image/png"):
        assert first[kind] == again[kind]


ONE = {"mended": DECODINGS["mended"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sources": SOURCES.flatten(1)}, "sources must have shape [n, height, width], nothing empty, got [3, 784]"),
        ({"sources": SOURCES * 255}, "sources must hold grey values in [0, 1] without NaN, got"),
        ({"decodings": list(DECODINGS.values())}, "decodings must hold at least one model"),
        ({"verdicts": list(VERDICTS.values())}, "['as published', 'mended'], got a list"),
        ({"decodings": {}}, "decodings must hold at least one model, got none"),
        ({"decodings": {"mended": SOURCES}}, "decodings['mended'] must have shape [3, labels, 28, 28], nothing empty"),
        (
            {"decodings": {"as published": DECODINGS["mended"], "mended": DECODINGS["mended"][:, :9]}},
            "decodings['mended'] must have shape [3, 10, 28, 28], nothing empty, got [3, 9, 28, 28]",
        ),
        (
            {"decodings": {"mended": DECODINGS["mended"] * float("nan")}},
            "decodings['mended'] must hold grey values in [0, 1] without NaN, got nan",
        ),
        (
            {"decodings": ONE},
            "verdicts must be given for the models of decodings, ['mended'], got ['as published', 'mended']",
        ),
        (
            {"verdicts": {**VERDICTS, "mended": VERDICTS["mended"] + 1}},
            "verdicts['mended'] must lie between 0 and 9, got 1 to 10",
        ),
        (
            {"verdicts": {**VERDICTS, "mended": CHANCES["mended"]}},
            "verdicts['mended'] must be whole numbers such as int64, got torch.float32",
        ),
        (
            {"probabilities": {}},
            "probabilities must be given for the models of decodings, ['as published', 'mended'], got []",
        ),
        (
            {"probabilities": {**CHANCES, "mended": CHANCES["mended"] * 100}},
            "probabilities['mended'] must lie between 0 and 1, got 87.6 to 87.6: give the softmax",
        ),
        (
            {"probabilities": {**CHANCES, "mended": CHANCES["mended"][0]}},
            "probabilities['mended'] must have shape [3, 10], nothing empty, got [10]",
        ),
        ({"labels": [1, 2]}, "labels must have shape [3], nothing empty, got [2]"),
        ({"labels": [1, 2, 10]}, "labels must lie between 0 and 9, got 1 to 10"),
        ({"source": 3}, "source must be a whole number between 0 and 2, got 3"),
        ({"label": 1.0}, "label must be a whole number between 0 and 9, got 1.0"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_what_would(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**given)
