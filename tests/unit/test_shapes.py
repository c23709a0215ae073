"""The shapes that signatures write are the real ones: in a Python of its own, where every signature is checked by them.

One process makes all calls, since to import the library under these checks takes longer than the calls.
"""

import json
import subprocess
import sys
from pathlib import Path

import latentbook

CHECKED = """
import builtins, json, sys
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

sys.path.insert(0, {source!r})
builtins._check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int where a float is meant, as PEP 484 says
install_import_hook("latentbook", "builtins._check")

import torch
torch.set_num_threads(1)
"""
RUN = """
import traceback

def let_through(calls):
    torch.manual_seed(0)
    names = {"torch": torch}
    exec(calls, names)
    for number, call in enumerate(names["wrong"]):
        try:
            call()
        except Exception as error:
            if type(error).__name__ != "TypeCheckError":
                yield f"wrong shape {number}: {error!r}"
        else:
            yield f"wrong shape {number} was let through"

said = {}
for name, calls in json.load(sys.stdin).items():
    try:
        said[name] = list(let_through(calls))
    except Exception:
        said[name] = [traceback.format_exc()]
json.dump(said, sys.stdout)
"""

# Of every block: code that passes, and defines `wrong`, a list of calls of which each must be refused.
AIR = """
from latentbook.models.air import AIR, draw_counts
from latentbook.models.air_objectives import Steps, exact
from latentbook.models.air_parts import TUTORIAL, AIRConfig
from latentbook.data.digits import load_digits
from latentbook.data.scenes import Layout, draw_scenes, fresh_scenes, make_sprites

generator = torch.Generator().manual_seed(0)
digits = load_digits("test", source="offline").take(slice(0, 30))
for world in (digits, make_sprites(30)):
    for layout in (Layout(counts=(0, 1, 2, 3)), Layout(placement="diagonal"), Layout(counts=(0,))):
        scenes = draw_scenes(world, 5, layout)
        assert next(fresh_scenes(world, 5, layout).to("cpu").batches(2, generator)).images.shape == (2, 1, 50, 50)
batch = next(draw_scenes(digits, 4).batches(4))
for config in (AIRConfig(), TUTORIAL, AIRConfig(objective="concrete"), AIRConfig(likelihood="bernoulli", steps=1)):
    model = AIR(config)
    assert model.loss(batch, generator=generator, floor=0.1)["nll"].shape == (4,)
    model.infer(batch.images, generator)
    assert model.reconstruct(batch.images).shape == model.sample(4, generator=generator).shape == (4, 1, 50, 50)
    assert model.elbo(batch.images).shape == model.importance_bound(batch.images, 2).shape == (4,)

model = AIR()
wrong = [
    lambda: model.infer(batch.images[:, 0]),
    lambda: model.attend(batch.images, torch.zeros(4, 69)),
    lambda: model.paint(torch.ones(4, 3), torch.zeros(4, 3, 20)),
    lambda: model.nll(batch.images, torch.zeros(4, 3, 50, 50), torch.zeros(4, 3)),
    lambda: draw_counts(torch.ones(4), generator),
    lambda: Steps(torch.zeros(3), {}, lambda share: share, torch.zeros(())),
]
"""

CONDITIONAL = """
from latentbook.layers import distributions
from latentbook.models.conditional_vae import LABELS, POSTERIORS, ConditionalVAE, ConditionalVAEConfig
from latentbook.data.digits import Batch, load_digits

digits = load_digits("test", source="offline").take(slice(0, 24))
images, labels = digits.images, digits.labels
part = labels.where(torch.arange(24) % 2 == 0, -1)
for posterior in POSTERIORS:
    for label in LABELS:
        for others in (False, label != "exact"):
            model = ConditionalVAE(ConditionalVAEConfig(
                posterior=posterior, label=label, label_kl=True, adversary=others, recovery=others,
                smooth_radius=float(others), dropout=0.1,
            ))
            for given in (labels, part):
                assert model.loss(Batch(images, given), temperature=1)["bce"].shape == (24,)
                assert model.eval().loss(Batch(images[:1], given[:1]))["bce"].shape == (1,)
                model.train()
model.sample(torch.arange(3))
model.infer(images, labels)

wrong = [
    lambda: model.classify(torch.zeros(784)),
    lambda: model.decode(torch.zeros(4, 20), torch.zeros(3, 10)),
    lambda: model.bound(torch.zeros(784), torch.zeros(4, 1, 10), torch.zeros(4, 20)),
    lambda: model.predict(torch.zeros(2, 784)),
    lambda: model.infer(images, labels[:3]),
    lambda: model.sample(torch.zeros(2)),
    lambda: distributions.label_kl(torch.zeros(2, 3, dtype=torch.int64)),
    lambda: distributions.one_hot(torch.zeros(2), torch.zeros(3)),
]
"""

