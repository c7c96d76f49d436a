"""The vocabulary between Prefect and Kubernetes: names, a run's Job, what a pod's end means."""
