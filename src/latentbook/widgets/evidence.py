"""EvidenceFigure: put images of one class together and watch what they say of it, and what a decoder makes of that."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentbook import checks
from latentbook.figures.plots import BookFigure, book_style
from latentbook.layers.distributions import DiagonalGaussian, product_of_experts
from latentbook.widgets.base import StaticWidget, compose
from latentbook.widgets.checks import chosen, grey, numbers, words
from latentbook.widgets.decoders import decode, pack_decoder
from latentbook.widgets.ellipses import add_ellipse, plane_through
from latentbook.widgets.sprites import draw_mosaic, pack, unpack

MOST = 10  # images that have room in a row
COMBINATIONS = ("product", "exact")


class EvidenceFigure(StaticWidget):
    """The class posterior of a Multi-Level VAE shrinks as images are added; other images are redrawn with it, live.

    images: sets of images of one class each, grey values 0 to 1 [sets, n, height, width], n up to 10.
    mean, log_var: what each image alone says of its class, q(c | x) [sets, n, class]; the prior is N(0, I).
    names: one for each set. centres: the mean class code of each digit [digits, class]; labels: their names, else 0, 1, ...
    styles: images that give their style [styles, height, width]; style_codes: the means of their codes [styles, style].
    decoder: weights and biases of a hidden layer of tanh, which gets (style, class), and of the pixels' logits, as
        list(model.decoder.parameters()). It is kept in 8 bits, so that the page decodes whatever images are chosen.
    plane: two directions of the class code that are drawn [2, class]; None: always the plane through the code of the
        product and the two centres nearest to it, so that these distances are true on paper (without evidence the
        principal directions of the centres).
    k: how many images are in use at first, None: half of them. exact: decode with the combination that counts the prior once.

    Raises ValueError for values that do not fit together, and says what would.
    """

    _name: ClassVar[str] = "evidence"
    _saved: ClassVar[tuple[str, ...]] = (
        "sheet", "packing", "names", "mean", "log_var", "plane", "through", "centres", "labels", "decoder", "evidence", "used",
        "combination", "caption",
    )  # fmt: skip
    _esm = compose("evidence", ".js", "ellipses")
    _css = compose("evidence", ".css")

    sheet = traitlets.Unicode().tag(sync=True)
    packing = traitlets.Dict().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    mean = traitlets.List().tag(sync=True)
    log_var = traitlets.List().tag(sync=True)
    plane = traitlets.List().tag(sync=True)
    through = traitlets.Bool(True).tag(sync=True)  # whether evidence turns the plane to the two nearest centres
    centres = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    decoder = traitlets.Bytes().tag(sync=True)  # as pack_decoder makes it
    evidence = traitlets.Unicode().tag(sync=True)  # the name of the chosen set
    used = traitlets.List().tag(sync=True)  # which of its images, in ascending order
    combination = traitlets.Enum(COMBINATIONS, "product").tag(sync=True)  # the one that is decoded
    caption = traitlets.Unicode(
        "What each image says of its class is a thin ellipse (two standard deviations); what the chosen ones say together is "
        "purple and shrinks with every image. The product counts the prior once for every image, the exact combination "
        "once in all. Dots are the digits' mean class codes. The plane goes through the product's code and the two digits "
        "nearest to it, so their distances are true; the other digits, faint, lie off the plane. "
        "Each style is redrawn with the class code of all images in use up to its column."
    ).tag(sync=True)

    def __init__(
        self,
        images: Any,
        mean: Any,
        log_var: Any,
        *,
        names: Sequence[str],
        centres: Any,
        styles: Any,
        style_codes: Any,
        decoder: Iterable[Any],
        plane: Any = None,
        labels: Sequence[str] | None = None,
        k: int | None = None,
        exact: bool = False,
        **traits: Any,
    ) -> None:
        shown = grey("images", images, "sets n height width")
        sets, n, height, width = shown.shape
        if n > MOST:
            raise ValueError(f"a set has room for {MOST} images, got {n}: leave some out")
        mean = numbers("mean", mean, f"{sets} {n} class")
        dim = mean.shape[2]
        log_var = numbers("log_var", log_var, f"{sets} {n} {dim}")
        centres = numbers("centres", centres, f"digits {dim}")
        across = np.linalg.svd(centres - centres.mean(0))[2][:2]
        turned = numbers("plane", across if plane is None else plane, f"2 {dim}")
        drawn = grey("styles", styles, f"styles {height} {width}")
        codes = numbers("style_codes", style_codes, f"{len(drawn)} style")
        names = words("names", names, sets, "set of images")
        if len(set(names)) != sets:
            raise ValueError(f"names must be {sets} different ones, one for each set of images, got {names}")
        sheet, packing = pack(np.concatenate([shown.reshape(-1, height, width), drawn]))
        super().__init__(
            sheet=sheet,
            packing=packing,
            names=names,
            mean=mean.round(5).tolist(),
            log_var=log_var.round(5).tolist(),
            plane=turned.round(5).tolist(),
            through=plane is None,
            centres=centres.round(5).tolist(),
            labels=words("labels", labels, len(centres), "centre") or [str(i) for i in range(len(centres))],
            decoder=pack_decoder(decoder, codes, dim, height * width),
            evidence=names[0],
            used=list(range((n + 1) // 2 if k is None else chosen("k", k, n + 1))),
            combination="exact" if exact else "product",
            **traits,
        )

    @traitlets.validate("evidence")
    def _check_evidence(self, proposal: dict) -> str:
        if self.names and proposal["value"] not in self.names:
            raise traitlets.TraitError(f"evidence must be one of {self.names}, got {proposal['value']!r}")
        return proposal["value"]

    @traitlets.validate("used")
    def _check_used(self, proposal: dict) -> list[int]:
        most = len(self.mean[0]) - 1 if self.mean else None
        try:
            return sorted({checks.count("used", i, 0, most) for i in proposal["value"]})
        except ValueError as error:
            raise traitlets.TraitError(f"used must lie between 0 and {most}, got {proposal['value']}") from error

    def experts(self, used: Sequence[int]) -> DiagonalGaussian:
        """What the used images of the chosen set say, each alone: [used, class]."""
        i = self.names.index(self.evidence)
        mean, log_var = (torch.tensor(of[i], dtype=torch.float64)[list(used)] for of in (self.mean, self.log_var))
        return DiagonalGaussian(mean, log_var)

    def combined(self, used: Sequence[int], combination: str) -> DiagonalGaussian | None:
        """q(c | the used images) [1, class]: the prior if there are none; None where the combination does not exist."""
        zeros = torch.zeros(len(self.plane[0]), dtype=torch.float64)
        prior = DiagonalGaussian(zeros, zeros)
        if not used:
            return DiagonalGaussian(zeros[None], zeros[None])
        together = torch.zeros(len(used), dtype=torch.long)
        try:
            return product_of_experts(self.experts(used), together, prior if combination == "exact" else None)
        except ValueError:  # finite numbers leave one reason: together the images are wider than the prior
            return None

    def nearest(self, mean: Any) -> str:
        """The label of the centre that lies nearest to a class code."""
        return self.labels[self.nearest_two(mean)[0]]

    def nearest_two(self, mean: Any) -> list[int]:
        """Which centres lie nearest to a class code, the nearest first; one where there is only one."""
        far = np.square(np.asarray(self.centres) - np.asarray(mean)).sum(1)
        return np.argsort(far, kind="stable")[:2].tolist()

    def drawn_plane(self) -> np.ndarray:
        """The two directions that are drawn now, [2, class]: with evidence those of `plane_through`, if nothing else is asked."""
        plane, code = np.asarray(self.plane), self.combined(self.used, "product").mean[0].numpy()
        if not (self.through and self.used):
            return plane
        return plane_through(code, np.asarray(self.centres)[sorted(self.nearest_two(code))], plane)

    def pictures(self) -> tuple[np.ndarray, np.ndarray]:
        """The chosen set's images [n, height, width] and those that give their style [styles, height, width], uint8."""
        found, i, n = unpack(self.sheet, self.packing), self.names.index(self.evidence), len(self.mean[0])
        return found[i * n : (i + 1) * n], found[len(self.names) * n :]

    def columns(self) -> np.ndarray:
        """The styles redrawn in each column, with all used images up to it: uint8 [styles, n, height, width], else blank."""
        images, styles = self.pictures()
        found = np.zeros((len(styles), *images.shape))
        for k, column in enumerate(self.used, 1):
            if (together := self.combined(self.used[:k], self.combination)) is not None:
                drawn = decode(self.decoder, len(styles), together.mean[0].numpy(), images[0].size)
                found[:, column] = drawn.reshape(styles.shape)
        return np.rint(255 * found).astype(np.uint8)

    def describe(self) -> str:
        product, (images, styles) = self.combined(self.used, "product"), self.pictures()
        return (
            f"{len(self.used)} of {len(images)} images ({self.evidence}) are in use, and {len(styles)} other "
            f"image{'s are' if len(styles) > 1 else ' is'} redrawn with the class code of one more of them in each column. "
            "Below, what each image says of its class as an ellipse in a plane of the class code, among the digits' mean "
            f"codes: their product is narrower, with a mean standard deviation of {width_of(product):.2f} where the prior "
            f"has 1, and nearest to the {self.nearest(product.mean[0])}."
        )

    @book_style()
    def still(self) -> Figure:
        (images, styles), used = self.pictures(), self.used
        n, m, tile = len(images), len(styles), 0.55  # inches
        high, left, side = tile * images.shape[1] / images.shape[2], tile + 0.2, 3.1
        across, tall = max(6.9, left + n * tile + 0.05), 0.45 + (m + 1) * high + 0.3 + side + 0.05
        figure = BookFigure(figsize=(across, tall))

        def place(x: float, y: float, width: float, height: float) -> Axes:  # in inches, from the upper left corner
            return figure.add_axes((x / across, 1 - (y + height) / tall, width / across, height / tall))

        marks = [str(used.index(i) + 1) if i in used else "–" for i in range(n)]
        strength = np.where(np.isin(np.arange(n), used), 1, 0.3)[:, None, None]
        shown = (images * strength).astype(np.uint8)[None]
        draw_mosaic(evidence := place(left, 0.4, n * tile, high), shown, marks)
        evidence.set_title("evidence of the class", fontsize=9.5, loc="left", color="#222222", pad=16)
        draw_mosaic(place(0.05, 0.7 + high, tile, m * high), styles[:, None])
        draw_mosaic(redrawn := place(left, 0.7 + high, n * tile, m * high), self.columns())
        redrawn.set_title(
            "redrawn with the class code of all up to here", fontsize=9.5, loc="left", color="#222222", pad=4
        )
        self.draw_plane(place(0.05, tall - side - 0.05, side, side))
        return figure

    def draw_plane(self, axes: Axes) -> None:
        """What each image says, the prior, and both combinations, as ellipses; the digits' mean codes as dots."""
        plane, prior = self.drawn_plane(), self.combined([], "product")
        near = self.nearest_two(self.combined(self.used, "product").mean[0]) if self.through and self.used else None
        alone, n = self.experts(range(len(self.mean[0]))), len(self.mean[0])
        for i in range(n):
            add_ellipse(axes, plane, alone.mean[i], alone.log_var[i], "one", alpha=0.9 if i in self.used else 0.25)
        add_ellipse(axes, plane, prior.mean[0], prior.log_var[0], "prior", label="prior")
        for name in COMBINATIONS:
            if (found := self.combined(self.used, name)) is None:
                axes.plot([], [], " ", label=f"{name}: does not exist here")
                continue
            kl = float(found.kl().sum())
            words = f"{name}\nmean standard deviation {width_of(found):.2f}, KL {kl:.1f} nats"
            add_ellipse(axes, plane, found.mean[0], found.log_var[0], name, label=words)
        dots = np.asarray(self.centres) @ plane.T
        for i, ((x, y), label) in enumerate(zip(dots, self.labels, strict=True)):
            alpha = 1 if near is None or i in near else 0.35  # those off the plane
            axes.plot(x, y, "o", color="#222222", markersize=3.5, alpha=alpha)
            axes.annotate(label, (x, y), (3, 2), textcoords="offset points", fontsize=9, color="#222222", alpha=alpha)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.margins(0.08)
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)


def width_of(posterior: DiagonalGaussian) -> float:
    """The mean standard deviation over the dimensions."""
    return float((0.5 * posterior.log_var).exp().mean())
