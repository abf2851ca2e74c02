"""The version of the distribution. setup.py reads this file as text, so it holds nothing else."""

VERSION = "0.1.0"
