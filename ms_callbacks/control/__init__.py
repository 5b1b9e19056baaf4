"""Callbacks that steer a run."""
