"""What the site's helpers share: a script of theirs among the static files."""

from pathlib import Path

HERE = Path(__file__).resolve().parent


def add_script(app, name: str) -> None:
    """Put a script that stands beside the helpers where pages find it as `latentbook/NAME`; an unchanged one keeps its time."""
    if app.builder.format != "html":
        return
    target = Path(app.doctreedir).parent / ".site_static" / "latentbook" / name
    content = (HERE / name).read_bytes()
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
