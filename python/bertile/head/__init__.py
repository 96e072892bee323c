"""The task head as a kernel of its own: pooler and classifier, converted by hls4ml (docs/head.md)."""
