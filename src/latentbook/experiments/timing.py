"""Speed as a ratio: two ways to take a training step, timed in turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm


def compare(
    ours: Iterator[None], plain: Iterator[None], device: str = "cpu", rounds: int = 7, steps: int = 30
) -> dict[str, Any]:
    """Time two endless runs of steps: the medians over `rounds` of `steps` each, in milliseconds a step, and their ratio.

    `matmul_share` is the share of this machine's matrix-product peak (measured on 1024 x 1024 float32) that our step's
    matrix products reach over the whole step. On a terminal, a bar shows the rounds on stderr.
    """
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in tqdm(range(rounds + 1), "timing", unit="round", leave=False, disable=None):  # the first round warms up
        for name, run in (("ours", ours), ("plain", plain)):
            start = time.perf_counter()
            for _ in range(steps):
                next(run)
            if device != "cpu":
                torch.cuda.synchronize()
            times[name].append(1e3 * (time.perf_counter() - start) / steps)
    ours_ms, plain_ms = (statistics.median(times[name][1:]) for name in ("ours", "plain"))
    with FlopCounterMode(display=False) as counter:
        next(ours)
    peak = matmul_peak(device)
    return {
        "ours_ms": ours_ms,
        "plain_ms": plain_ms,
        "ratio": plain_ms / ours_ms,
        "matmul_share": counter.get_total_flops() / (ours_ms * 1e-3) / peak,
        "matmul_peak_gflops": peak / 1e9,
        "mflop_per_step": counter.get_total_flops() / 1e6,
        "threads": torch.get_num_threads(),
        "device": device,
    }


def matmul_peak(device: str = "cpu", size: int = 1024, repeats: int = 9) -> float:
    """Floating-point operations a second of a float32 matrix product: the best of some repeats."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
