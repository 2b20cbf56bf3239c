"""The agent's words on their way out: to the output that must know what was heard, to listeners, to the room."""

from __future__ import annotations

from collections.abc import Callable

from livekit.agents.voice import io

from conversation.paced_output import PacedOutput


class SpokenText(io.TextOutput):
    """Receives a reply's text as it is generated, first in the chain of transcription outputs.

    Args:
        output: The audio output of the same reply; it maps the share of sound that was played to words.
        on_text: Told the reply's text so far and whether it is complete.
        next_in_chain: The transport's own transcription output.
    """

    def __init__(
        self,
        output: PacedOutput | None,
        on_text: Callable[[str, bool], None],
        next_in_chain: io.TextOutput | None = None,
    ) -> None:
        super().__init__(label="SpokenText", next_in_chain=next_in_chain)
        self._output = output
        self._on_text = on_text
        self._text = ""

    async def capture_text(self, text: str) -> None:
        """A piece of the reply."""
        self._text += text
        if self._output is not None:
            self._output.text_for_segment(text)
        self._on_text(self._text, False)
        if self.next_in_chain is not None:
            await self.next_in_chain.capture_text(text)

    def flush(self) -> None:
        """The reply's text is complete."""
        if self._text:
            self._on_text(self._text, True)
        self._text = ""
        if self.next_in_chain is not None:
            self.next_in_chain.flush()
