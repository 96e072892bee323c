"""Automatic pruning: which share of every matrix goes (AE-BERT), under a sparsity or a latency."""
