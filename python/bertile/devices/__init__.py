"""Devices: the integer reference, the accelerator in C-simulation and with its RTL engine, and how launches look."""
