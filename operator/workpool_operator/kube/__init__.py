"""The edge to Kubernetes: requests, views of what is read, and caches that follow the cluster."""
