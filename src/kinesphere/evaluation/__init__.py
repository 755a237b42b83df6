"""Scores of a run against a known truth, and what the best possible observer would reach."""
