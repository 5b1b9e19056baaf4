"""Callbacks that keep weights and the state of a run."""
