"""Errors a user can act on."""


class BertileError(Exception):
    """A cause outside the program, told in one line; the command line exits with code 2."""


class CapacityError(BertileError):
    """The model or the input does not fit the accelerator's capacities (spec/accelerator.toml)."""


class FormatError(BertileError):
    """A `.bertile` file or one of its records is not what the contract says."""


class DeviceError(BertileError):
    """A device could not be built, or a run on it failed."""
