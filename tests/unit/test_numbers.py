"""Numbers in prose: refreshed from the results, and never parted from them unnoticed."""

import json
from pathlib import Path

import pytest

from latentbook.authoring import numbers
from latentbook.experiments import results

HARDWARE = {"cpu": "Test CPU", "threads": 1, "device": "cpu"}
AGREEMENT = "<!-- =mix-and-match/best/agreement .1% -->"
END = "<!-- / -->"
ORIGINAL = "published/mix-and-match/original/agreement"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    directory = tmp_path_factory.mktemp("results")
    config = {"alpha": 64, "sizes": [500, 250], "rate": 0.125, "schedule": {"length": 873}}
    for seed, (agreement, bce, gain) in enumerate([(0.652, 86.16, -1.234), (0.662, 87.3, -1.2), (0.672, 873.0, -1.1)]):
        metrics = {"agreement": agreement, "best_of_18_bce": bce, "gain": gain, "units": 16.0}
        data = {"source": "mnist", "hash": "a"}
        results.record("mix-and-match", "best", seed, config, data, metrics, 1, None, directory, HARDWARE)
    published = {"mix-and-match": {"original": {"agreement": 0.474, "_source": "its checkpoint"}}}
    for record, score in (("scored", 0.46), ("listening", 0.25)):
        about = ({}, {"source": "mnist", "hash": "a"}, {"agreement": score}, 1, None, directory / record, HARDWARE)
        (directory / record).mkdir()
        results.record("mix-and-match", "theirs", 0, *about)
    (directory / "published.json").write_text(json.dumps(published))
    return directory


@pytest.mark.parametrize(
    ("number", "spec", "text"),
    [
        (0.662, ".1%", "66.2 %"),
        (0.5, ".0%", "50 %"),
        (4.126, ".2f", "4.13"),
        (71.23, ".3g", "71.2"),
        (16.0, "d", "16"),
        (10000.4, ",d", "10,000"),
        (-1.234, ".1f", "−1.2"),
        (-0.01, ".1f", "0.0"),
        (1.5, "+.1f", "+1.5"),
    ],
)
def test_how_a_number_is_written(number, spec, text):
    assert numbers.write(number, spec) == text


@pytest.mark.parametrize("spec", ["", "s", ".1", "66.2", "x", ".1f%"])
def test_a_format_that_is_none_is_refused(spec):
    with pytest.raises(results.ResultsError, match="a format is like"):
        numbers.write(0.5, spec)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"to {AGREEMENT}1 %{END}, so", f"to {AGREEMENT}66.2 %{END}, so"),
        (f"to {AGREEMENT}{END}", f"to {AGREEMENT}66.2 %{END}"),
        (f"a **{AGREEMENT}1 %{END}** b", f"a **{AGREEMENT}66.2 %{END}** b"),
        (f"a {AGREEMENT}**1 %**{END} b", f"a {AGREEMENT}**66.2 %**{END} b"),
        (f"| best | {AGREEMENT}1{END} | {AGREEMENT}2{END} |", "| best | MARKED | MARKED |"),
        (
            f"x <!-- =mix-and-match/best/gain\n  std .2f -->?{END}",
            f"x <!-- =mix-and-match/best/gain\n  std .2f -->0.07{END}",
        ),
        (f"x <!-- =mix-and-match/best/units count d -->?{END}", f"x <!-- =mix-and-match/best/units count d -->3{END}"),
        (
            f"x <!-- =scored/mix-and-match/theirs/agreement .1% -->?{END}",
            f"x <!-- =scored/mix-and-match/theirs/agreement .1% -->46.0 %{END}",
        ),
        (
            f"x <!-- =listening/mix-and-match/theirs/agreement .2f -->?{END}",
            f"x <!-- =listening/mix-and-match/theirs/agreement .2f -->0.25{END}",
        ),
        (f"x <!-- ={ORIGINAL} .1% -->?{END}", f"x <!-- ={ORIGINAL} .1% -->47.4 %{END}"),
    ],
)
def test_refresh_writes_the_current_number_where_it_stands(store, before, after):
    after = after.replace("MARKED", f"{AGREEMENT}66.2 %{END}")
    assert numbers.refresh(before, store) == after
    assert numbers.refresh(after, store) == after
    assert numbers.drift(after, store) == []
    assert len(numbers.drift(before, store)) == before.count("=")


def test_a_published_number_among_measured_ones_keeps_its_own_key(store):
    text = f"original <!-- =published/mix-and-match/original/agreement .1% -->47.4 %{END}, here {AGREEMENT}66.2 %{END}"
    assert numbers.drift(text, store) == []


@pytest.mark.parametrize(
    "code", [f"`{AGREEMENT}1 %{END}`", f"```text\nx {AGREEMENT}1 %{END}\n```", f"~~~\nx {AGREEMENT}1{END}\n~~~"]
)
def test_markers_in_code_are_left_alone(store, code):
    assert numbers.refresh(code, store) == code
    assert numbers.drift(code, store) == []


