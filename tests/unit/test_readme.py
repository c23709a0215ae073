"""The README's own example runs, word for word, on a few small digits and the CPU."""

import re

import torch

from latentbook import data


def test_the_example_runs(pytestconfig, monkeypatch):
    text = (pytestconfig.rootpath / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    few = data.load_digits("train", source="offline").take(slice(0, 256))
    asked = []

    def load_digits(split, device):
        asked.append(split)
        return few.to(device)

    monkeypatch.setattr(data, "load_digits", load_digits)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    names: dict = {}
    exec(code, names)
    assert asked == ["train"] and len(names["history"].epochs) == 5
    assert names["completions"].shape == (8, 500) and 0 <= names["completions"].min() <= names["completions"].max() <= 1
