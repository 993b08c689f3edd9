"""Plans as objects of Kubernetes: one module a stack."""
