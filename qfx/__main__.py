"""``python -m qfx COMMAND ...``."""

from __future__ import annotations

import sys

from qfx.cli import main

if __name__ == "__main__":
    sys.exit(main())
