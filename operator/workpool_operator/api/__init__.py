"""The API that the operator adds to Kubernetes: one module per version, and the CRD."""
