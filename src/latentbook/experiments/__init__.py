"""One file a chapter: hyper-parameters with their reasons, the run, its metrics."""

from types import ModuleType

from latentbook.experiments import air, conditional_vae, mix_and_match, multi_level_vae, primer, spatial_transformer

EXPERIMENTS: dict[str, ModuleType] = {
    "primer": primer,
    "mix-and-match": mix_and_match,
    "conditional-vae": conditional_vae,
    "multi-level-vae": multi_level_vae,
    "spatial-transformer": spatial_transformer,
    "air": air,
}
