"""Real parts to develop, test and show workpool-operator on: clusters, images, servers, faults.

Not in the wheel and never imported by the package. `python -m testbed VERB` is its one entry.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (this is what tells the user)
    sys.exit(
        "workpool-operator needs Python 3.11 or newer, and this is"
        f" {sys.executable} {sys.version.split()[0]}: install one and name it by 'make PYTHON=...'"
    )
