"""Imports everything that the program imports, after the environment was cleared as the program
does it. The process that `tests.support.preloaded` forks imports this module once."""

import os

from workpool_operator.cli.run import clear_prefect_settings

clear_prefect_settings(os.environ)

from workpool_operator import app, handlers, logs  # noqa: E402, F401 - after isolate
