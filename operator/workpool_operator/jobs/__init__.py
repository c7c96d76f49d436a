"""Between Prefect and Kubernetes: renders a run's Job, explains its errors, diagnoses its end."""
