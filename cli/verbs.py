"""Every verb of ``steno``: where it lives and what it does, without importing it.

A verb's module is imported when the verb is used, so that looking at sessions never pays for the
daemon or the network (tests/unit/test_cli_verbs.py holds each line here against the verb itself).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

import click

Section = Mapping[str, tuple[str, str]]

SESSIONS: Section = {
    "create": ("writing:create", "Make a session."),
    "add": ("writing:add", "Add a message to a session."),
    "chat": ("chat:chat", "Talk with a model; both sides are kept."),
    "list": ("listing:list_sessions", "List sessions, the last written to first."),
    "show": ("showing:show", "Show a session and its messages."),
    "search": ("searching:search_sessions", "Find messages and sessions by their words."),
    "sql": ("sql:sql", "Ask and write with SQL."),
    "import": ("importing:import_sessions", "Import sessions of other tools, or exported ones."),
    "export": ("exporting:export", "Write sessions to files."),
    "rename": ("writing:rename", "Give a session another title."),
    "tag": ("writing:tag", "Add tags to a session, remove them, or print them."),
    "meta": ("writing:meta", "Set, remove or print a session's metadata."),
    "delete": ("deleting:delete", "Delete sessions; they can be restored."),
    "restore": ("deleting:restore", "Bring back deleted sessions with their messages."),
    "purge": ("purging:purge", "Remove sessions, messages or histories for good."),
    "pause": ("lifecycle:pause", "Say that a session waits."),
    "activate": ("lifecycle:activate", "Make a paused or archived session active."),
    "archive": ("lifecycle:archive", "Put a session away; it is kept."),
    "resume": ("lifecycle:resume", "Make a session active and the current one."),
    "fork": ("forking:fork_session", "Copy a session, or its beginning, into one of its own."),
    "merge": ("forking:merge_session", "Bring what was added to a fork into its original."),
    "tree": ("forking:tree", "Show what a session was forked from, and its forks."),
    "split": ("splitting:split_session", "Make a session of its own of what another device wrote apart."),
    "files": ("files:files", "Look after the session files: their state, their places, and editing them."),
    "conflicts": ("conflicts:list_conflicts", "List and settle what was edited differently on two devices."),
    "stats": ("stats:stats", "Count messages, tokens and times of a session, or of all."),
    "history": ("history:history", "List what was written to a session, or show it as it was."),
}
DEVICES: Section = {
    "up": ("service:up", "Set everything up and run: the one command to start with."),
    "init": ("service:init", "Make a home on this machine, and a vault on a remote."),
    "join": ("service:join", "Join a vault that another device made."),
    "pair": ("vault:pair", "Let another device join this vault without the passphrase."),
    "vault": ("vault:vault", "Look after the vault's passphrase and key, leave it, or delete it."),
    "remote": ("remotes:remote", "Say where the vault lies, or look for it at another place."),
    "devices": ("devices:devices", "List the devices of the vault, or retire one that never comes back."),
    "ping": ("pinging:ping", "Ask the remote, and say how soon it answers."),
    "verify": ("devices:verify", "Read the whole remote and say what does not open or is gone."),
    "repair": ("devices:repair", "Send again what the remote lost."),
    "sync": ("service:sync", "Bring this device and the remote to the same state now."),
    "pause-sync": ("pausing:pause_sync", "Let the daemon leave the remote alone for a while."),
    "metered": ("pausing:metered", "Let the daemon spare a connection that costs."),
    "status": ("service:status", "Say what is pending, where things lie, and what is wrong."),
    "backup": ("maintenance:back_up", "Copy the store into one file, or put such a copy back."),
    "doctor": ("maintenance:doctor", "Look whether everything is sound, say what to do, and mend what can be."),
    "config": ("config:config", "Read and change the settings."),
    "daemon": ("service:daemon", "Run, start and stop the daemon."),
    "completion": ("completing:completion", "Print what lets your shell complete verbs, options, ids and titles."),
    "demo": ("service:demo", "Watch two devices mirror sessions, in a temporary directory."),
}
SECTIONS: Mapping[str, Section] = {"Sessions": SESSIONS, "This device and others": DEVICES}
VERBS: Section = {**SESSIONS, **DEVICES}
ALIASES = {"ls": "list", "l": "list", "view": "show", "get": "show", "rm": "delete", "remove": "delete"}


class Verbs(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click hands it over
        """Every verb, without aliases."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as above
        """Import the verb of this name or alias; None for an unknown one."""
        found = VERBS.get(ALIASES.get(cmd_name, cmd_name))
        if found is None:
            return None
        module, _, name = found[0].partition(":")
        verb = getattr(import_module(f".{module}", __package__), name)
        if "logging" in sys.modules:  # else nothing that the verb is made of says anything by it
            from .warned import say_warnings  # noqa: PLC0415  logging takes longer than a short list

            say_warnings()
        return verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that the arguments begin with; an unknown one is answered with the nearest that exist."""
        name = args[0]
        if name.startswith("-") or name in VERBS or name in ALIASES:
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches  # noqa: PLC0415  only after a slip

        near = get_close_matches(name, VERBS, n=2)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise click.UsageError(f"there is no verb {name}{meant}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  as above
        """Write the verbs in their sections."""
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in section.items()])
