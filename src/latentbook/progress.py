"""Where progress bars show."""

from __future__ import annotations

import sys


def bar_options(progress: bool = True) -> dict[str, bool]:
    """Options of tqdm for a bar in terminals and notebooks only; elsewhere none. TQDM_DISABLE=1 silences it anywhere."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    visible = progress and (hasattr(shell, "kernel") or sys.stderr.isatty())
    return {} if visible else {"disable": True}
