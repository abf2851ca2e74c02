"""Speed of Permafrost against the usual way, both timed in the same run. Each benchmark prints one JSON."""
