"""What a person types: every verb, its words and its exit codes."""
