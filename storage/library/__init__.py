"""Sessions as programs use them: an object to talk to, a manager, and the stores that keep them.

Knows what a session may be asked for, what a save sends, and the back ends. Knows nothing of
registers and merging (the SQLite store below does), of files, remotes, processes or terminals.
"""
