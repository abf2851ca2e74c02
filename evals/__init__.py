"""Tasks, metrics, runs and their files. Knows no hooks and no methods: it sees a model only as a ``Predictor``."""
