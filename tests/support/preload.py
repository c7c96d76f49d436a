"""Imported once by the process that `tests.support.preloaded` forks: all that the program imports,
after the environment was cleaned as the program cleans it."""

import os

from workpool_operator.cli.run import clear_prefect_settings

clear_prefect_settings(os.environ)

from workpool_operator import app, handlers, logs  # noqa: E402, F401 - after isolate
