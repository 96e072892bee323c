"""Layers of an encoder, one at a time, on the inputs that a few texts give: what each matrix reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import torch
from torch import nn

from bertile.models.families import FAMILIES, layer_modules

States = list[torch.Tensor]  # [batch, tokens, hidden] by batch


class _Stop(Exception):
    """Ends a forward pass behind the module that was asked for."""


class Replay:
    """Texts, as batches of a tokenizer's tensors, to be run through layers of encoders of one shape.

    inputs: what the first layer of `network` reads. Padding is left out of everything that is returned as [n, ...].
    """

    def __init__(self, network: nn.Module, family: str, batches: Iterable[Mapping[str, torch.Tensor]]):
        self.family = family
        self.calls: list[tuple[tuple, dict]] = []
        self.real: list[torch.Tensor] = []  # bool [batch, tokens]
        first = self._layers(network)[0]

        def keep(module: nn.Module, arguments: tuple, named: dict) -> None:
            self.calls.append((arguments, named))
            raise _Stop

        handle = first.register_forward_pre_hook(keep, with_kwargs=True)
        device = next(network.parameters()).device
        try:
            with torch.no_grad():
                for batch in batches:
                    batch = {name: tensor.to(device) for name, tensor in batch.items()}
                    self.real.append(batch["attention_mask"].bool())
                    with suppress(_Stop):
                        network(**batch)
        finally:
            handle.remove()
        self.inputs: States = [
            named.get("hidden_states", arguments[0] if arguments else None) for arguments, named in self.calls
        ]

    def _layers(self, network: nn.Module) -> nn.ModuleList:
        return network.get_submodule(FAMILIES[self.family].layers)

    def flat(self, states: States) -> torch.Tensor:
        """States of real tokens, [n, features]."""
        return torch.cat([state[real] for state, real in zip(states, self.real, strict=True)])

    @torch.no_grad()
    def run(
        self, network: nn.Module, layer: int, states: States, watched: Sequence[str] = (), stop: bool = False
    ) -> tuple[States, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
        """A layer of `network` on `states`: (its output, {matrix: (inputs [n, in], outputs [n, out])} of `watched`).

        stop: end behind the last of `watched`; then there is no output.
        """
        modules, module = layer_modules(network, self.family)[layer], self._layers(network)[layer]
        seen: dict[str, tuple[States, States]] = {name: ([], []) for name in watched}
        outputs: States = []

        def hook_of(name: str):
            def hook(_: nn.Module, arguments: tuple, output: torch.Tensor) -> None:
                seen[name][0].append(arguments[0])
                seen[name][1].append(output)
                if stop and name == watched[-1]:
                    raise _Stop

            return hook

        handles = [modules[name].register_forward_hook(hook_of(name)) for name in watched]
        try:
            for state, (arguments, named) in zip(states, self.calls, strict=True):
                if "hidden_states" in named:
                    named = {**named, "hidden_states": state}
                else:
                    arguments = (state, *arguments[1:])
                with suppress(_Stop):
                    output = module(*arguments, **named)
                    outputs.append(output[0] if isinstance(output, tuple) else output)
        finally:
            for handle in handles:
                handle.remove()
        return outputs, {name: (self.flat(read), self.flat(written)) for name, (read, written) in seen.items()}
