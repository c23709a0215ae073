"""Sphinx extension: the `ledger` directive renders src/latentbook/results/*.json, one table an experiment.

    ```{ledger}
    ```

shows all experiments found, `{ledger} mix-and-match` one of them. Every section and row has an anchor, so that prose
can link to the numbers behind a claim: ledger.md#mix-and-match, ledger.md#mix-and-match-best.
"""

import ast
import json
from pathlib import Path
from statistics import mean, stdev

from docutils import nodes
from docutils.parsers.rst import Directive

RESULTS = Path("src/latentbook/results")
EXPERIMENTS = Path("src/latentbook/experiments")
SHARES = (  # metrics whose names begin so are fractions of 1, shown as per cent
    *("agreement", "accuracy", "asked_agreement", "other_label_wins", "source_digit_wins", "follows_", "z_probe"),
    *("class_probe", "style_probe", "variance_share", "box_iou", "window_iou"),
    *("count_", "undercounts", "overcounts", "crossed_98"),
    *("placed", "unseen_", "generated_follows", "table_"),
)
TITLES = {
    "primer": "Variational autoencoders, a primer",
    "mix-and-match": "Mix-and-Match",
    "conditional-vae": "Conditional VAE",
    "multi-level-vae": "Multi-Level VAE",
    "spatial-transformer": "Spatial transformer",
    "air": "Attend, Infer, Repeat",
}
SOURCES = {"mnist": "MNIST", "offline": "the embedded 8×8 digits (not MNIST)"}
LABELS = {
    "posterior_bce": "posterior BCE, nats",
    "one_sample_bce": "one-sample BCE, nats",
    "best_of_18_bce": "best-of-18 BCE, nats",
    "bce": "BCE, nats",
    "kl": "KL, nats",
    "bce_and_kl": "BCE + KL, nats",
    "elbo": "ELBO, nats",
    "active_units": "active units",
    "pairwise_l2": "pairwise L2",
    "agreement": "judge agreement",
    "asked_agreement": "asked digit seen",
    "asked_agreement_shuffled": "same, asked digits shuffled",
    "other_label_wins": "new label wins",
    "source_digit_wins": "old digit wins",
    **{f"follows_class_k{k}": f"follows class, k = {k}" for k in (1, 2, 5, 10)},
    "follows_style": "follows style, k = 1",
    **{f"follows_style_k{k}": f"follows style, k = {k}" for k in (2, 5, 10)},
    "class_probe_single": "class probe, single images",
    "style_probe": "style probe",
    "slant_kept": "slant kept, correlation",
    "thickness_kept": "thickness kept, correlation",
    "variance_share_z": "variance from z",
    "variance_share_mask": "variance from the mask",
    "variance_share_interaction": "variance from both",
    "count_accuracy": "counted right",
    "count_accuracy_sampled": "counted right, drawn",
    "count_accuracy_uniform": "counted right, uniform scenes",
    "count_accuracy_diagonal": "counted right, diagonal scenes",
    "undercounts": "too few",
    "overcounts": "too many",
    "crossed_98": "runs that crossed 98 %",
    "steps_to_98": "steps till then",
    "seconds_to_98": "seconds till then",
    "window_iou": "window on ink, IoU",
    "box_iou": "IoU of boxes",
    "iwae_100": "bound of 100 draws, nats",
}
LEFT_OUT = "_seen_as_"  # the count's whole confusion: a column for every pair of numbers, and the chapter has it


def is_share(metric: str) -> bool:
    return metric.startswith(SHARES) or metric.endswith(("_accuracy", "_agreement", "_share"))


def label(metric: str) -> str:
    return LABELS.get(metric, metric.replace("_", " "))


def places(metric: str, values: list[float]) -> int:
    """Decimal places that show about three digits of the largest value."""
    if is_share(metric):
        return 2 if metric.startswith(("count_", "undercounts", "overcounts")) else 1  # nearly all of these are right
    size = max((abs(v) for v in values), default=0)
    return 1 if size >= 10 else 2 if size >= 1 else 3