EXPERIMENTS = """
from latentbook import evaluation
from latentbook.models.air import AIR
from latentbook.data.digits import Batch, load_digits
from latentbook.layers.distributions import DiagonalGaussian
from latentbook.experiments import air_measures
from latentbook.models.mix_and_match import MIXINGS, PRIORS, Completer, MixAndMatch, MixAndMatchConfig
from latentbook.data.scenes import draw_scenes, ink_boxes
from latentbook.training.loop import fit
from latentbook.models.vae import VAE, VAEConfig

digits = load_digits("test", source="offline").take(slice(0, 12))
batch = next(digits.batches(4))
models = [MixAndMatch(MixAndMatchConfig(mixing=m, prior=p)) for m in MIXINGS for p in PRIORS]
for model in [*models, Completer()]:
    assert model.loss(batch)["bce"].shape == (4,)
    data, condition = model.split(batch.images)
    assert model.sample(condition).shape == (4, 500)
for model in (VAE(), VAE(VAEConfig(teacher_forcing=True))):
    assert model.loss(batch)["kl"].shape == (4,)
    assert isinstance(model.encode(batch.images), DiagonalGaussian)
VAE().sample(2)
judge = evaluation.load_judge()
judge.loss(batch)
evaluation.agreement(batch.images, batch.labels)
evaluation.active_units(torch.rand(4, 3))
evaluation.best_of_k(torch.rand(4, 3, 5), torch.rand(4, 5))
evaluation.pairwise_l2(torch.rand(4, 3, 5))
evaluation.variance_shares(torch.rand(4, 3, 2, 5))
evaluation.probe(torch.rand(20, 3), torch.arange(20) % 2, torch.rand(8, 3), torch.arange(8) % 2)
evaluation.pixel_mean_bce(torch.rand(4, 5), torch.rand(3, 5))
evaluation.grey_entropy(torch.rand(4, 5))
fit(Completer(), digits, epochs=1, batch_size=6)
scenes = draw_scenes(digits, 8)
air_measures.looks(AIR(), scenes)
air_measures.bounds(AIR(), scenes.images, torch.Generator().manual_seed(0), samples=2)
seen = air_measures.count_log_probs(AIR(), scenes.images).argmax(1)
air_measures.confusion(seen, scenes.labels, 3)

wrong = [
    lambda: models[0].decode(torch.zeros(4, 32, 1), torch.zeros(4, 128), torch.ones(4, 128, dtype=torch.bool)),
    lambda: models[0].split(torch.zeros(4, 784)),
    lambda: models[1].prior(torch.zeros(128)),
    lambda: VAE().encode(torch.zeros(2, 28, 28)),
    lambda: evaluation.best_of_k(torch.rand(4, 3, 5), torch.rand(3, 5)),
    lambda: evaluation.agreement(torch.rand(4, 1, 28, 28), torch.arange(5)),
    lambda: judge(torch.rand(4, 784)),
    lambda: air_measures.confusion(torch.arange(3), torch.arange(4), 3),
    lambda: air_measures.matched_iou(torch.zeros(8, 2), scenes.labels, scenes.boxes, scenes.labels),
    lambda: ink_boxes(scenes.images),
]
"""

MULTI_LEVEL = """
from latentbook.data.digits import load_digits
from latentbook.layers.distributions import DiagonalGaussian, product_of_experts
from latentbook.experiments import multi_level_swaps as swaps, multi_level_table as table, multi_level_vae as experiment
from latentbook.models.multi_level_vae import MultiLevelVAE, MultiLevelVAEConfig, draw_groups

digits, generator = load_digits("test", source="offline"), torch.Generator().manual_seed(0)
batch = next(digits.batches(6))
for choices in ({}, {"group_size": 2}, {"exact": True}, {"eps_per": "sample"}, {"evidence": False}, {"style_dim": 3}):
    model = MultiLevelVAE(MultiLevelVAEConfig(hidden_dim=8, **choices))
    assert model.loss(batch)["style_kl"].shape == (6,)
evidence = batch.images.unsqueeze(0)
model.swap(batch.images[:1], evidence), model.sample(evidence)
draw_groups(batch.labels.to(torch.uint8), 2, True)
config = experiment.but(experiment.Config(), hidden_dim=8, epochs=1, swaps=20, probe_examples=40, table_iterations=2)
experiment.run("mended", 0, config=config, train=digits, test=digits, progress=False)

wrong = [
    lambda: product_of_experts(DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2)), torch.zeros(4)),
    lambda: model.encode(torch.zeros(2, 784)),
    lambda: model.swap(batch.images, batch.images),
    lambda: model.decode(torch.zeros(2, 3), torch.zeros(4, 10)),
    lambda: swaps.evidence_sets(torch.zeros(4), torch.zeros(4), 1, generator),
    lambda: swaps.slant(torch.zeros(3, 784)),
    lambda: table.Probes(2, 5)(torch.zeros(3, 5)),
]
"""


def problems(blocks: dict[str, str], folder: Path) -> dict[str, list[str]]:
    """What is wrong in each block of calls."""
    code = CHECKED.format(source=str(Path(latentbook.__file__).parents[1])) + RUN
    command, given = [sys.executable, "-c", code], json.dumps(blocks)
    done = subprocess.run(command, input=given, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_written_shapes_are_the_real_ones(tmp_path):
    blocks = {"air": AIR, "conditional": CONDITIONAL, "experiments": EXPERIMENTS, "multi-level": MULTI_LEVEL}
    seen = "\n".join(("digits = load_digits('test', source='offline')", "digits.take(3)", "wrong = []"))
    broken = "from latentbook.data.digits import load_digits\n" + seen
    fitting = "from latentbook.models.vae import VAE\nwrong = [lambda: VAE().encode(torch.zeros(2, 1, 28, 28))]"
    found = problems({**blocks, "broken": broken, "fitting": fitting}, tmp_path)
    assert "TypeCheckError" in found.pop("broken")[0]  # as a wrong call among those that should pass would be seen
    assert found.pop("fitting") == ["wrong shape 0 was let through"]
    assert found == {name: [] for name in blocks}
