"""What the callbacks cost, measured beside what they replace: `python -m benchmarks`."""
