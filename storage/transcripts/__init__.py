"""What other tools recorded of conversations, read as values.

Knows the formats of Claude Code, Codex, OpenAI's and ShareGPT's data sets, and how their files break.
Knows nothing of where such files lie, and nothing of the store.
"""

from .detect import Format, Source, format_of, read_transcripts, stream_transcripts
from .transcript import Fault, Reading, Transcript

__all__ = [
    "Fault",
    "Format",
    "Reading",
    "Source",
    "Transcript",
    "format_of",
    "read_transcripts",
    "stream_transcripts",
]
