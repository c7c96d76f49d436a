"""What the demo, the tests and the benchmarks run on: a cluster, images and servers.

Not part of the wheel. `python -m testbed VERB` is what the Makefile calls.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (this is the message for an older Python)
    sys.exit(
        "workpool-operator needs Python 3.11 or newer, and this is"
        f" {sys.executable} {sys.version.split()[0]}: install one and name it by 'make PYTHON=...'"
    )
