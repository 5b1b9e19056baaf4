"""What the callbacks cost, compared with what they replace: `python -m benchmarks`."""