def test_markers_in_an_admonition_count(store):
    text = (
        f":::{{note}}\nto {AGREEMENT}1 %{END}\n:::\n\n````{{tip}}\n```python\n66.2\n```\nto {AGREEMENT}1 %{END}\n````\n"
    )
    assert [problem.split(":")[0] for problem in numbers.drift(text, store)] == ["line 2", "line 9"]
    assert numbers.refresh(text, store).count("66.2 %") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a <!-- =mix-and-match/worst/agreement .1% -->1 %{END}", "there is: best"),
        (f"a <!-- =mix-and-match/best/agreement -->1 %{END}", "KEY"),
        (f"a <!-- =mix-and-match/best/agreement .1 -->1 %{END}", "a format is like"),
        (f"a {AGREEMENT}66.2 %", "not closed"),
        (f"a {AGREEMENT}66.2 % and {AGREEMENT}66.2 %{END}", "not closed"),
        (f"rises to\n{AGREEMENT}66.2 %{END}", "line 2: a marker that starts a line"),
        (f"- {AGREEMENT}66.2 %{END}", "starts a line"),
        (f"> {AGREEMENT}66.2 %{END}", "starts a line"),
    ],
)
def test_a_marker_that_cannot_work_is_told(store, text, message):
    problems = numbers.drift(text, store)
    assert len(problems) == 1 and message in problems[0]
    assert numbers.refresh(text, store) == text


def test_a_marker_that_cannot_be_followed_does_not_stop_the_others(store):
    broken, good = f"a <!-- =air/exact/elbo .1f -->1{END}", f"a {AGREEMENT}1 %{END}"
    assert numbers.refresh(f"{broken} {good}", store) == f"{broken} a {AGREEMENT}66.2 %{END}"


def test_a_marker_at_the_start_of_a_line_would_indeed_break_the_page():
    markdown_it = pytest.importorskip("markdown_it")
    render = markdown_it.MarkdownIt("commonmark").render
    assert "<em>so</em>" in render(f"it rises to {AGREEMENT}66.2 %{END}, *so* there")
    assert "<em>so</em>" not in render(f"it rises to\n{AGREEMENT}66.2 %{END}, *so* there")
    assert "<strong>" in render(f"it rises to **{AGREEMENT}66.2 %{END}**.")
    assert "<strong>" in render(f"it rises to {AGREEMENT}**66.2 %**{END}.")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("agreement of 66.2 %", "mix-and-match/best/agreement .1%"),
        ("agreement of 66.2% in all", "mix-and-match/best/agreement .1%"),
        ("agreement of 0.662.", "mix-and-match/best/agreement .3f"),
        ("| best | 65.2 |", "mix-and-match/best/agreement min .1%"),
        ("**67.2**", "mix-and-match/best/agreement max .1%"),
        ("a gain of −1.23", "mix-and-match/best/gain min .2f"),
        ("a gain of -1.23", "mix-and-match/best/gain min .2f"),
        ("(47.4 %)", "published/mix-and-match/original/agreement .1%"),
        ("from 86.16 to", "mix-and-match/best/best_of_18_bce min .2f"),
        ("$x$ and 66.2 and $y$", "mix-and-match/best/agreement .1%"),
        ("```{note}\n66.2\n```", "mix-and-match/best/agreement .1%"),
    ],
)
def test_a_measured_number_typed_by_hand_is_found(store, text, key):
    problems = numbers.typed_by_hand(text, store)
    assert len(problems) == 1 and f"<!-- ={key} -->" in problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "agreement of 66.3 %, 16 units, version 1.66.2, 66.25, x66.2",
        f"agreement of {AGREEMENT}66.2 %{END}",
        "`66.2` and ``a ` 66.2`` and $66.2$ and $$\n66.2\n$$",
        "```python\nx = 66.2\n```",
        "```{code-cell} ipython3\n:tags: [x]\n66.2\n```",
        "[text](https://example.org/66.2) <img width='66.2'> https://example.org/66.2",
        "<!-- 66.2 -->",
        "---\ntitle: 66.2\n---\ntext",
        '+++ {"tags": ["66.2"]}',
        "<!-- hyper-parameter -->66.2<!-- / -->",
        "64 of 500 features, 873 steps, a rate of 0.125",  # 873 is also measured, but a hyper-parameter too
    ],
)
def test_what_is_no_hand_typed_measurement_passes(store, text):
    assert numbers.typed_by_hand(text, store) == []


def test_the_value_of_one_seed_has_no_marker_to_offer(store):
    assert "one seed's mix-and-match/best/best_of_18_bce" in numbers.typed_by_hand("so 87.3 nats", store)[0]


def test_the_line_of_a_hand_typed_number_is_told(store):
    assert numbers.typed_by_hand("---\na: 1\n---\n\n```\n66.2\n```\n\nSo 66.2.\n", store)[0].startswith("line 9: 66.2 ")


def test_the_texts_of_the_book_agree_with_the_results():
    texts = numbers.sources(Path(__file__).parents[2])
    assert texts
    problems = [
        f"{path.name}, {problem}"
        for path in texts
        for find in (numbers.drift, numbers.typed_by_hand)
        for problem in find(path.read_text(encoding="utf-8"))
    ]
    assert problems == []
