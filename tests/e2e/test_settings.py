"""What config.toml says holds for the daemon as for the commands."""

from __future__ import annotations

import pytest

from steno.tests.e2e.device import Device

LARGE = "All work and no play makes Jack a dull boy. " * 500


@pytest.mark.check("COD-16")
@pytest.mark.parametrize("compress", [True, False])
def test_the_settings_say_whether_the_daemon_compresses(lonely: Device, compress: bool):
    lonely.home.config_file.write_text(
        f"[daemon]\nport = 0\n[session]\ncompress_messages = {str(compress).lower()}\n", encoding="utf-8"
    )
    lonely.start()
    try:
        lonely.client.request("POST", "/v1/sessions/s/messages", body={"role": "user", "content": LARGE})
    finally:
        lonely.stop()
    with lonely.store() as store:
        (kind,) = store.one("SELECT typeof(content) FROM messages")
    assert (kind, lonely.contents("s")) == ("blob" if compress else "text", [LARGE])


@pytest.mark.check("COD-16")
def test_a_daemon_whose_settings_are_wrong_does_not_start_and_says_what_was_meant(lonely: Device):
    lonely.home.config_file.write_text("[session]\nautosave_intervall = 3\n", encoding="utf-8")
    error = lonely.steno("daemon", "start", code=4).err
    assert "[session] autosave_intervall is not a setting (did you mean autosave_interval?)" in error
