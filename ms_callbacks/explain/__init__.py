"""What a network has learnt, and where it fails."""
