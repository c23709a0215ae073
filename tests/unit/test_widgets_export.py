"""Models as files for the page: what they hold, what rounding may change, what they weigh, and what was recorded of it."""

import json
import re
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from latentbook import __main__ as cli
from latentbook import evaluation, models
from latentbook.data.digits import load_digits
from latentbook.training.loop import initialise, load_weights
from latentbook.widgets import export, shipped

BITS = (8, 16, "mixed")


def small(seed: int = 0) -> models.MixAndMatch:
    """A model with every kind of layer that is linear, batch norms that have seen something, in evaluation mode."""
    config = models.MixAndMatchConfig(data_dim=40, condition_dim=24, hidden_dim=8, latent_dim=3, alpha=4)
    model = initialise(lambda: models.MixAndMatch(config), seed).train()
    for _ in range(3):
        model.data_encoder(2 * torch.rand(32, 40) - 1)
        model.condition_encoder(torch.rand(32, 24) + 1)
        model.decoder(torch.rand(32, 8))
    return model.eval()


def outputs(model: models.MixAndMatch) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    condition, z = torch.rand(20, 24, generator=generator), torch.randn(20, 3, generator=generator)
    with torch.no_grad():
        return model.sample(condition, z=z, mask=torch.rand(20, 8, generator=generator) < 0.5)


@pytest.mark.parametrize("bits, close", [(8, 0.02), (16, 1e-4)])
def test_a_model_comes_back_with_its_batch_norm_folded_in(bits, close):
    model = small()
    again = export.read_model(export.export_model(model, bits))
    assert again.config == model.config and not again.training
    assert (outputs(again) - outputs(model)).abs().max() < close
    other = export.read_model(export.export_model(small(seed=1), bits))
    assert (outputs(other) - outputs(model)).abs().max() > 5 * close


@pytest.mark.parametrize("bits", BITS)
def test_a_weight_is_off_by_half_a_step_at_most(bits):
    layers = {
        "a": export.Layer(np.random.default_rng(0).normal(size=(5, 7)) * [[1], [10], [1e-3], [0], [1]], np.arange(5.0))
    }
    packed = export.pack_model("VAE", {}, layers, bits)
    found = export.unpack_model(packed).layers["a"]
    most = abs(layers["a"].weight).max(1, keepdims=True)
    steps = most / export.LEVELS[8 if bits == 8 else 16]  # "mixed": a small matrix
    assert (abs(found.weight - layers["a"].weight) <= 0.5001 * steps + 1e-7 * most).all()
    assert found.weight.dtype == np.float32 and found.bias.tolist() == [0, 1, 2, 3, 4]


def test_mixed_rounds_large_matrices_alone_to_8_bits():
    wide, narrow = np.random.default_rng(0).normal(size=(2, 100, 201))
    found = export.unpack_model(
        export.pack_model(
            "VAE", {}, {"a": export.Layer(wide, wide[:, 0]), "b": export.Layer(narrow[:, :200], wide[:, 0])}, "mixed"
        )
    ).layers
    assert [len(np.unique(found[name].weight[0])) > 180 for name in "ab"] == [False, True]


def test_what_only_training_needs_stays_behind():
    config = models.MultiLevelVAEConfig(pixels=16, hidden_dim=6, adversary=True, identity=True)
    found = export.unpack_model(export.export_model(models.MultiLevelVAE(config)))
    assert found.kind == "MultiLevelVAE" and found.config["class_dim"] == 10
    heads = ["class_log_var", "class_mean", "decoder.0", "decoder.2", "encoder.0", "style_log_var", "style_mean"]
    assert list(found.layers) == heads


def test_the_same_model_makes_the_same_bytes_with_and_without_pytorch():
    path = export.WEIGHTS / "multi-level-vae-unnamed.safetensors"
    model = load_weights(path, lambda config: export.built("MultiLevelVAE", config))
    packed = export.shipped_model("multi-level-vae-unnamed")
    assert export.export_model(model, 8) == packed == export.export_file(path, 8)
    assert packed.name == "multi-level-vae-unnamed"


