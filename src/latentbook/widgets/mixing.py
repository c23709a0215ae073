"""MixingFigure: two feature vectors being mixed, as Mix-and-Match does on its encoder and its decoder side."""

from collections.abc import Sequence
from typing import Any, ClassVar

import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from latentbook import checks
from latentbook.figures.plots import BookFigure, book_style
from latentbook.widgets.base import StaticWidget, Whole, compose
from latentbook.widgets.checks import probabilities

TONES = {"data": "#0072B2", "condition": "#E69F00", "latent": "#009E73"}
HATCHES = {"data": "", "condition": "////", "latent": "...."}
SIDES = {  # side: (source of the drawn features, source of the others, where the mix goes)
    "encoder": ("data", "condition", "mixed, into the VAE encoder"),
    "decoder": ("condition", "latent", "mixed, into the decoder"),
}
PER = ("example", "batch")


def generator(seed: int):
    """mulberry32, the same unsigned 32-bit integers as `generator` in base.js."""
    state = seed & 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = ((state ^ (state >> 15)) * (state | 1)) & 0xFFFFFFFF
        t ^= (t + ((t ^ (t >> 7)) * (t | 61) & 0xFFFFFFFF)) & 0xFFFFFFFF
        yield (t ^ (t >> 14)) & 0xFFFFFFFF


def draw_mask(seed: int, alpha: int, hidden: int, rows: int, per: str = "example") -> list[list[bool]]:
    """The mask that the figure shows: `rows` x `hidden`, exactly `alpha` True in every row.

    A row is the first `alpha` places of a seeded shuffle, so a larger alpha keeps what a smaller one drew.
    per: "example" draws each row for itself; "batch" draws one row and repeats it, as the original does.
    The figure's JavaScript computes the same, bit for bit; training draws its masks with torch instead.

    Raises ValueError for an alpha outside 0..hidden, a size below 1 or another `per`.
    """
    alpha, hidden, rows = checked_sizes(alpha, hidden, rows, per)
    draws = generator(checks.count("seed", seed, 0))
    mask = []
    for _ in range(rows if per == "example" else 1):
        order = list(range(hidden))
        for i in range(hidden - 1):  # Fisher-Yates, from the front
            j = i + (next(draws) * (hidden - i) >> 32)
            order[i], order[j] = order[j], order[i]
        chosen = set(order[:alpha])
        mask.append([i in chosen for i in range(hidden)])
    return mask if per == "example" else [list(mask[0]) for _ in range(rows)]


def checked_sizes(alpha: Any, hidden: Any, rows: Any, per: Any) -> tuple[int, int, int]:
    """alpha, hidden and rows as plain integers; raises ValueError with what was given and what is allowed."""
    hidden, rows = checks.count("hidden", hidden), checks.count("rows", rows)
    checks.choice("per", per, PER)
    return checks.count("alpha", alpha, 0, hidden), hidden, rows


def invented(seed: int, rows: int, hidden: int) -> list[list[float]]:
    """Feature values between 0 and 1 for a figure without a model behind it."""
    draws = generator(seed)
    return [[round(next(draws) / 2**32, 3) for _ in range(hidden)] for _ in range(rows)]


def as_rows(name: str, values: Any) -> list[list[float]]:
    """Nested lists, an array or a tensor as rows of floats between 0 and 1, rounded to three places.

    Raises ValueError for anything else.
    """
    return probabilities(name, values, "rows hidden", "divide features by their maximum").round(3).tolist()


