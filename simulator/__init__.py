"""Circuits and their solutions: device laws, netlists, solvers. Knows nothing of chips."""
