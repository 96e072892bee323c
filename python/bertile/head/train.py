"""Trains a head on frozen hidden states, and the head in floating point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertile.head.model import POOLINGS, Head

BATCH = 64
# Small data is seen more often: at least so many steps.
STEPS_MIN = 300


@dataclass(frozen=True)
class Training:
    """How a head is trained: AdamW with a cosine schedule on cross entropy."""

    features: int = 64
    epochs: int = 6
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    dropout: float = 0.3


def pool_states(hidden: list[np.ndarray], pooling: str) -> np.ndarray:
    """[sequences, hidden] float32: the mean of the pooled tokens of hidden states [tokens, hidden].

    As `bertile.inference.mean_pool` but without the division by its length, which hardware would need a square root
    for and a trained head does not miss.
    """
    return np.stack([states[: POOLINGS[pooling]].mean(axis=0) for states in hidden]).astype(np.float32)


def float_logits(head: Head, pooled: np.ndarray) -> np.ndarray:
    """PyTorch's logits [sequences, labels] float32 of pooled means [sequences, hidden]."""
    import torch
    from torch.nn.functional import linear

    x, *tensors = (torch.from_numpy(np.asarray(array, np.float32)) for array in (pooled, *head.tensors().values()))
    pooler_weight, pooler_bias, classifier_weight, classifier_bias = tensors
    return linear(torch.tanh(linear(x, pooler_weight, pooler_bias)), classifier_weight, classifier_bias).numpy()


def train_head(
    pooled: np.ndarray,
    targets: np.ndarray,
    labels: tuple[str, ...],
    pooling: str,
    training: Training,
    provenance: dict,
) -> Head:
    """A head for pooled means [n, hidden] with targets [n] in 0..labels-1; the same on every run of one machine."""
    import torch

    mean, spread = pooled.mean(axis=0), pooled.std(axis=0) + 1e-6
    x, y = torch.from_numpy((pooled - mean) / spread), torch.from_numpy(targets)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        pooler = torch.nn.Linear(x.shape[1], training.features)
        classifier = torch.nn.Linear(training.features, len(labels))
        network = torch.nn.Sequential(pooler, torch.nn.Tanh(), torch.nn.Dropout(training.dropout), classifier)
        fit(network, x, y, training)
    # The standardization of the input is folded into the pooler.
    weight = pooler.weight.detach().numpy().astype(np.float64) / spread
    bias = pooler.bias.detach().numpy() - weight @ mean
    return Head(
        weight.astype(np.float32),
        bias.astype(np.float32),
        classifier.weight.detach().numpy(),
        classifier.bias.detach().numpy(),
        labels,
        pooling,
        {**provenance, "training": vars(training)},
    )


def fit(network, x, y, training: Training) -> None:
    """Minimize cross entropy over shuffled batches of x [n, hidden], y [n]."""
    import torch

    epochs = max(training.epochs, -(-STEPS_MIN * BATCH // len(x)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(x) // BATCH))
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(network(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
