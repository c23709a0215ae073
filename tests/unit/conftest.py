"""Lets the tests beside this file import what they share, and switches off the shape checks where a test asks for it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # under any import mode


@pytest.fixture
def plain():
    """The library without the shape checks of the test run, which would speak before its own errors."""
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def double_by_default():
    """torch makes float64 numbers unless told otherwise, as some people's start files have it."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
