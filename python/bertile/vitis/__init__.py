"""The way to a bitstream: Vitis commands, their order and their checks (docs/bitstream.md)."""
