"""Errors a user can act on, and how a program ends with one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


class BertileError(Exception):
    """A cause outside the program, told in one line; the command line exits with code 2."""


class CapacityError(BertileError):
    """The model or the input does not fit the accelerator's capacities (spec/accelerator.toml)."""


class FormatError(BertileError):
    """A `.bertile` file or one of its records is not what the contract says."""


class DeviceError(BertileError):
    """A device could not be built, or a run on it failed."""


def run_program(main: Callable[[], int | None]) -> NoReturn:
    """Exit with what `main` returns; a BertileError is one line on stderr and exit code 2."""
    try:
        sys.exit(main())
    except BertileError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
