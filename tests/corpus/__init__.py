"""Base job templates and values that the stock worker and ours must make the same Job of.

Every module has one kind of them, as `CASES`. Rewritten after Prefect's documentation, public
charts and repositories, and the stock template itself.
"""
