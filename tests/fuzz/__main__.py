"""`python -m fuzz`: see fuzz.runner. (Processes that are spawned cannot import what lies in here.)"""

from __future__ import annotations

import sys

from fuzz.runner import main

if __name__ == "__main__":
    sys.exit(main())
