"""The host's side of the card: `Encoder` runs texts on it, `XrtEncoder` is the device of the command line."""

from bertile.runtime.encoder import Encoder, Encoding, plan_launches

__all__ = ["Encoder", "Encoding", "plan_launches"]
