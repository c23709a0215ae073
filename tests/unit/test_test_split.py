"""The test split is read by what reports, never by what trains, chooses or watches: chapters and experiments, read as code.

Whatever comes of test digits is followed by name, through assignments, loops and functions, to the calls that train. There
it may be no argument: not the digits themselves, not a hook that looks at them, not a number that was chosen on them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentbook.authoring import notebooks

ROOT = Path(__file__).resolve().parents[2]
TRAINS = {"fit", "train", "train_as", "TrainingRun"}  # calls after which a model knows what it was given
WATCHES = {"validation", "track_accuracy", "Counting", "on_epoch_end"}  # makers of hooks that measure held-out examples
PARAMETERS = {"test", "test_digits"}  # of functions that are handed the test split
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# What still watches test digits, with what takes it off this list. A file that no longer does must be taken off: the test
# says so. Chapters 04 and 05 make their choices on validation digits when they are rewritten, each by an issue of its own.
EXEMPT = {
    "04-spatial-transformer": "by the issue that rewrites it: what its windows are watched on",
    "05-attend-infer-repeat": "by the issue that rewrites it: what its curves count",
    "air": "chapter 05's experiment, by the same issue: Counting(watched)",
}


# A leak that is made on purpose, to be measured: the call, and why.
ON_PURPOSE = {
    "conditional_vae": {
        "globals()['train'](replace(config, share=1.0), leaked, seed, device, progress=progress)": "the tutorial's pooled splits"
    }
}


def chapters() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.md"))


def experiments() -> list[Path]:
    return sorted((ROOT / "src" / "latentbook" / "experiments").glob("*.py"))


def code_of(path: Path) -> str:
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = [cell.source for cell in notebooks.read(path).cells if cell.cell_type == "code"]
    return "\n".join(notebooks._without_magics(cell) for cell in cells)


def last_name(call: ast.Call) -> str:
    """`validation` of `validation(...)` and of `training.validation(...)`, `train` of `globals()["train"](...)`."""
    function = call.func
    if isinstance(function, ast.Subscript) and isinstance(function.slice, ast.Constant):
        return str(function.slice.value)
    return getattr(function, "attr", getattr(function, "id", ""))


def names(node: ast.AST) -> Iterator[str]:
    return (leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name))


def loads_test(node: ast.AST) -> bool:
    """Whether an expression holds load_digits("test", ...)."""
    return any(
        isinstance(call, ast.Call)
        and last_name(call) == "load_digits"
        and any(
            isinstance(a, ast.Constant) and a.value == "test" for a in [*call.args, *(k.value for k in call.keywords)]
        )
        for call in ast.walk(node)
    )


def local_names(function: ast.AST) -> set[str]:
    """The names that a function binds itself, which hide those outside."""
    arguments = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    return arguments | {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def own_nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """The nodes of a scope, functions inside it left out but for themselves."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FUNCTIONS):
            waiting += ast.iter_child_nodes(node)


