"""The API that the operator adds to Kubernetes: a module for each of its versions, and the CRD."""
