"""A set of sessions that devices share: one key, one place on a remote that cannot read it."""
