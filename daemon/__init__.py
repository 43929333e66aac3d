"""What runs in the background: wiring, watching, and the HTTP API. Decides nothing of its own about data."""
