"""Callbacks that find out what is wrong."""
