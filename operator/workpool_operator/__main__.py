"""`python -m workpool_operator`."""

from workpool_operator.cli import app

app()
