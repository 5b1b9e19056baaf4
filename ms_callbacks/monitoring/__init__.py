"""Callbacks that print and record values."""
