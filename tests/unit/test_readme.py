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
    pictures = names["pictures"]
    assert pictures.shape == (8, 1, 28, 28) and not pictures.requires_grad and not names["model"].training
    assert 0 <= pictures.min() <= pictures.max() <= 1
    assert torch.equal(pictures.flatten(1)[:, 500:], few.images[:8].flatten(1)[:, 500:])  # the given part is as it was
    assert not torch.equal(pictures, few.images[:8])
