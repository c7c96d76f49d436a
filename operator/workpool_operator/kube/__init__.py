"""The edge to Kubernetes: requests, models of what is read, and caches that follow the cluster."""
