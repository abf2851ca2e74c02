"""Metrics: pure numpy functions that give one number. Intervals are made in ``toolkit.stats``."""
