"""What other programs do to have the same directory of files at two ends: git, rclone and unison, as they come.

Each reaches the other end over a connection to this machine: git and rclone a server that both ends share, unison the
other end itself, which spares it one of the two ways. (Debian's packages git, rclone and unison.)
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from homes import until


class Git:
    """A repository of a directory, a bare one that both ends share, and its clone."""

    name = "git"

    def __init__(self, folder: Path, files: Path) -> None:
        self.files, self.far = folder / "left", folder / "right"
        self._shared = folder / "bare.git"
        settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        roles = [f"GIT_{role}_{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
        self._environment = {**os.environ, **settings, **dict.fromkeys(roles, "bench@localhost")}
        shutil.copytree(files, self.files, copy_function=os.link)
        self._git(folder, "init", "-q", "--bare", str(self._shared))
        self._git(self.files, "init", "-q")

    def whole(self) -> None:
        """Add, commit, push, clone."""
        self._commit()
        self._git(self.files, "push", "-q", str(self._shared), "HEAD:main")
        self._git(self.files, "clone", "-q", "-b", "main", str(self._shared), str(self.far))

    @contextmanager
    def server(self) -> Generator[str]:
        """Serve the bare repository as git does; its address."""
        port = free_port()
        place = ["--listen=127.0.0.1", f"--port={port}", f"--base-path={self._shared.parent}"]
        command = ["git", "daemon", "--export-all", "--enable=receive-pack", *place]
        with running(command, port):
            yield f"git://127.0.0.1:{port}/{self._shared.name}"

    def sync(self, url: str) -> None:
        """Bring what changed to the other end."""
        self._commit()
        self._git(self.files, "push", "-q", url, "HEAD:main")
        self._git(self.far, "pull", "-q", "--ff-only", url, "main")

    def _commit(self) -> None:
        self._git(self.files, "add", "-A")
        self._git(self.files, "commit", "-q", "--allow-empty", "-m", "all")

    def _git(self, folder: Path, *arguments: str) -> None:
        run(["git", "-c", "gc.auto=0", *arguments], cwd=folder, env=self._environment)


class Rclone:
    """A directory on a WebDAV server of rclone's own, copied to and from."""

    name = "rclone"

    def __init__(self, folder: Path, files: Path) -> None:
        self.files, self.far = files, folder / "right"
        self._shared = folder / "shared"

    @contextmanager
    def server(self) -> Generator[str]:
        """Serve a copy of the files; its address."""
        shutil.copytree(self.files, self._shared, ignore=shutil.ignore_patterns(".git"))
        port = free_port()
        with running(["rclone", "serve", "webdav", str(self._shared), "--addr", f"127.0.0.1:{port}"], port):
            yield f"http://127.0.0.1:{port}"
        shutil.rmtree(self._shared)

    def sync(self, url: str) -> None:
        """Bring what changed to the server, and from there to the other end."""
        shared = f":webdav,url='{url}':"
        self._rclone(str(self.files), shared)
        self._rclone(shared, str(self.far))

    def _rclone(self, source: str, target: str) -> None:
        options = ["-q", "--transfers", "8", "--exclude", ".git/**", "--config", os.devnull]
        run(["rclone", "copy", *options, source, target])


class Unison:
    """The two directories, one of them behind unison's server."""

    name = "unison"

    def __init__(self, folder: Path, files: Path) -> None:
        self.files, self.far = files, folder / "right"
        self._folder = folder

    @contextmanager
    def server(self) -> Generator[str]:
        """Let the other end be reached; its address."""
        port = free_port()
        with running(["unison", "-socket", str(port), "-host", "127.0.0.1"], port, env=self._environment("far")):
            yield f"socket://127.0.0.1:{port}/{self.far}"

    def sync(self, url: str) -> None:
        """Make both ends equal."""
        options = ["-batch", "-silent", "-ignore", "Name .git", "-perms", "0"]
        run(["unison", str(self.files), url, *options], env=self._environment("near"))

    def _environment(self, end: str) -> dict[str, str]:
        return {**os.environ, "UNISON": str(self._folder / f"unison-{end}")}


def run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    """Run a program to its end; what it says is shown only where it fails."""
    done = subprocess.run(command, check=False, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{command[0]} failed: {done.stdout.decode(errors='replace')}"


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(command: list[str], port: int, *, env: dict[str, str] | None = None) -> Generator[None]:
    """Run a server until it is not needed any more."""
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until(lambda: _answers(port), f"{command[0]} listens")
        yield
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        if connection.connect_ex(("127.0.0.1", port)) == 0:
            return True
    time.sleep(0.05)
    return False