def cell(metric: str, values: list[float], digits: int) -> str:
    """`66.2 ± 0.8 %`: mean and standard deviation over the seeds; a single value stands alone."""
    factor, unit = (100, " %") if is_share(metric) else (1, "")
    values = [factor * v for v in values]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}{unit}".replace("-", "−")


def span(seconds: list[float]) -> str:
    """Mean seconds a run, in a unit one can read."""
    if not seconds:
        return "–"
    average = mean(seconds)
    return f"{average:.0f} s" if average < 100 else f"{average / 60:.1f} min"


def seeds_as_text(seeds: list[int]) -> str:
    """[0, 1, 2, 3, 4] as 0-4 and [0, 2, 5] as 0,2,5: the form that `--seeds` takes."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def threshold(root: Path, experiment: str) -> str:
    """What counts as a failed run: THRESHOLD_TEXT of the experiment's module, read without importing it."""
    path = root / EXPERIMENTS / f"{experiment.replace('-', '_')}.py"
    if not path.exists():
        return ""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", "") == "THRESHOLD_TEXT" for target in targets):
            try:
                return str(ast.literal_eval(node.value))
            except ValueError:
                return ""
    return ""


class Ledger(Directive):
    """Sections with a table for each experiment found; a plain sentence where there is none yet."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        root = Path(env.app.srcdir)
        files = {path.stem: path for path in (root / RESULTS).glob("*.json")}
        published = read(files.pop("published", None))
        for path in files.values():
            env.note_dependency(str(path))
        order = list(TITLES)
        wanted = self.arguments or sorted(files, key=lambda n: (order.index(n) if n in order else len(order), n))
        found = [name for name in wanted if name in files]
        if not found:
            what = f"of {wanted[0]} " if self.arguments else ""
            return [nodes.paragraph("", f"No results {what}have been recorded yet.")]
        return [section(name, read(files[name]), published.get(name, {}), threshold(root, name)) for name in found]


def read(path: Path | None) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {}


def section(name: str, results: dict, published: dict, failed_means: str) -> nodes.section:
    """One experiment: its table, then how and where it was run."""
    part = nodes.section(ids=[name], names=[name], classes=["lb-ledger"])
    part += nodes.title("", TITLES.get(name, name.replace("-", " ").capitalize()))
    part += table(name, results.get("variants", {}), published)
    part += facts(name, results, published, failed_means)
    return part


def table(name: str, variants: dict, published: dict) -> nodes.table:
    """Rows are variants, columns metrics; published systems stand below."""
    columns: dict[str, list[float]] = {}
    for variant in variants.values():
        for metric, values in variant.get("metrics", {}).items():
            if LEFT_OUT not in metric:
                columns.setdefault(metric, []).extend(values)
    systems = {
        s: {k: v for k, v in row.items() if not k.startswith("_")}
        for s, row in published.items()
        if isinstance(row, dict)
    }
    for row in systems.values():
        for metric, value in row.items():
            columns.setdefault(metric, []).append(value)
    known = list(LABELS)
    columns = dict(sorted(columns.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))
    digits = {metric: places(metric, values) for metric, values in columns.items()}
    rows = [
        (
            variant.replace("-", " "),
            [cell(m, v["metrics"][m], digits[m]) if v.get("metrics", {}).get(m) else "–" for m in columns],
            [seeds_as_text(v.get("seeds", [])) or "–", str(len(v.get("failed", []))), span(v.get("seconds", []))],
            {"ids": [f"{name}-{variant}"]},
        )
        for variant, v in variants.items()
    ]
    for index, (system, row) in enumerate(systems.items()):
        classes = ["lb-published"] + (["lb-first-published"] if index == 0 else [])
        values = [cell(m, [row[m]], digits[m]) if m in row else "–" for m in columns]
        rows.append(
            (
                f"{system.replace('-', ' ')}, published",
                values,
                ["–"] * 3,
                {"classes": classes, "ids": [f"{name}-published-{system}"]},
            )
        )
    header = ["variant", *map(label, columns), "seeds", "failed", "a run"]
    return grid(header, [([title, *values, *run], attributes) for title, values, run, attributes in rows])


def grid(header: list[str], rows: list[tuple[list[str], dict]]) -> nodes.table:
    """A docutils table whose first column names the rows."""
    group = nodes.tgroup(cols=len(header))
    for index in range(len(header)):
        group += nodes.colspec(colwidth=1, stub=1 if index == 0 else 0)
    head, body = nodes.thead(), nodes.tbody()
    head += line(header)
    for texts, attributes in rows:
        body += line(texts, **attributes)
    group += [head, body]
    return nodes.table("", group)


def line(texts: list[str], **attributes) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in texts), **attributes)


def facts(name: str, results: dict, published: dict, failed_means: str) -> nodes.definition_list:
    """How to reproduce the table, on which data and machine it was made, and where published figures stand."""
    variants = results.get("variants", {})
    lost = [
        f"{variant.replace('-', ' ')}: " + "; ".join(f"seed {seed}, {reason}" for seed, reason in reasons.items())
        for variant, v in variants.items()
        if (reasons := v.get("reasons"))
    ]
    data, hardware = results.get("data", {}), results.get("hardware", {})
    listed = hardware.items() if isinstance(hardware, dict) else [("machine", hardware)]
    entries: list[tuple[str, list[nodes.Node]]] = [
        ("to reproduce", [nodes.paragraph("", "", nodes.literal("", text)) for text in commands(name, variants)]),
        (
            "values",
            [
                nodes.Text(
                    "mean ± standard deviation over the seeds in the row; a failed run that has values is in the mean"
                )
            ],
        ),
        ("a failed run", [nodes.Text(failed_means)] if failed_means else []),
        ("failed", [nodes.paragraph("", text) for text in lost]),
        (
            "data",
            [
                nodes.Text(f"{SOURCES.get(data['source'], data['source'])}, SHA-256 "),
                nodes.literal("", str(data.get("hash", ""))[:16]),
            ]
            if data.get("source")
            else [],
        ),
        ("hardware", [nodes.Text(", ".join(f"{k} {v}" for k, v in listed))] if hardware else []),
        (
            "versions",
            [nodes.Text(", ".join(f"{k} {v}" for k, v in results.get("versions", {}).items()))]
            if results.get("versions")
            else [],
        ),
    ]
    for system, row in published.items():
        if isinstance(row, dict) and row.get("_source"):
            entries.append((f"{system.replace('-', ' ')}, published", [nodes.Text(row["_source"])]))
    items = [
        nodes.definition_list_item("", nodes.term("", term), nodes.definition("", *paragraphs(content)))
        for term, content in entries
        if content
    ]
    return nodes.definition_list("", *items, classes=["lb-ledger-facts"])


def commands(name: str, variants: dict) -> list[str]:
    """What makes a table again: one command if all variants have the same seeds, else one for those that share theirs."""
    groups: dict[str, list[str]] = {}
    for variant, v in variants.items():
        if seeds := seeds_as_text([*v.get("seeds", []), *v.get("failed", [])]):
            groups.setdefault(seeds, []).append(variant)
    return [
        f"python -m latentbook reproduce {name} "
        + ("" if len(groups) == 1 else f"--variants {','.join(names)} ")
        + f"--seeds {seeds}"
        for seeds, names in groups.items()
    ]


def paragraphs(content: list[nodes.Node]) -> list[nodes.Node]:
    """Paragraphs as they are; anything else as one paragraph."""
    return content if isinstance(content[0], nodes.paragraph) else [nodes.paragraph("", "", *content)]


def link_rows(app, doctree) -> None:
    """Let Markdown link to sections and rows: [text](../book/ledger.md#mix-and-match-best)."""
    ids = [i for part in doctree.findall(nodes.section) if "lb-ledger" in part["classes"] for i in part["ids"]]
    ids += [i for row in doctree.findall(nodes.row) for i in row["ids"]]
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    slugs.update({i: (0, i, i) for i in ids if i not in slugs})


def always_again(app, env, added, changed, removed) -> list[str]:
    """Read the pages with a ledger anew in every build: an experiment's file may have appeared."""
    return [name for name in env.found_docs if name == "book/ledger"]


def setup(app):
    app.add_directive("ledger", Ledger)
    app.connect("doctree-read", link_rows)
    app.connect("env-get-outdated", always_again)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
