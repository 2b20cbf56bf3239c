"""How our processes write their logs: one line per event, its fields behind it, private text at debug only."""

from __future__ import annotations

import logging
import sys

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class FieldFormatter(logging.Formatter):
    """Writes `time level room: event field=value ...`.

    The field `said` holds what people say; above debug level it is left out whatever the caller did.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, its extra fields in the order they were given."""
        line = super().format(record)
        fields = [
            f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"
            for name, value in vars(record).items()
            if name not in _OWN and (name != "said" or record.levelno <= logging.DEBUG)
        ]
        if not fields:
            return line
        head, newline, traceback = line.partition("\n")
        return f"{head}  {' '.join(fields)}{newline}{traceback}"


def setup_logging(level: str) -> None:
    """Send this process's log to standard error from `level` (`debug` ... `error`) on.

    Libraries are heard from warning on: uvicorn's lines, for one, would hold query strings with keys in them.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FieldFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # It warns of bytes of what somebody uploaded.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("voice_node").setLevel(level.upper())
