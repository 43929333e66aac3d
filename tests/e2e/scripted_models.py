"""Models that answer as they are told to, brought to llm as any plug-in is: installed, and found by its entry point.

What the model was told is written to the file that ``SCRIPTED_LOG`` names, a line of JSON for each question. A question
that holds *slowly* is answered with a few words, and the rest once the file that ``SCRIPTED_GO`` names is there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLUGIN = """
import json
import os
import time

import llm


class Answering:
    can_stream = True

    def said(self, prompt, response, conversation):
        told = [[each.role, "".join(part.text for part in each.parts)] for each in prompt.messages]
        former = [[each.prompt.prompt, each.text_or_raise()] for each in conversation.responses]
        with open(os.environ["SCRIPTED_LOG"], "a", encoding="utf-8") as log:
            log.write(json.dumps({"model": self.model_id, "told": told, "former": former}) + "\\n")
        text = prompt.prompt
        if "silence" in text:
            return
        yield "You said: "
        if "fail" in text:
            raise RuntimeError("the line\\nbroke for sk-secret")
        if "slowly" in text:
            while not os.path.exists(os.environ["SCRIPTED_GO"]):
                time.sleep(0.01)
        if "surrogate" in text:
            yield "half \\ud83d"
        yield text
        response.set_usage(input=len(text.split()), output=3, details={"cached": 1})


class Scripted(Answering, llm.Model):
    model_id = "scripted"

    def execute(self, prompt, stream, response, conversation):
        yield from self.said(prompt, response, conversation)


class Other(Scripted):
    model_id = "scripted-other"


class Locked(Answering, llm.KeyModel):
    model_id = "scripted-locked"
    needs_key = "scripted"
    key_env_var = "SCRIPTED_KEY"

    def execute(self, prompt, stream, response, conversation, key):
        yield from self.said(prompt, response, conversation)


@llm.hookimpl
def register_models(register):
    register(Scripted(), aliases=("s1",))
    register(Other())
    register(Locked())
"""


class Models:
    """The models, installed in a directory, with an llm of their own that answers with them."""

    def __init__(self, folder: Path, *, packages: Path | None = None) -> None:
        """``packages`` is where they are installed already."""
        self.packages = packages or install(folder / "packages")
        self.user, self.go, self._log = folder / "llm", folder / "go", folder / "log"
        self.user.mkdir(parents=True)
        (self.user / "default_model.txt").write_text("scripted")

    @property
    def environment(self) -> dict[str, str]:
        """What a command must see to be answered by them."""
        return {
            "PYTHONPATH": str(self.packages),
            "LLM_USER_PATH": str(self.user),
            "SCRIPTED_LOG": str(self._log),
            "SCRIPTED_GO": str(self.go),
        }

    def told(self) -> list[Any]:
        """What they were told, by question."""
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]


def install(packages: Path) -> Path:
    """Install the models in a directory."""
    described = packages / "llm_scripted-1.0.dist-info"
    described.mkdir(parents=True)
    (packages / "llm_scripted.py").write_text(PLUGIN, encoding="utf-8")
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-scripted\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[llm]\nscripted = llm_scripted\n")
    return packages