@pytest.mark.parametrize(
    "model, bits, message",
    [
        (lambda: nn.Linear(2, 2), 8, "the page's engine runs AIR, ConditionalVAE, Judge, Localisation, MixAndMatch, "),
        (lambda: small(), 4, 'bits must be 8, 16 or "mixed", got 4'),
        (lambda: small(), "most", 'bits must be 8, 16 or "mixed", got \'most\''),
        (lambda: models.VAE(models.VAEConfig(16, 2, 2, True)), 8, "runs models of teacher_forcing=False alone, got True"),
        (lambda: models.AIR(models.TUTORIAL), 8, "runs models of image_layer='convolutional' alone, got 'linear'"),
        (lambda: models.Localisation(models.LocalisationConfig(looks="whole")), 8, "of looks='window' alone, got 'whole'"),
    ],
)  # fmt: skip
def test_what_the_engine_does_not_run_is_refused(model, bits, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        export.export_model(model(), bits)


@pytest.mark.parametrize("packed", [b"", b"no model", zlib.compress(b"\x02\x00\x00\x00{}"), export.export_file(
    export.WEIGHTS / "judge.safetensors", 8)[:-9]])  # fmt: skip
def test_bytes_that_are_no_model_are_refused(packed):
    with pytest.raises(ValueError, match=r"these bytes are no model's file \(.+\): give what export_model returned"):
        export.read_model(packed)


def content_of(header, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return zlib.compress(len(text).to_bytes(4, "little") + text + rest)


def opened(packed: bytes) -> tuple[dict, bytes]:
    """The header of a model's file, and what follows it."""
    content = zlib.decompress(packed)
    size = int.from_bytes(content[:4], "little")
    return json.loads(content[4 : 4 + size]), content[4 + size :]


HEADERS = {
    "a list": (lambda h: [h], "its header must have a model"),
    "null": (lambda h: None, "its header must have a model"),
    "no config": (lambda h: h | {"config": None}, "its header must have a model, its config and its layers"),
    "no layers": (lambda h: h | {"layers": None}, "its header must list layers"),
    "an empty list": (lambda h: h | {"layers": []}, "its header must list layers"),
    "a layer of null": (lambda h: h | {"layers": [None]}, "its header must list layers"),
    "a layer without a name": (lambda h: h | {"layers": [{}]}, "each layer must have a name of its own"),
    "a layer twice": (lambda h: h | {"layers": 2 * h["layers"]}, "each layer must have a name of its own"),
    "another model": (lambda h: h | {"model": "Otter"}, "the page's engine runs AIR"),
    "a model in a list": (lambda h: h | {"model": ["VAE"]}, "the page's engine runs AIR"),
    "another choice": (lambda h: h | {"config": {"otter": 1}}, "no MixAndMatch has this configuration"),
    "a choice of text": (lambda h: h | {"config": h["config"] | {"hidden_dim": "8"}}, "no MixAndMatch has this conf"),
    **{
        f"shape {shape}": (
            lambda h, shape=shape: h | {"layers": [h["layers"][0] | {"shape": shape}, *h["layers"][1:]]},
            "the shape of condition_encoder.0 must be two or more whole numbers",
        )
        for shape in ([], ["a"], [8], [8, -24], [8, 24.0], [8, True], None, "ab")
    },
    "a huge shape": (
        lambda h: h | {"layers": [h["layers"][0] | {"shape": [10**30, 24]}, *h["layers"][1:]]},
        "its header asks for 3",
    ),
    "3 bits": (
        lambda h: h | {"layers": [h["layers"][0] | {"bits": 3}, *h["layers"][1:]]},
        "the bits of condition_encoder.0 must be 8 or 16, got 3",
    ),
    "another name": (
        lambda h: h | {"layers": [h["layers"][0] | {"name": "otter"}, *h["layers"][1:]]},
        "of a MixAndMatch it lacks the layers condition_encoder.0",
    ),
    "another shape": (
        lambda h: h | {"layers": [h["layers"][0] | {"shape": [*h["layers"][0]["shape"], 1]}, *h["layers"][1:]]},
        "its layers have other shapes: condition_encoder.0 [",
    ),
    "other sizes": (lambda h: h | {"config": h["config"] | {"hidden_dim": 9}}, "its layers have other shapes"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_of_no_model_is_refused_in_words(case):
    (header, rest), (change, words) = opened(export.export_model(small())), HEADERS[case]
    assert export.read_model(content_of(header, rest)).config == small().config
    with pytest.raises(ValueError, match=rf"^these bytes are no model's file \(.*{re.escape(words)}"):
        export.read_model(content_of(change(header), rest))


def test_a_file_with_fewer_layers_than_its_model_or_more_is_refused():
    packed = export.unpack_model(export.export_model(small()))
    layers = dict(packed.layers)
    first = layers.pop("condition_encoder.0")
    with pytest.raises(ValueError, match=r"of a MixAndMatch it lacks the layers condition_encoder\.0\)"):
        export.read_model(export.pack_model(packed.kind, packed.config, layers, 8))
    with pytest.raises(ValueError, match=r"a MixAndMatch has no layers otter\)"):
        export.read_model(export.pack_model(packed.kind, packed.config, packed.layers | {"otter": first}, 8))
    with pytest.raises(ValueError, match="a VAE of no layers cannot be packed"):
        export.pack_model("VAE", {}, {}, 8)


def test_bytes_after_a_file_are_refused():
    packed = export.export_model(small())
    header, rest = opened(packed)
    with pytest.raises(ValueError, match="3 bytes follow it"):
        export.read_model(packed + b"abc")
    with pytest.raises(ValueError, match=r"its header asks for [\d,]+ bytes after it, there are "):
        export.read_model(content_of(header, rest + b"abc"))
    with pytest.raises(ValueError, match="its end is missing"):
        export.read_model(packed[:-2])
    infinite = np.frombuffer(rest, np.uint8).copy()
    infinite[:4] = np.frombuffer(np.float32("inf").tobytes(), np.uint8)
    with pytest.raises(ValueError, match=r"the weights of condition_encoder\.0 must be finite"):
        export.read_model(content_of(header, infinite.tobytes()))


@pytest.mark.parametrize("packed", ["text", None, 5, [1], np.zeros(3)])
def test_what_is_no_bytes_is_refused(packed):
    with pytest.raises(ValueError, match=r"a model's file is bytes, got a \w+: give what export_model returned"):
        export.read_model(packed)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name", ["condition_encoder.0.weight", "condition_encoder.0.bias", "condition_encoder.1.running_var"]
)
def test_weights_that_are_not_finite_are_refused(name, value):
    model = small()
    model.state_dict()[name].view(-1)[1] = value
    if (name, value) == ("condition_encoder.1.running_var", float("inf")):
        return  # a gain of 0
    with pytest.raises(ValueError, match=r"the weights of condition_encoder\.0 must be finite, got \d+ that are not"):
        export.export_model(model)


@pytest.mark.parametrize("model", ["x", None, 5, small().state_dict(), models.MixAndMatch])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(
        ValueError, match=r"a model of the book is asked for \(AIR, .*\), got a \w+: load weights into a model"
    ):
        export.export_model(model)


def test_another_class_of_a_models_name_is_refused():
    with pytest.raises(ValueError, match="the book's own VAE, got another class of that name"):
        export.export_model(type("VAE", (nn.Linear,), {})(2, 2))


@pytest.mark.parametrize("bits", [[8], None, {}, "8", True, np.array([8, 16])])
def test_other_bits_are_refused(bits):
    with pytest.raises(ValueError, match='bits must be 8, 16 or "mixed", got '):
        export.export_model(small(), bits)


def test_files_that_hold_no_weights_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    path.write_bytes(b"junk" * 9)
    with pytest.raises(ValueError, match=r"x\.safetensors is damaged or not one of this library's files \("):
        export.export_file(path, 8)
    weights = {"a.weight": np.zeros((2, 3), np.float32)}
    good = {"model": '"VAE"', "config": "{}"}
    for metadata in (None, {"model": '"VAE"'}, {"config": "{}"}, good | {"model": "null"}, good | {"config": "[]"}):
        save_file(weights, path, metadata)
        with pytest.raises(ValueError, match=r"x\.safetensors holds no weights that save_weights wrote"):
            export.export_file(path, 8)
    save_file(weights, path, good | {"model": "VAE"})
    with pytest.raises(
        ValueError, match=r"x\.safetensors is damaged or not one of this library's files \(Expecting value"
    ):
        export.export_file(path, 8)
    save_file({"a.0.weight": weights["a.weight"], "a.1.running_mean": np.zeros(2, np.float32)}, path, good)
    with pytest.raises(ValueError, match=r"the weights in .*x\.safetensors do not fit each other \('a\.1\.weight'\)"):
        export.export_file(path, 8)
    save_file(weights | {"a.bias": np.zeros(3, np.float32)}, path, good)
    with pytest.raises(ValueError, match=r"weights and biases of a must be .* got \[2, 3\] and \[3\]"):
        export.export_file(path, 8)
    with pytest.raises(FileNotFoundError):
        export.export_file(tmp_path / "nothing", 8)


def test_only_shipped_models_are_known_by_name():
    with pytest.raises(
        ValueError, match="no shipped model is called 'otter'; there are: air-exact, conditional-vae-fixed"
    ):
        export.shipped_model("otter")


def test_noise_of_a_seed_is_normal():
    noise = export.seeded_noise(1, 20_000)
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.02
    assert abs((noise < -1.645).mean() - 0.05) < 0.006 and abs(np.corrcoef(noise[::2], noise[1::2])[0, 1]) < 0.03
    assert (export.seeded_noise(1, 5) == noise[:5]).all() and (export.seeded_noise(2, 5) != noise[:5]).all()


# What is shipped


@pytest.mark.parametrize("name", export.SHIPPED)
def test_a_models_file_is_light_and_its_record_is_of_it(name):
    most, row = 1.7e6 if name == "air-exact" else 0.9e6, shipped.recorded()["models"][name]
    weighs = export.sent_bytes(export.shipped_model(name))
    assert weighs <= most
    assert row["bits"] == export.SHIPPED[name]
    assert row["bytes"] == pytest.approx(weighs, rel=0.002)  # another zlib may pack a little otherwise
    assert row["before"].keys() == row["after"].keys() and len(row["before"]) > 1


def test_all_that_is_shipped_is_recorded_on_mnist():
    found = shipped.recorded()
    assert found["models"].keys() == set(export.SHIPPED) and found["data"]["source"] == "mnist"


@pytest.mark.parametrize("name", export.SHIPPED)
def test_rounding_costs_as_little_as_is_said(name):
    """At most 0.05 nats, and a thousandth of every share."""
    row = shipped.recorded()["models"][name]
    for measure, before in row["before"].items():
        lost = row["after"][measure] - before if measure == "nats" else before - row["after"][measure]
        assert lost <= (0.05 if measure == "nats" else 0.001), measure


@pytest.mark.parametrize("name", ["conditional-vae-fixed", "judge", "mix-and-match-best", "multi-level-vae-unnamed"])
def test_what_was_recorded_can_be_measured(name, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "RECORD", tmp_path / "shipped.json")
    test = load_digits("test", source="offline").take(slice(0, 200))
    shipped.record(name, test)
    (row,) = shipped.recorded()["models"].values()
    assert row["bits"] == export.SHIPPED[name]
    assert row["after"]["nats"] == pytest.approx(row["before"]["nats"], rel=2e-3) and row["after"] != row["before"]
    worse = shipped.loss_of_accuracy(name, test, 8)
    if name == "conditional-vae-fixed":  # which is why it has more
        assert worse["after"]["nats"] - worse["before"]["nats"] > 3 * abs(row["after"]["nats"] - row["before"]["nats"])
    with pytest.raises(ValueError, match="remove it to start over"):
        shipped.record(name, load_digits("train", source="offline"))


def test_the_record_on_these_digits_knows_what_the_model_knows():
    """A measure is not blind: noise in the weights shows in it."""
    test, model = load_digits("test", source="offline"), evaluation.load_judge()
    broken = initialise(evaluation.Judge, 0).eval()
    with torch.no_grad():
        assert shipped.of_judge(model, test)["accuracy"] > shipped.of_judge(broken, test)["accuracy"] + 0.3


def test_export_writes_files_that_can_be_read_and_tells_what_rounding_costs(capsys, tmp_path):
    assert cli.main(["export", "judge", "primer-kl-weight-1", "--output", str(tmp_path / "deep")]) == 0
    out = capsys.readouterr().out
    files = sorted((tmp_path / "deep").iterdir())
    assert [re.sub("-[0-9a-f]{16}", "", path.name) for path in files] == ["judge.model", "primer-kl-weight-1.model"]
    assert files[0] == export.place("judge", tmp_path / "deep")
    assert isinstance(export.read_model(files[0].read_bytes()), evaluation.Judge)
    row = shipped.recorded()["models"]["judge"]
    assert re.search(rf"judge +16 +{row['bytes'] / 1000:.0f}  nats +{row['before']['nats']:.4f}", out)
    assert "primer-kl-weight-30" not in out


def test_export_refuses_what_is_not_there_before_it_writes(capsys, tmp_path):
    assert cli.main(["export", "judge", "otter", "--output", str(tmp_path / "deep")]) == 2
    assert "no shipped model is called otter; there are: air-exact" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()
    (tmp_path / "file").write_text("")
    assert cli.main(["export", "judge", "--output", str(tmp_path / "file")]) == 2
    assert "--output DIR" in capsys.readouterr().err


def test_export_tries_every_target_before_it_writes_one(capsys, tmp_path):
    export.place("primer-kl-weight-1", tmp_path).mkdir()
    assert cli.main(["export", "judge", "primer-kl-weight-1", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "the model 'primer-kl-weight-1' cannot be written to" in said and "--output DIR names one" in said
    assert not export.place("judge", tmp_path).exists()


ROW = {"bits": 8, "bytes": 1, "before": {"nats": 1.0}, "after": {"nats": 1.0}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "shipped.json cannot be read (No such file or directory): put back a whole copy"),
        ('{"data": ', "shipped.json is damaged (Expecting value"),
        ("[]", "shipped.json is damaged (it must have data and models)"),
        ('{"data": {}, "models": []}', "shipped.json is damaged (it must have data and models)"),
        *(
            (
                json.dumps({"data": {}, "models": {"air-exact": ROW, "judge": row}}),
                "shipped.json is damaged (not as it is recorded: judge)",
            )
            for row in ([], {}, ROW | {"bytes": "1"}, ROW | {"after": {}}, ROW | {"after": {"nats": "1"}})
        ),
    ],
)
def test_export_tells_a_broken_record_before_it_writes(text, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "RECORD", tmp_path / "shipped.json")
    if text is not None:
        shipped.RECORD.write_text(text, encoding="utf-8")
    for more in [[]] if text is None else [[], ["--measure", "--data", str(tmp_path)]]:
        assert cli.main(["export", "judge", "--output", str(tmp_path / "models"), *more]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1 and str(tmp_path) in said
        assert not list((tmp_path / "models").iterdir())


def test_a_record_on_other_digits_is_told_before_a_model_is_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(cli.runs, "digits", lambda *_: load_digits("test", source="offline"))
    assert cli.main(["export", "judge", "--measure", "--output", str(tmp_path / "models")]) == 2
    assert "remove it to start over" in capsys.readouterr().err
    assert not list((tmp_path / "models").iterdir())


def test_bench_engine_prints_what_the_browser_measured(capsys, monkeypatch):
    from latentbook.widgets import engine_bench

    found = {
        "experiment": "engine",
        "steps_per_second": 193.4,
        "models": {"judge": {"kilobytes": 35.0, "ms": 0.9}, "x": {"kilobytes": 8.0}},
    }
    monkeypatch.setattr(engine_bench, "bench", lambda: found)
    assert cli.main(["bench", "engine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert cli.main(["bench", "engine"]) == 0
    first, _, judge, other = capsys.readouterr().out.splitlines()
    assert (
        "193 steps of 64 images a second" in first
        and judge.split() == ["judge", "35", "0.9"]
        and other.split()[1:] == ["8", "–"]
    )


def test_what_is_timed_is_shipped():
    from latentbook.widgets import engine_bench

    assert set(engine_bench.TIMED) <= set(export.SHIPPED)
