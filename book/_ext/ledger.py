"""Sphinx extension: the `ledger` directive renders src/latentbook/results/*.json, one table an experiment.

    ```{ledger}
    ```

shows all experiments found, `{ledger} mix-and-match` one of them. Every section and row has an anchor, so that prose
can link to the numbers behind a claim: ledger.md#mix-and-match, ledger.md#mix-and-match-best. Below the variants stand the
figures that others published (results/published.json) and what the book's own judge says of checkpoints that they published
(results/scored/, by `python -m latentbook score`).

    ```{record} choices
    ```

shows one of two records beside them as a plain table: `choices`, how hyper-parameters were chosen, or `listening`, in nats.

The page holds every column and every run. ledger.js then shows the columns of `FIRST`, lets the reader pick, sort and filter,
and puts what `runs` says of a variant below its row; without scripts all columns stand, and the runs below the table.
"""

import ast
import json
from html import escape
from importlib import import_module
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
    **{f"listening_{code}": f"another's {code}, nats" for code in ("z", "y", "style", "class")},
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
FIRST = {  # the metrics that are shown first, beside variant, seeds and failed: what a chapter argues with
    "primer": ("bce_and_kl", "kl", "listening_z", "follows_alone", "z_probe_linear"),
    "mix-and-match": ("agreement", "pairwise_l2", "best_of_18_bce", "bce_and_kl", "listening_z"),
    "conditional-vae": ("bce", "kl", "accuracy", "asked_agreement", "other_label_wins"),
    "multi-level-vae": ("bce", "follows_class_k1", "follows_class_k10", "follows_style", "slant_kept"),
    "spatial-transformer": ("agreement", "centre_error", "scale_error", "missed_share", "canvas_agreement"),
    "air": ("count_accuracy", "undercounts", "overcounts", "window_iou", "elbo"),
}
RECORDS = (
    "choices",
    "listening",
)  # folders of results, and modules of latentbook.experiments that tell what is in them
SCRIPT = Path(__file__).with_suffix(".js")
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
        for path in read_for_the_ledger(root):
            env.note_dependency(str(path))
        order = list(TITLES)
        wanted = self.arguments or sorted(files, key=lambda n: (order.index(n) if n in order else len(order), n))
        found = [name for name in wanted if name in files]
        if not found:
            what = f"of {wanted[0]} " if self.arguments else ""
            return [nodes.paragraph("", f"No results {what}have been recorded yet.")]
        scored = {name: read(root / RESULTS / "scored" / f"{name}.json") for name in found}
        return [
            section(name, read(files[name]), published.get(name, {}), threshold(root, name), scored[name])
            for name in found
        ]


class Record(Directive):
    """The table of a record by its name, made by the library that wrote it; a plain sentence where there is none yet."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in RECORDS:
            raise self.error(f"a record is one of {', '.join(RECORDS)}, got {name!r}")
        env = self.state.document.settings.env
        folder = Path(env.app.srcdir) / RESULTS / name
        for path in folder.glob("*.json"):
            env.note_dependency(str(path))
        module = import_module(f"latentbook.experiments.{name}")  # here, as it imports torch
        if not (rows := module.rows(folder)):
            return [nodes.paragraph("", f"No {name} have been recorded yet.")]
        return [grid(list(module.HEADER), [(row, {}) for row in rows], set())]


def read_for_the_ledger(root: Path) -> set[Path]:
    """The files that a ledger is made from: results, and the modules that say what a failed run is."""
    results = set((root / RESULTS).glob("*.json"))
    scored = set((root / RESULTS / "scored").glob("*.json"))
    modules = {root / EXPERIMENTS / f"{path.stem.replace('-', '_')}.py" for path in results}
    return results | scored | {path for path in modules if path.exists()}


def read(path: Path | None) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {}


def section(name: str, results: dict, published: dict, failed_means: str, scored: dict | None = None) -> nodes.section:
    """One experiment: its table, then how and where it was run."""
    part = nodes.section(ids=[name], names=[name], classes=["lb-ledger"])
    part += nodes.title("", TITLES.get(name, name.replace("-", " ").capitalize()))
    scored = scored or {}
    part += table(name, results.get("variants", {}), published, scored.get("variants", {}))
    part += nodes.raw("", runs(name, results.get("variants", {}), published, scored), format="html")
    part += facts(name, results, published, failed_means)
    return part


def table(name: str, variants: dict, published: dict, scored: dict) -> nodes.table:
    """Rows are variants, columns metrics; published systems stand below, and published checkpoints by the book's judge."""
    columns: dict[str, list[float]] = {}
    for variant in [*variants.values(), *scored.values()]:
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
    for index, (system, v) in enumerate(scored.items()):
        classes = ["lb-published"] + (["lb-first-published"] if index == 0 and not systems else [])
        values = [cell(m, v["metrics"][m], digits[m]) if m in v["metrics"] else "–" for m in columns]
        rows.append(
            (
                f"{system.replace('-', ' ')}, published checkpoint, by the book's judge",
                values,
                ["–"] * 3,
                {"classes": classes, "ids": [f"{name}-scored-{slug(system)}"]},
            )
        )
    header = ["variant", *map(label, columns), "seeds", "failed", "a run"]
    first = {"variant", *map(label, FIRST.get(name, list(columns)[:5])), "seeds", "failed"}
    return grid(header, [([title, *values, *run], attributes) for title, values, run, attributes in rows], first)


