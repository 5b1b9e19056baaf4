"""Callbacks that set the learning rate."""
