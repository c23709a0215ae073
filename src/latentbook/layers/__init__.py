"""What the models are built from: distributions, small networks, the spatial
transformer.
"""

from latentbook.layers.distributions import (
    DiagonalGaussian,
    bernoulli_nll,
    check_temperature,
    count_posterior,
    given_or_normal,
    group_index,
    gumbel_softmax,
    label_kl,
    one_hot,
    presence_log_probs,
    product_of_experts,
    standard_normal,
)
from latentbook.layers.nets import (
    ReversedGradient,
    count_parameters,
    dense,
    dropout,
    side_by_side,
    smoothness,
)
from latentbook.layers.spatial_transformer import (
    affine_from_where,
    box_corners,
    check_where,
    image_to_window,
    invert,
    pair,
    paste_windows,
    pseudo_inverse,
    transform,
    window_to_image,
)

__all__ = [
    "DiagonalGaussian",
    "ReversedGradient",
    "affine_from_where",
    "bernoulli_nll",
    "box_corners",
    "check_temperature",
    "check_where",
    "count_parameters",
    "count_posterior",
    "dense",
    "dropout",
    "given_or_normal",
    "group_index",
    "gumbel_softmax",
    "image_to_window",
    "invert",
    "label_kl",
    "one_hot",
    "pair",
    "paste_windows",
    "presence_log_probs",
    "product_of_experts",
    "pseudo_inverse",
    "side_by_side",
    "smoothness",
    "standard_normal",
    "transform",
    "window_to_image",
]
