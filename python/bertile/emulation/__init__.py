"""The emulated U200: a card process behind the real XRT libraries (docs/emulation.md)."""
