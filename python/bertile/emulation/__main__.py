"""`python -m bertile.emulation`: what `make emu` runs."""

import sys

from bertile.emulation.build import main
from bertile.errors import run_program

if __name__ == "__main__":
    run_program(lambda: main(sys.argv[1:]))
