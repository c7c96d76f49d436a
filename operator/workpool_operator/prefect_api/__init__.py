"""The edge to Prefect: its REST API, its event stream, and models of what is read."""