def grid(header: list[str], rows: list[tuple[list[str], dict]], first: set[str]) -> nodes.table:
    """A docutils table whose first column names the rows; the headings of `first` are marked as shown at first."""
    group = nodes.tgroup(cols=len(header))
    for index in range(len(header)):
        group += nodes.colspec(colwidth=1, stub=1 if index == 0 else 0)
    head, body = nodes.thead(), nodes.tbody()
    head += line(header)
    for entry, text in zip(head[0], header, strict=True):
        entry["classes"] += ["lb-first"] if text in first else []
    for texts, attributes in rows:
        body += line(texts, **attributes)
    group += [head, body]
    return nodes.table("", group)


def line(texts: list[str], **attributes) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in texts), **attributes)


def slug(system: str) -> str:
    """A system's name as part of an anchor: without full stops."""
    return system.replace(".", "-")


def runs(name: str, variants: dict, published: dict, scored: dict) -> str:
    """What stands behind each row, as HTML: seeds, command, seconds, failed runs with reasons, hardware; or a source."""
    parts = [run_facts(f"{name}-{variant}", variant, behind(name, variant, v)) for variant, v in variants.items()]
    parts += [
        run_facts(f"{name}-published-{system}", f"{system}, published", [("source", escape(row["_source"]))])
        for system, row in published.items()
        if isinstance(row, dict) and row.get("_source")
    ]
    parts += [
        run_facts(
            f"{name}-scored-{slug(system)}", f"{system}, published checkpoint", how_scored(v, scored["config"][system])
        )
        for system, v in scored.get("variants", {}).items()
    ]
    if not parts:
        return ""
    title = "Seeds, command, seconds, failed runs and hardware of each row"
    return f'<details class="lb-runs"><summary>{title}</summary>{"".join(parts)}</details>'


def run_facts(row: str, title: str, facts: list[tuple[str, str]]) -> str:
    """The facts behind the row with this id, as HTML."""
    listed = "".join(f"<div><dt>{term}</dt><dd>{text}</dd></div>" for term, text in facts if text)
    return f'<div class="lb-run" data-row="{row}"><p>{escape(title.replace("-", " "))}</p><dl>{listed}</dl></div>'


def how_scored(v: dict, config: dict) -> list[tuple[str, str]]:
    """(what, HTML) of one published checkpoint: whose it is, the files by their SHA-256, the command, what was drawn."""
    files = "".join(f"<div>{escape(name)}: SHA-256 {escape(sha256)}</div>" for name, sha256 in config["files"].items())
    return [
        ("source", escape(config["source"])),
        ("files", files),
        ("command", f'<div class="highlight"><pre>{escape(config["command"])}</pre></div>'),
        ("seeds", f"{escape(seeds_as_text(v['seeds']))}, of what is drawn in scoring: one trained model"),
        ("hardware", escape("; ".join(dict.fromkeys(v["hardware"])))),
    ]


def behind(name: str, variant: str, v: dict) -> list[tuple[str, str]]:
    """(what, HTML) of one variant's runs."""
    seeds, hardware, reasons = v.get("seeds", []), v.get("hardware", []), v.get("reasons", {})
    machines = {m: [s for s, other in zip(seeds, hardware, strict=False) if other == m] for m in hardware}
    told = [escape(m) + (f" (seeds {seeds_as_text(on)})" if len(machines) > 1 else "") for m, on in machines.items()]
    took = ", ".join(f"{seconds:g} s" for seconds in v.get("seconds", []))
    again = "".join(
        f'<div class="highlight"><pre>{escape(text)}</pre></div>' for text in commands(name, {variant: v}, whole=False)
    )
    failed = "".join(f"<div>seed {seed}: {escape(reason)}</div>" for seed, reason in reasons.items())
    return [
        ("seeds", escape(seeds_as_text(seeds)) or "none with values"),
        ("command", again),
        ("a run", took + ", in the order of the seeds" * (len(seeds) > 1)),
        ("failed", failed or "none"),
        ("hardware", "; ".join(told)),
    ]


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


def commands(name: str, variants: dict, whole: bool = True) -> list[str]:
    """What makes a table again: one command if all variants have the same seeds, else one for those that share theirs.

    whole: whether these variants are all that there are, so that one command need not name them.
    """
    groups: dict[str, list[str]] = {}
    for variant, v in variants.items():
        if seeds := seeds_as_text([*v.get("seeds", []), *v.get("failed", [])]):
            groups.setdefault(seeds, []).append(variant)
    return [
        f"python -m latentbook reproduce {name} "
        + ("" if whole and len(groups) == 1 else f"--variants {','.join(names)} ")
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


def add_script(app, pagename, templatename, context, doctree) -> None:
    """ledger.js, on the page that holds a ledger alone."""
    if "lb-ledger" in context.get("body", ""):
        app.add_js_file(SCRIPT.name, loading_method="defer")


def again_with_new_files(app, env, added, changed, removed) -> list[str]:
    """Pages with a ledger to be read anew as an experiment's file has appeared; Sphinx sees by itself that one changed."""
    there = {path.resolve() for path in read_for_the_ledger(Path(app.srcdir))}
    known = {
        name: {(Path(app.srcdir) / path).resolve() for path in env.dependencies.get(name, ())}
        for name in env.found_docs
    }
    return [name for name, files in known.items() if name == "book/ledger" and not there <= files]


def setup(app):
    app.add_directive("ledger", Ledger)
    app.add_directive("record", Record)
    app.config.html_static_path.append(str(SCRIPT))
    app.connect("doctree-read", link_rows)
    app.connect("html-page-context", add_script)
    app.connect("env-get-outdated", again_with_new_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
