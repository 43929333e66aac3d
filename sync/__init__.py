"""How copies become equal: with the JSONL files (`files`) and with a remote (`vault`).

What is to be done is decided by pure functions; thin engines carry it out. Knows nothing of
processes, HTTP or terminals.
"""