class MixingFigure(StaticWidget):
    """Rows of features being mixed: data and condition into the encoder, condition and latent into the decoder.

    data, condition, latent: [rows, hidden] values between 0 and 1 (lists, an array or a tensor), shown as the strength
        of a cell; all three or none. Up to about 32 features stay readable on a phone.
        Without them: 3 examples of 16 invented features, or as `rows` and `hidden` say.
    alpha: how many features are drawn in each row; half of them if None.
    per: "example" (a mask for every row) or "batch" (one for all rows). seed: which mask stands there at first.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "mixing"
    _saved: ClassVar[tuple[str, ...]] = ("hidden", "alpha", "seed", "per", "data", "condition", "latent", "caption")
    _esm = compose("mixing", ".js")
    _css = compose("mixing", ".css")

    hidden = Whole(16).tag(sync=True)
    alpha = Whole(8).tag(sync=True)
    seed = Whole(0).tag(sync=True)
    per = traitlets.Enum(PER, "example").tag(sync=True)
    data = traitlets.List().tag(sync=True)
    condition = traitlets.List().tag(sync=True)
    latent = traitlets.List().tag(sync=True)
    caption = traitlets.Unicode(
        "The same drawn features act on both sides. Where a feature is drawn, the encoder sees the data and the "
        "decoder the condition; everywhere else the condition stands in for the data, and the latent for the "
        "condition. Neither network can count on one source alone."
    ).tag(sync=True)

    def __init__(
        self,
        data: Any = None,
        condition: Any = None,
        latent: Any = None,
        *,
        alpha: int | None = None,
        per: str = "example",
        seed: int = 0,
        hidden: int = 16,
        rows: int = 3,
        **traits: Any,
    ) -> None:
        given = {"data": data, "condition": condition, "latent": latent}
        missing = [name for name, values in given.items() if values is None]
        if len(missing) == 3:
            _, hidden, rows = checked_sizes(0, hidden, rows, per)
            table = {name: invented(101 + k, rows, hidden) for k, name in enumerate(given)}
        elif missing:
            raise ValueError(
                f"give data, condition and latent together, or none of them; missing: {', '.join(missing)}"
            )
        else:
            table = {name: as_rows(name, values) for name, values in given.items()}
        shapes = {name: (len(values), len(values[0])) for name, values in table.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"data, condition and latent must have one shape [rows, hidden], got {shapes}")
        rows, hidden = shapes["data"]
        alpha = hidden // 2 if alpha is None else alpha
        alpha, hidden, rows = checked_sizes(alpha, hidden, rows, per)
        seed = checks.count("seed", seed, 0, 2**53)
        super().__init__(**table, hidden=hidden, alpha=alpha, per=per, seed=seed, **traits)

    @traitlets.validate("alpha")
    def _check_alpha(self, proposal: dict) -> int:
        if not 0 <= proposal["value"] <= self.hidden:
            raise traitlets.TraitError(f"alpha must be between 0 and hidden={self.hidden}, got {proposal['value']}")
        return proposal["value"]

    @property
    def mask(self) -> list[list[bool]]:
        """The mask as shown: [rows, hidden], alpha True in every row."""
        return draw_mask(self.seed, self.alpha, self.hidden, len(self.data), self.per)

    def describe(self) -> str:
        """The still picture in words."""
        masks = "one mask for the whole batch" if self.per == "batch" else "a mask of its own for each example"
        return (
            f"Rows of {self.hidden} features for {len(self.data)} examples, {self.alpha} drawn in each, {masks}. "
            "Left, the encoder side: drawn features come from the data (blue, plain), the others from the condition "
            "(orange, hatched). Right, the decoder side: drawn features come from the condition, the others from the "
            "latent (green, dotted)."
        )

    @book_style()
    def still(self) -> Figure:
        """Both sides as drawn by the JavaScript, for the present alpha and mask."""
        figure = BookFigure(figsize=(5.2, 1.0 + 0.45 * len(self.data)), layout="constrained")
        mask = self.mask
        for axes, (side, (drawn, other, target)) in zip(figure.subplots(1, 2), SIDES.items(), strict=True):
            draw_side(axes, side, mask, {drawn: getattr(self, drawn), other: getattr(self, other)}, target)
        return figure


def draw_side(axes, side: str, mask: Sequence[Sequence[bool]], sources: dict[str, list], target: str) -> None:
    """One side: its two sources, those features bright that are used, and the mix of them below."""
    (drawn, other), rows, hidden = tuple(sources), len(mask), len(mask[0])
    step = rows + 1.6
    for block, name in enumerate((drawn, other, "mixed")):
        top = block * step
        label = target if name == "mixed" else f"{name} features, " + ("where drawn" if block == 0 else "elsewhere")
        axes.text(0, top - 0.25, label, fontsize=8.8, color="#333333", va="bottom")
        for r in range(rows):
            for i in range(hidden):
                source = (drawn if mask[r][i] else other) if name == "mixed" else name
                used = name == "mixed" or mask[r][i] == (name == drawn)
                draw_cell(axes, i, top + r, source, float(sources[source][r][i]), used)
    axes.set(xlim=(-0.2, hidden + 0.2), ylim=(3 * step - 1.4, -1.6))
    axes.set_title(f"{side.capitalize()} side", fontsize=11, loc="left", fontweight="bold", color="#222222")
    axes.set_axis_off()


def draw_cell(axes, x: int, y: float, source: str, value: float, used: bool) -> None:
    """One feature as a tile: colour and mark say the source, strength the value."""
    strength = (0.35 + 0.65 * value) if used else 0.1
    box = {"xy": (x + 0.06, y + 0.06), "width": 0.88, "height": 0.88}
    axes.add_patch(Rectangle(**box, facecolor=TONES[source], alpha=strength, linewidth=0))
    if used and HATCHES[source]:
        axes.add_patch(Rectangle(**box, fill=False, hatch=HATCHES[source], edgecolor="white", linewidth=0))
