"""The book's models, one a file; AIR's three files stand side by side."""

from latentbook.models.air import AIR, add_up, draw_counts
from latentbook.models.air_objectives import concrete, exact, leave_one_out, reinforce
from latentbook.models.air_parts import EXACT, TUTORIAL, AIRConfig
from latentbook.models.conditional_vae import (
    UNLABELLED,
    ConditionalVAE,
    ConditionalVAEConfig,
    check_classes,
)
from latentbook.models.localisation import (
    SLACK,
    WINDOW,
    Localisation,
    LocalisationConfig,
    place,
)
from latentbook.models.mix_and_match import (
    Completer,
    MixAndMatch,
    MixAndMatchConfig,
    resampling,
    sampling,
)
from latentbook.models.multi_level_vae import (
    MultiLevelVAE,
    MultiLevelVAEConfig,
    draw_groups,
)
from latentbook.models.vae import VAE, Neighbours, VAEConfig

__all__ = [
    "AIR",
    "EXACT",
    "SLACK",
    "TUTORIAL",
    "UNLABELLED",
    "VAE",
    "WINDOW",
    "AIRConfig",
    "Completer",
    "ConditionalVAE",
    "ConditionalVAEConfig",
    "Localisation",
    "LocalisationConfig",
    "MixAndMatch",
    "MixAndMatchConfig",
    "MultiLevelVAE",
    "MultiLevelVAEConfig",
    "Neighbours",
    "VAEConfig",
    "add_up",
    "check_classes",
    "concrete",
    "draw_counts",
    "draw_groups",
    "exact",
    "leave_one_out",
    "place",
    "reinforce",
    "resampling",
    "sampling",
]
