"""Latencies side by side: CPU runtimes measured here, the card projected, other people's numbers as published."""
