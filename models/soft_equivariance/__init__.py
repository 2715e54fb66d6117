"""Soft equivariance in practice ("Tunable Soft Equivariance with Guarantees", arXiv 2603.26657)."""
