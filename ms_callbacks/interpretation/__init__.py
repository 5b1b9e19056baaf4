"""Callbacks that show what a network has learnt."""
