"""Plain words for the keys of code and results: what plots, tables and the ledger call a term of a loss or a variant."""

from __future__ import annotations

from collections.abc import Mapping

TERMS = {
    "bce": "BCE (nats)",
    "mse": "squared error",
    "nll": "negative log-likelihood (nats)",
    "kl": "KL (nats)",
    "style_kl": "KL of the style (nats)",
    "class_kl": "KL of the class (nats)",
    "label_kl": "KL of the label (nats)",
    "kl_presence": "KL of presence (nats)",
    "kl_where": "KL of where (nats)",
    "kl_what": "KL of what (nats)",
    "cross_entropy": "cross-entropy (nats)",
    "adversary": "adversary's cross-entropy (nats)",
    "recovery": "recovery of the label (nats)",
    "identity": "identity's cross-entropy (nats)",
    "smoothness": "smoothness",
    "accuracy": "accuracy",
    "pixels": "squared error of pixels",
    "where": "squared error of where",
}

# The variants of each experiment, a dictionary each, so that a page which names one's does not hang on the others.
PRIMER = {
    "teacher-forcing": "teacher forcing",
    "teacher-forcing-long": "teacher forcing, 24 epochs",
    "neighbours-only": "neighbours only",
    "neighbours-only-long": "neighbours only, 24 epochs",
    "all-neighbours": "all neighbours",
    **{f"kl-weight-{weight}": f"KL weight {weight}" for weight in ("0", "0.1", "0.3", "1", "3", "10", "30")},
}
MIX_AND_MATCH = {
    "deterministic": "deterministic completer",
    "concatenation": "concatenation CVAE",
    "batch-mask": "Mix-and-Match, mask per batch",
    "example-mask": "Mix-and-Match, mask per example",
    "curriculum": "Mix-and-Match, curriculum",
    "control": "controls",
    "retrained": "mixing, prior N(0, I)",
    "best": "mixing, prior given c",
    "concatenation-retrained": "concatenation, prior N(0, I)",
    "concatenation-best": "concatenation, prior given c",
    "retrieval": "18 nearest bottoms",
    **{f"alpha-{alpha}": f"mixing, alpha = {alpha}" for alpha in (32, 96, 128)},
    "alpha-0": "mixing, alpha = 0: the floor",
}
CONDITIONAL_VAE = {
    "original": "original, half of the data",
    "original-all-data": "original, all data",
    "original-pooled": "original, half of both splits",
    "retrained": "tutorial's model",
    "sees-label": "1. encoder sees y",
    "independent": "2. + adversary on z",
    "fixed": "3. + recovery: fixed",
    "no-arrow": "fixed, encoder blind to y",
    "kl-weight-4": "tutorial's model, KL weight 4",
    "class-means": "mean digit of the asked class",
    "step-one-cycle": "the original's model, 10 epochs",
    "step-sees-label": "encoder sees the label",
    "step-label-kl": "with the KL of y",
    "step-exact": "sum over the labels",
    "step-known": "given labels",
    "step-adversary": "with an adversary",
    "step-recovery": "with recovery",
    "step-both": "with adversary and recovery",
    **{f"adversary-{weight}": f"adversary's weight {weight}" for weight in (1, 2, 8, 16)},
    **{f"weight-{weight}": f"classification weight {weight}" for weight in ("0.1", "1", "10", "100", "1000")},
    **{
        f"weight-{weight}-cut": f"classification weight {weight}, gradient cut"
        for weight in ("0.1", "1", "10", "100", "1000")
    },
    **{f"hard-{value}": f"hard draws, temperature {value}" for value in ("0.2", "0.5", "2", "5")},
    **{f"soft-{value}": f"soft draws, temperature {value}" for value in ("0.2", "0.5", "1", "2", "5")},
    "hard-annealed": "hard draws, temperature 2 to 0.2",
    "soft-annealed": "soft draws, temperature 2 to 0.2",
    **{f"labels-{n}": f"{n:,} labels, bound and smoothness" for n in (100, 1000)},
    **{f"labels-{n}-bound": f"{n:,} labels, bound" for n in (100, 1000)},
    **{f"labels-{n}-smoothness": f"{n:,} labels, smoothness" for n in (100, 1000)},
    **{f"labels-{n}-alone": f"{n:,} labels alone" for n in (100, 1000)},
    "labels-1000-no-label-kl": "1,000 labels, bound without the KL of y",
}
MULTI_LEVEL_VAE = {
    "reproduction-std-1": "as it ran, std 1, 400 epochs",
    "reproduction-std-0.1": "as it ran, std 0.1, 400 epochs",
    "reproduction-std-1-800-epochs": "as it ran, std 1, 800 epochs",
    "reproduction-short": "as it ran, std 1, 30 epochs",
    "untrained": "untrained, std 0.1",
    "untrained-std-1": "untrained, std 1",
    "gradient-replay": "with its gradient, std 1",
    "gradient-replay-8-epochs": "with its gradient, std 1, 8 epochs",
    **{f"cut-std-{std}": f"gradient cut, std {std}" for std in ("1", "0.1")},
    **{f"gradient-std-{std}": f"gradient restored, std {std}" for std in ("1", "0.1")},
    **{f"group-kl-std-{std}": f"gradient restored, class KL per group, std {std}" for std in ("1", "0.1")},
    "bound": "the bound, 15 epochs",
    "costly-style": "1. style KL of weight 4",
    "few-images": "2. + groups of at most five",
    "cheap-class": "3. + class KL of weight 0.3",
    "consensus": "4. + consensus",
    "unnamed": "without labels: 60 epochs",
    "unnamed-cut": "without labels, gradient cut",
    "named": "with labels",
    "supervised": "chapter 02's model, all labels",
    "unnamed-unseen": "4. without 4 and 7",
    "cut-unseen": "gradient cut, std 0.1, without 4 and 7",
    "paper": "the paper's objective, std 1",
    "deterministic-class": "no noise, with its gradient",
    "deterministic-class-cut": "no noise, as it ran, 30 epochs",
    "deterministic-class-cut-400-epochs": "no noise, as it ran, 400 epochs",
    "latent-5-10": "5 dimensions of style, 10 of class",
    "latent-20-20": "20 dimensions of style, 20 of class",
    "batch-64": "batches of 64",
    "batch-512": "batches of 512",
    **{f"style-kl-{weight}": f"weight of the style KL {weight}" for weight in (1, 2, 4)},
    "step-groups": "small groups",
    "groups-style-kl-4": "small groups, weight of the style KL 4",
    "step-adversary": "small groups, adversary",
    "step-identity": "small groups, identity",
    "mended-60-epochs": "mended, 60 epochs",
    "no-evidence": "mended, each image its own group",
    "plain-no-evidence": "plain, each image its own group",
    "eps-per-sample": "mended, a draw for each image",
    "plain-eps-per-sample": "weight of the style KL 2, a draw for each image",
    "exact": "mended, prior counted once",
    "unseen-classes": "mended, 4 and 7 never seen",
    "plain-unseen-classes": "plain, 4 and 7 never seen",
}
SPATIAL_TRANSFORMER = {
    "pixels": "told the pixels",
    "where": "told where",
    "reader": "told by a reader",
    "reader-small": "told by a reader, small window",
    "where-small": "told where, small window",
    "joint": "reader learns too",
    "whole": "no window",
    "untrained": "untrained: the first window",
    "descent": "descent, wide window, sharp",
    "descent-small": "descent, small window, sharp",
    "descent-blurred": "descent, wide window, blurred first",
    "descent-small-blurred": "descent, small window, blurred first",
}
AIR = {
    "exact": "exact sum",
    "exact-diagonal": "exact sum, diagonal scenes",
    "reinforce-faithful": "REINFORCE, as published",
    "reinforce-corrected": "REINFORCE, corrected, scale bounded",
    "reinforce-corrected-unbounded": "REINFORCE, corrected",
    "reinforce-matched": "REINFORCE, learnt baseline",
    "reinforce-matched-no-baseline": "REINFORCE, no baseline",
    "concrete-matched": "Concrete relaxation",
    "no-floor": "no floor",
    "no-floor-kl-warmup": "no floor, KL warmed up",
    "no-floor-annealed-prior": "no floor, prior annealed",
    "annealed-prior": "floor, and prior annealed",
    "presence-prior-half": "even odds for presence",
    "tutorial-variance": "the tutorial's variance",
    "tutorial-window": "the tutorial's windows",
    "tutorial-network": "the tutorial's network, no convolutions",
    "tutorial-counts": "no, one and two digits at equal odds",
    "no-scale-range": "no bounds on scale and log-variance",
    "bernoulli": "Bernoulli likelihood",
    "output-clamped": "output clamped",
    "output-absolute": "absolute value of the output",
    "output-linear": "output as it is, from zero",
    "to-three": "trained on 0 to 3 digits",
    "up-to-three": "trained on 0 to 2, tried on 3",
    "to-three-large-window": "trained on 0 to 3, larger windows",
    "sprites": "sprites, smaller windows",
    "sprites-large-window": "sprites, this book's windows",
    "explored": "counts explored",
    "explored-diagonal": "counts explored, diagonal scenes",
    "explored-equal-counts": "counts explored, none, one and two digits at equal odds",
    "explored-sprites": "counts explored, sprites",
    "ink": "count from the ink",
    "ink-diagonal": "count from the ink, diagonal scenes",
}
VARIANTS = {
    "primer": PRIMER,
    "mix-and-match": MIX_AND_MATCH,
    "conditional-vae": CONDITIONAL_VAE,
    "multi-level-vae": MULTI_LEVEL_VAE,
    "spatial-transformer": SPATIAL_TRANSFORMER,
    "air": AIR,
}


def a_digit(digit: int) -> str:
    """A digit with its article: a 3, an 8."""
    return f"an {digit}" if digit == 8 else f"a {digit}"


def term(key: str) -> str:
    """A term of a loss in words, with its unit."""
    return TERMS.get(key, key.replace("_", " "))


def variant(names: Mapping[str, str], key: str) -> str:
    """A variant in words, by its experiment's names: as `KL weight 3` of `kl-weight-3` by PRIMER, or of a key without one."""
    return names.get(key, key.replace("-", " "))
