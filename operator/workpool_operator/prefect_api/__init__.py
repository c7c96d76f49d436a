"""The edge to Prefect: its REST API, its event stream, and views of what is read."""
