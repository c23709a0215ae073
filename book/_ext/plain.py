"""Sphinx helpers: a page as a reader would say it, without markup and raw TeX."""

import re
from collections.abc import Iterator

from docutils import nodes

SYMBOLS = {
    **{name: chr(0x3B1 + place) for place, name in enumerate(
        re.findall("[a-z]+", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho finalsigma "
        "sigma tau upsilon phi chi psi omega")
    )},
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "varphi": "φ",
    "ell": "ℓ", "times": "×", "cdot": "·", "odot": "⊙", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "ne": "≠",
    "in": "∈", "sum": "Σ", "prod": "Π", "infty": "∞", "approx": "≈", "sim": "~", "to": "→", "rightarrow": "→", "mid": "|",
    "pm": "±", "log": "log", "exp": "exp", "mathbb": "", "partial": "∂", "nabla": "∇", "int": "∫", "sqrt": "√", "ldots": "…",
    "dots": "…", "max": "max", "min": "min", "quad": " ", "qquad": " ", "lVert": "‖", "rVert": "‖", "Vert": "‖",
}  # fmt: skip
SENTENCE = re.compile(r"^.+?[.?!](?=\s|$)")
TAG = re.compile(r"<!--.*?-->|<(style|script)\b.*?</\1>|<[^<]+?>", re.DOTALL)
LONGEST = 200  # characters of a description


def formula(tex: str) -> str:
    r"""A short formula without TeX's marks: `\ell_t \sim p(x \mid z)` becomes `ℓ_t ~ p(x | z)`."""
    tex = re.sub(r"\\(?:text|mathrm|mathbf|mathcal|operatorname|mathsf|boldsymbol|begin|end)\*?\{[^}]*\}", _kept, tex)
    tex = re.sub(r"\\([A-Za-z]+)( ?)", lambda found: _said(*found.groups()), tex)
    tex = re.sub(r"\\[,;:! ]|&|~", " ", tex).replace("\\", " ")
    return re.sub(r"\s+", " ", re.sub(r"[{}]", "", tex)).strip()


def _said(name: str, space: str) -> str:
    said = SYMBOLS.get(name, "")
    return said + space if said == name else said  # a space that ends a command is no space, but log x has one


def _kept(found: re.Match) -> str:
    return "" if found[0].startswith(("\\begin", "\\end")) else found[0].split("{", 1)[1][:-1]


def text(node: nodes.Node) -> str:
    """All that a node says, in one line; formulas as `formula` gives them, display formulas and raw markup left out."""
    return re.sub(r"\s+", " ", "".join(_texts(node))).strip()


def _texts(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Text):
        yield node.astext()
    elif isinstance(node, nodes.math):
        yield formula(node.astext())
    elif isinstance(node, nodes.raw):
        yield (
            TAG.sub("", node.astext()) if "html" in node.get("format", "") and "lb-head" not in node["classes"] else ""
        )
    elif not isinstance(node, (nodes.math_block, nodes.comment, nodes.system_message)):
        for child in node.children:
            yield from _texts(child)
        if not isinstance(node, nodes.Inline):
            yield " "


def is_of_a_cell(node: nodes.Node) -> bool:
    """Whether a node is a notebook's code or output, or stands inside one."""
    while node is not None:
        if isinstance(node, nodes.container) and node.get("nb_element"):
            return True
        node = node.parent
    return False


def prose(document: nodes.document) -> Iterator[str]:
    """The paragraphs that every reader reads: none of code, outputs and tables, none inside a closed <details>."""
    closed = 0
    for node in document.findall(lambda n: isinstance(n, (nodes.paragraph, nodes.raw))):
        if isinstance(node, nodes.raw):
            closed += len(re.findall(r"<details\b", node.astext())) - node.astext().count("</details>")
        elif not closed and not is_of_a_cell(node) and not _in_table(node) and (said := text(node)):
            yield said


def _in_table(node: nodes.Node) -> bool:
    while node := node.parent:
        if isinstance(node, nodes.table):
            return True
    return False


def description(paragraphs: Iterator[str]) -> str:
    """The first sentences of a page, enough to tell what it is about, at most 200 characters."""
    whole = ""
    for paragraph in paragraphs:
        rest = paragraph
        while found := SENTENCE.match(rest):
            longer = f"{whole} {found[0]}".strip()
            if whole and len(longer) > LONGEST:
                return whole
            whole, rest = longer, rest[found.end() :].lstrip()
            if len(whole) >= LONGEST // 3:
                break
        if len(whole) >= LONGEST // 3:
            break
    return whole if len(whole) <= LONGEST else whole[: LONGEST - 1].rsplit(" ", 1)[0] + "…"
