"""The directory of JSONL files, kept equal to the store in both directions."""
