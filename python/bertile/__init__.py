"""Bertile: from a BERT-family checkpoint to a block-sparse INT8 encoder on an Alveo U200."""

import os

__version__ = "0.1.0"

# OpenMP threads that spin while they wait starve each other as soon as another program wants a core: packing BERT-base
# took 68 s instead of 9 beside two busy loops on two cores. Read when PyTorch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
