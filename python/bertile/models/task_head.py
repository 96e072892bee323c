"""The classifier of a fine-tuned model: two small layers on the first token, which the host runs in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertile.errors import BertileError
from bertile.models.encoder import Linear

ARCHITECTURE = "ForSequenceClassification"
ACTIVATIONS = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


@dataclass(frozen=True)
class TaskHead:
    """The classifier behind an encoder, run by the host in float32 on the first token's hidden state.

    dense [hidden, hidden]: BERT's pooler, RoBERTa's classifier.dense, DistilBERT's pre_classifier; activation: "tanh"
    or "relu"; output [labels, hidden]; labels: the names of the classes, () for a regression, which has one output;
    task: what the model was trained for, such as "mrpc", "" where its configuration does not say.
    """

    dense: Linear
    activation: str
    output: Linear
    labels: tuple[str, ...]
    task: str

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """[sequences, labels] float32 for the hidden states of first tokens, [sequences, hidden] float32."""
        inner = ACTIVATIONS[self.activation](hidden @ self.dense.weight.T + self.dense.bias)
        return inner @ self.output.weight.T + self.output.bias


@dataclass(frozen=True)
class HeadParts:
    """Where a family keeps its classifier: paths of the two layers inside the Hugging Face network."""

    dense: str
    activation: str
    output: str


HEADS: Mapping[str, HeadParts] = {
    "bert": HeadParts("bert.pooler.dense", "tanh", "classifier"),
    "roberta": HeadParts("classifier.dense", "tanh", "classifier.out_proj"),
    "distilbert": HeadParts("pre_classifier", "relu", "classifier"),
}


def read_task_head(source: str | Path) -> TaskHead | None:
    """The classifier of the model `source` (as for `load_model`); None where its configuration names none.

    Raises BertileError, one line, for a classifier that is broken or of a kind that we cannot run.
    """
    # Only here: PYNQ's environment reads packed models without PyTorch and transformers.
    from transformers import AutoConfig

    from bertile.models.folder import find_folder, first_line
    from bertile.models.load import quiet

    with quiet():
        folder = find_folder(str(source))
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers has no common base for what a foreign file can cause
            raise BertileError(f"{source}: config.json cannot be read: {first_line(error)}") from error
        if not any(name.endswith(ARCHITECTURE) for name in config.architectures or ()):
            return None
        if config.model_type not in HEADS:
            raise BertileError(f"{source}: a classifier of architecture {config.model_type!r} is not supported")
        labels = read_labels(str(source), config)
        dense, output = read_layers(str(source), folder, config)
    task = str(getattr(config, "bertile_task", ""))
    return TaskHead(dense, HEADS[config.model_type].activation, output, labels, task)


def read_labels(source: str, config) -> tuple[str, ...]:
    """Names of the classes by their number, () for a regression."""
    # Hugging Face's own rule where the configuration does not say.
    kind = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
    if kind == "regression" and config.num_labels == 1:
        return ()
    if kind != "single_label_classification" or config.num_labels < 2:
        raise BertileError(f"{source}: a {kind} with {config.num_labels} outputs is not supported")
    labels = tuple(str(config.id2label[number]) for number in range(config.num_labels))
    if len(set(labels)) != len(labels):
        raise BertileError(f"{source}: two classes of the same name in id2label")
    return labels


def read_layers(source: str, folder: Path, config) -> tuple[Linear, Linear]:
    """Both layers of the classifier in a model folder, as copies."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from bertile.models.folder import first_line

    try:
        network, report = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # as above
        raise BertileError(f"{source}: the classifier cannot be read: {first_line(error)}") from error
    layers = []
    for path in (HEADS[config.model_type].dense, HEADS[config.model_type].output):
        missing = sorted(key for key in report["missing_keys"] if key.startswith(f"{path}."))
        if missing:
            raise BertileError(f"{source}: the classifier has no {missing[0]}")
        module = network.get_submodule(path)
        layer = Linear(*(part.detach().numpy().copy() for part in (module.weight, module.bias)))
        if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise BertileError(f"{source}: {path} holds NaN or infinite weights")
        layers.append(layer)
    return layers[0], layers[1]
