"""What Attend, Infer, Repeat is made of: its sizes and choices, the recurrent cell, and
the VAE of a single window.

`AIRConfig()` has the sizes and priors of a well-known tutorial and counts exactly,
which that one does not; `TUTORIAL` is the tutorial's own choice in everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latentbook import checks

OUTPUTS = ("sigmoid", "clamped", "absolute", "linear")
OBJECTIVES = ("exact", "reinforce", "concrete")
LIKELIHOODS = ("gaussian", "bernoulli")
IMAGE_LAYERS = ("convolutional", "linear")
OTHER_SIZE = "another size of scenes needs another AIRConfig(canvas=...) and training"
# a Bernoulli's mean keeps this far from 0 and 1: an empty canvas would make any ink
# infinitely unlikely
EDGE = 1e-3


@dataclass(frozen=True)
class AIRConfig:
    """Sizes and choices; the defaults are the tutorial's unless the comment says
    otherwise.

    Raises as `check_config`.
    """

    canvas: int = 50  # pixels of a scene, in height and width
    window: int = 24  # pixels of a window: a digit's size in the scene
    # objects at most: one more than there are, so that stopping has to be learnt
    steps: int = 3
    # what the recurrent network sees of the scene; "linear": the tutorial's
    image_layer: str = "convolutional"
    hidden_dim: int = 256  # of the recurrent network's two layers and of its state
    what_dim: int = 20
    what_hidden_dim: int = 400
    # what keeps a window's pixels in range; the others: see WhatVAE
    output: str = "sigmoid"
    # of the sigmoid: windows start almost black, so that using one costs little
    output_bias: float = -3.0
    # "bernoulli": grey values as means, the canvas clamped to [EDGE, 1 - EDGE]
    likelihood: str = "gaussian"
    # of the Gaussian: a pixel off by 1 costs 3.3 nats;
    # the tutorial's 0.36 misses more digits
    variance: float = 0.15
    kl_weight: float = 0.7  # with another weight than 1 the objective is no bound
    # an object must save log(100) nats besides its codes' price, or it is not used
    presence_prior: float = 0.01
    # where's prior, and start: a digit wide with its margin, in the middle; the
    # tutorial's windows (3.0) are smaller, and some end up between two digits
    where_mean: tuple[float, float, float] = (2.2, 0.0, 0.0)
    # prior: all digits of about one size, and anywhere
    where_var: tuple[float, float, float] = (0.01, 1.0, 1.0)
    # initial logit: objects are used before they are any good
    first_presence: float = 2.0
    first_log_var: float = -3.0  # of where, at the start
    # the tutorial has None: a scale that reaches 0 ends the run
    scale_range: tuple[float, float] | None = (1.0, 8.0)
    # of where and what; None there, and so may overflow
    log_var_range: tuple[float, float] | None = (-8.0, 1.0)
    objective: str = "exact"  # the tutorial has "reinforce"
    # for "reinforce": a second recurrent network predicts the cost
    learnt_baseline: bool = True
    # for "reinforce": True for the tutorial's own masks and reward
    # (air_objectives.reinforce)
    published: bool = False
    temperature: float = 1.0  # for "concrete"
    # presence starts in [floor, 1 - floor]:
    # else it saturates before windows are any good
    floor: float = 0.2
    # the count's posterior starts with this share uniform over the counts
    explore: float = 0.0
    # over which floor and exploration sink to 0; the tutorial has none
    floor_steps: int = 1500
    # presence ends at its first absence; False: every step has its own, for "exact"
    stops: bool = True
    # what the next step hears of this one's presence: 1, or its probability
    hears_presence: bool = False
    # what the recurrent network sees: the scene, or what the steps before left of it
    # (the paper's Difference-AIR)
    residual: bool = False

    def __post_init__(self) -> None:
        check_config(self)


def check_config(c: AIRConfig) -> None:
    """Raises ValueError for a choice that does not exist, or numbers out of range;
    stores numbers and tuples as plain ones.
    """
    for name in ("canvas", "window"):
        checks.side(name, getattr(c, name))
    sizes = (
        "canvas",
        "window",
        "steps",
        "hidden_dim",
        "what_dim",
        "what_hidden_dim",
        "floor_steps",
    )
    checks.fields_fit(
        c,
        at_least=dict.fromkeys(sizes, 1)
        | dict.fromkeys(("kl_weight", "floor", "explore"), 0),
        above=dict.fromkeys(
            ("variance", "presence_prior", "where_var", "scale_range", "temperature"), 0
        ),
        below={"presence_prior": 1, "floor": 0.5},
        at_most={"explore": 1},
        choices={
            "objective": OBJECTIVES,
            "output": OUTPUTS,
            "likelihood": LIKELIHOODS,
            "image_layer": IMAGE_LAYERS,
        },
    )
    scales, log_vars = c.scale_range or (0, float("inf")), c.log_var_range or (0, 0)
    for fine, rule in (
        (c.window <= c.canvas, "window must be no larger than canvas"),
        (
            c.canvas >= 6 or c.image_layer == "linear",
            'canvas must be at least 6 for image_layer="convolutional"',
        ),
        (c.where_mean[0] > 0, "the first of where_mean, a scale, must be positive"),
        (
            scales[0] <= c.where_mean[0] <= scales[1],
            "scale_range must hold the first of where_mean",
        ),
        (log_vars[0] <= log_vars[1], "log_var_range must be (low, high)"),
        (
            c.stops or c.objective == "exact",
            'without the stopping rule (stops=False) the objective must be "exact"',
        ),
    ):
        if not fine:
            raise ValueError(f"{rule}, got {c}")


EXACT = AIRConfig()
TUTORIAL = AIRConfig(
    image_layer="linear",
    variance=0.36,
    where_mean=(3.0, 0.0, 0.0),
    objective="reinforce",
    published=True,
    scale_range=None,
    log_var_range=None,
    floor=0.0,
)


class Recurrent(nn.Module):
    """[image, previous z, state] - hidden - hidden - [outputs, next state], with ReLUs.

    The first layer is one layer in two parts, so that the image's share of it is
    computed once for all steps. image_layer: "linear", or "convolutional", where two
    convolutions come before that share: a digit looks the same in every place.
    """

    def __init__(
        self,
        canvas: int,
        z_dim: int,
        hidden_dim: int,
        outputs: int,
        image_layer: str = "linear",
    ):
        super().__init__()
        checks.choice("image_layer", image_layer, IMAGE_LAYERS)
        self.sizes = (outputs, hidden_dim)
        before = (
            convolutions(canvas) if image_layer == "convolutional" else nn.Sequential()
        )
        pixels = before(torch.zeros(1, canvas**2)).shape[1]
        of_image = nn.Linear(pixels, hidden_dim)
        self.of_rest = nn.Linear(z_dim + hidden_dim, hidden_dim, bias=False)
        # as torch starts a layer of all these inputs
        bound = (pixels + z_dim + hidden_dim) ** -0.5
        for parameter in (*of_image.parameters(), *self.of_rest.parameters()):
            nn.init.uniform_(parameter, -bound, bound)
        self.of_image = before.append(of_image)
        self.second = nn.Linear(hidden_dim, hidden_dim)
        self.last = nn.Linear(hidden_dim, outputs + hidden_dim)

    def forward(
        self,
        projected: Float[Tensor, "batch hidden"],
        z: Float[Tensor, "batch z"],
        state: Float[Tensor, "batch hidden"],
    ) -> tuple[Float[Tensor, "batch outputs"], Float[Tensor, "batch hidden"]]:
        """One step: outputs and the next state. projected: `of_image` of the images
        [batch, pixels].
        """
        hidden = F.relu(projected + self.of_rest(torch.cat((z, state), 1)))
        return self.last(F.relu(self.second(hidden))).to(z).split(self.sizes, dim=1)


def convolutions(canvas: int) -> nn.Sequential:
    """Two convolutions with ReLUs of an image [batch, canvas * canvas]; the first, of
    8x8 pixels, goes in steps of 4.
    """
    return nn.Sequential(
        nn.Unflatten(1, (1, canvas, canvas)),
        nn.Conv2d(1, 16, 8, stride=4, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )


class WhatVAE(nn.Module):
    """The VAE of a window of `size` pixels. output: what keeps the decoded pixels in
    range.

    "sigmoid" of the layer plus `bias`; "clamped" to [0, 1], where pixels outside get no
    gradient; "absolute", the layer's absolute value; "linear", the layer as it is,
    which starts at zero.
    """

    def __init__(
        self,
        size: int,
        hidden_dim: int,
        what_dim: int,
        output: str = "sigmoid",
        bias: float = -3.0,
    ):
        super().__init__()
        checks.choice("output", output, OUTPUTS)
        self.size, self.output, self.bias = size, output, bias
        self.encoder = nn.Sequential(
            nn.Linear(size**2, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, 2 * what_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(what_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, size**2)
        )
        if output == "linear":
            nn.init.zeros_(self.decoder[-1].weight)
            nn.init.zeros_(self.decoder[-1].bias)

    def encode(
        self, windows: Float[Tensor, "batch 1 size size"]
    ) -> tuple[Float[Tensor, "batch what"], Float[Tensor, "batch what"]]:
        """Mean and log-variance of q(what | window)."""
        return self.encoder(windows.flatten(1)).to(windows).chunk(2, dim=1)

    def decode(
        self, what: Float[Tensor, "batch what"]
    ) -> Float[Tensor, "batch 1 size size"]:
        """The mean of a window."""
        pixels = self.decoder(what).to(what).view(-1, 1, self.size, self.size)
        if self.output == "sigmoid":
            return torch.sigmoid(pixels + self.bias)
        if self.output == "clamped":
            return pixels.clamp(0, 1)
        return pixels.abs() if self.output == "absolute" else pixels


def check_images(
    images: Tensor, canvas: int, dtype: torch.dtype | None = None
) -> Float[Tensor, "batch 1 canvas canvas"]:
    """Scenes as a model of the precision `dtype` (None: torch's default) takes them.

    Raises ValueError unless they are [batch >= 1, 1, canvas, canvas] in [0, 1], without
    NaN, in a precision that is kept.
    """
    return checks.grey(
        "images", images, ("batch", 1, canvas, canvas), dtype, OTHER_SIZE
    )
