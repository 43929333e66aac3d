"""What is on this machine: sessions, messages and their registers in one SQLite file.

Knows the model, the merge rule, the order, the feed, search and the transcripts of other
tools. Knows nothing of files for people, remotes, processes or terminals.
"""
