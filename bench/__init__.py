"""Benchmarks against peers, their append-only record and the report made from it."""
