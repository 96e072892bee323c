"""Bertile: from a BERT-family checkpoint to a block-sparse INT8 encoder on an Alveo U200."""

__version__ = "0.1.0"
