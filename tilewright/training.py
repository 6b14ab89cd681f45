# SPDX-License-Identifier: Apache-2.0
"""Training for the demo and the examples: one recipe, the same result in each run."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

__all__ = ["accuracy", "predictions", "train_network"]

BATCH = 64
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train_network(
    build: Callable[[], nn.Module],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    loss: Loss,
    epochs: int,
    seed: int = 0,
    augment: Callable[[torch.Tensor], torch.Tensor] = lambda batch: batch,
    progress: Callable[[int], None] = lambda done: None,
) -> nn.Module:
    """Build a network and train it, with AdamW and one cycle of the learning rate.

    Parameters
    ----------
    build : callable
        Makes the network; it draws its weights behind the seed.
    inputs, targets : torch.Tensor
        Batch first; at least two rows, since a batch norm cannot be trained on one.
    loss : callable
        Of what the network gives and the targets.
    epochs : int
    seed : int
        Of everything random. PyTorch's global generator is as before.
    augment : callable
        Makes variety of a batch of inputs.
    progress : callable
        Called with the number of epochs done, after each.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build().train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2)
        batches = -(-len(inputs) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=epochs * batches)
        for epoch in range(epochs):
            for rows in torch.randperm(len(inputs)).tensor_split(batches):
                optimizer.zero_grad()
                loss(network(augment(inputs[rows])), targets[rows]).backward()
                optimizer.step()
                schedule.step()
            progress(epoch + 1)
        return network.eval()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors this small gain little from a second thread, and lose a hundredfold on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def predictions(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What a network gives for all inputs, batch by batch."""
    with torch.no_grad():
        return torch.cat([network(batch) for batch in inputs.split(BATCH)])


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of rows whose largest logit is the label's."""
    return float((logits.argmax(1) == labels).float().mean())
