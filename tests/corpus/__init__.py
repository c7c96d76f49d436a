"""Base job templates and values that the stock worker and the operator must render to the same Job.

Each module has one kind of cases, in `CASES`. They are modelled on Prefect's documentation, public
charts and repositories, and the stock template itself.
"""