def one_by_one(targets: list[ast.expr], value: ast.expr | None) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What each target gets: of `a, b = x, y` the parts, of everything else the whole."""
    for target in targets if value is not None else ():
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            yield from zip(target.elts, value.elts, strict=True)
        else:
            yield target, value


def from_test(scope: list[ast.stmt], outside: set[str]) -> set[str]:
    """The names of a scope that come of test digits, given those outside it that do."""
    found, nodes = set(outside), list(own_nodes(scope))
    while True:
        before = set(found)
        for node in nodes:
            if isinstance(node, FUNCTIONS):  # what it returns, if it reads such a name
                if set(names(node)) & (found - local_names(node)) or loads_test(node):
                    found.add(node.name)
                continue
            pairs = {
                ast.Assign: lambda n: (n.targets, n.value),
                ast.AnnAssign: lambda n: ([n.target], n.value),
                ast.AugAssign: lambda n: ([n.target], n.value),
                ast.NamedExpr: lambda n: ([n.target], n.value),
                ast.For: lambda n: ([n.target], n.iter),
                ast.comprehension: lambda n: ([n.target], n.iter),
            }.get(type(node))
            if pairs:
                for target, value in one_by_one(*pairs(node)):
                    if set(names(value)) & found or loads_test(value):
                        found |= set(names(target))
        if found == before:
            return found


def offences(code: str) -> list[str]:
    """The calls that train or watch with something that comes of test digits, as written."""

    def of(scope: list[ast.stmt], outside: set[str]) -> Iterator[str]:
        tainted = from_test(scope, outside)
        for node in own_nodes(scope):
            if isinstance(node, FUNCTIONS):
                arguments = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
                yield from of(node.body, (tainted - local_names(node)) | (arguments & PARAMETERS))
            elif isinstance(node, ast.Call):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                told = last_name(node) in TRAINS | WATCHES
                watched = [k.value for k in node.keywords if k.arg in ("hooks", "on_epoch_end")]
                for value in given if told else watched:
                    if set(names(value)) & tainted or loads_test(value):
                        yield ast.unparse(node)
                        break

    return sorted(set(of(ast.parse(code).body, set())))


def test_no_chapter_and_no_experiment_trains_or_watches_on_test_digits():
    found = {path.stem: offences(code_of(path)) for path in [*chapters(), *experiments()]}
    assert len(found) > 15
    for name, calls in ON_PURPOSE.items():
        assert set(calls) <= set(found[name]), f"{name} no longer makes this leak: take it off ON_PURPOSE"
        found[name] = [call for call in found[name] if call not in calls]
    told = "\n".join(f"{name}: {call}" for name, calls in found.items() if name not in EXEMPT for call in calls)
    assert not told, f"these read test digits; use validation digits (data.train_validation_split):\n{told}"
    done = [name for name in EXEMPT if not found[name]]
    assert not done, f"{', '.join(done)}: reads test digits no more, so take it off EXEMPT"


HEAD = 'digits, test_digits = load_digits("train"), load_digits(split="test")\n'


@pytest.mark.parametrize(
    "code",
    [
        "model, _ = fit(model, digits, on_epoch_end=validation(test_digits))",
        "hooks = [validation(test_digits), live_curves()]\ntrain(config, digits, hooks=hooks)",
        "shown = test_digits.take(slice(0, 9))\nprimer.train(config, digits, 0, hooks=[Strips(z, shown.images)])",
        "def held():\n    return validation(test_digits)\nrun(config, hooks=[held()])",
        "def trained(rate):\n    return fit(model, digits, hooks=[training.validation(test_digits)])",
        "scenes = draw_scenes(test_digits, 9)\nhook = Counting(scenes)",
        "loss = {rate: mean_terms(at[rate], test_digits) for rate in rates}\n"
        "best = min(loss, key=loss.get)\nfit(model, digits, learning_rate=best)",
        "for rate, nats in measured(test_digits):\n    fit(model, digits, learning_rate=rate)",
        "fit(model, load_digits('test'))",
    ],
)
def test_reading_test_digits_in_training_is_seen(code):
    assert offences(HEAD + code), code


@pytest.mark.parametrize(
    "code",
    [
        "left, held = train_validation_split(digits)\nfit(model, left, on_epoch_end=validation(held))",
        "terms = mean_terms(model, test_digits)\nscores = evaluate(model, digits, test_digits)\nprint(terms, scores)",
        "def train(variant, hooks=()):\n    return primer.train(VARIANTS[variant], digits, hooks=hooks)\ntrain('a')",
        "def score(model, test):\n    found = model(test)\n    return found\ndef other(found):\n    return fit(found, digits)",
    ],
)
def test_reporting_on_test_digits_is_allowed(code):
    assert offences(HEAD + code) == [], code


def test_an_experiment_that_watches_the_digits_it_is_handed_as_test_is_seen():
    code = """
def run(variant, seed, *, config, train, test, progress=True):
    watched = draw_scenes(objects(config, test), 9)
    hook = Watch(watched)
    model, history = globals()["train"](config, train, seed, hooks=[hook], progress=progress)
    return evaluate(model, config, test)
"""
    assert offences(code) == [
        "globals()['train'](config, train, seed, hooks=[hook], progress=progress)",
    ]
    assert offences(code.replace("hooks=[hook], ", "")) == []
