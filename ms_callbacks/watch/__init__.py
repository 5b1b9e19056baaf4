"""Callbacks that show a run."""
