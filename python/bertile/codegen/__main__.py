"""`python -m bertile.codegen`: write the generated views of the contract; `--check` only compares."""

import sys

from bertile.codegen.views import generate
from bertile.config.paths import ROOT
from bertile.config.spec import load_spec


def main() -> int:
    stale = [
        (path, text) for path, text in generate(load_spec()).items() if not path.exists() or path.read_text() != text
    ]
    for path, text in stale:
        print(f"{'stale' if '--check' in sys.argv else 'wrote'}: {path.relative_to(ROOT)}")
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
