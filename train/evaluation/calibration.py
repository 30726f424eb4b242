"""Temperature scaling (Guo et al. 2017): one number that makes probabilities mean what they say."""

import numpy as np
from numpy.typing import NDArray


def temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Find the temperature that minimises the cross-entropy of softmax(logits / T).

    :param logits: M x K, of images that were not trained on.
    :param labels: M.
    :return: 0.05 to 20.
    """
    # Cross-entropy is convex in 1 / T, so its only minimum is found by narrowing down in log T.
    grid = np.geomspace(0.05, 20, 81)
    for _ in range(3):
        losses = [cross_entropy(logits / t, labels) for t in grid]
        best = int(np.argmin(losses))
        grid = np.geomspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 41)
    return float(grid[len(grid) // 2])


def cross_entropy(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Mean of -log softmax(logits)[label], in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(labels)), labels].mean())
