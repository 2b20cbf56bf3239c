"""Print `.env.example`, made from the settings tree: `python -m settings > .env.example`."""

from __future__ import annotations

import inspect
import textwrap

from settings import GROUPS


def example() -> str:
    """The text of `.env.example`: every variable with what it means and its default."""
    lines = [
        "# Copy to .env and change what you need; every line here shows a default.",
        "# ENV_FILE names another file than .env.",
        "",
    ]
    for group in GROUPS:
        title, _, more = inspect.cleandoc(group.__doc__ or "").partition("\n\n")
        lines += [f"# --- {title} ---", ""]
        if more:
            lines += [*textwrap.wrap(more, 110, initial_indent="# ", subsequent_indent="# "), ""]
        for name, field in group.model_fields.items():
            lines += textwrap.wrap(field.description or "", 110, initial_indent="# ", subsequent_indent="# ")
            lines += [f"# {name.upper()}={_written(name, field.default)}", ""]
    return "\n".join(lines)


def _written(name: str, default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if name == "personalities_dir":
        return "personalities"
    return str(default)


if __name__ == "__main__":
    print(example(), end="")
