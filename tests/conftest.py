"""What all tests share: no settings from outside, one thread a process, gpu tests skipped where there is none."""

import os
import sys

import pytest

sys.modules.setdefault("rfc3987_syntax", None)  # takes two seconds to import, and checks addresses that no notebook has
for name in [name for name in os.environ if name.startswith("LATENTBOOK_")]:
    del os.environ[name]  # neither a reader's data nor a profile decides what is tested
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # ipykernel's word about frozen modules is not ours


def pytest_collection_modifyitems(items):
    """Skip what needs an accelerator where there is none; torch is asked only if such a test was collected."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Several test processes share the cores; more threads than cores only wait for one another."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_draws():
    """What a test draws without a generator of its own, weights above all, is the same in every run."""
    import torch

    torch.manual_seed(0)
