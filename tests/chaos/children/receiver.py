"""The receiver as the chaos suite runs it: the product's own command, which does not outlive the suite.

python -m chaos.children.receiver r1 STARVED

Everything else is told by OTPOST_ variables, as to ``otpost webhook``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chaos.children.lifeline import end_with_parent
from chaos.starving import Watchman, open_record, writing_to
from otpost.__main__ import main

if __name__ == "__main__":
    end_with_parent()
    name, starved = sys.argv[1:]
    Watchman(name, writing_to(open_record(Path(starved)))).begin()
    sys.argv = ["otpost", "webhook"]
    sys.exit(main())
