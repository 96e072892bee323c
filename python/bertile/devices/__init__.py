"""Devices: the integer reference, the C-simulated accelerator, and how a launch is laid out for them."""
