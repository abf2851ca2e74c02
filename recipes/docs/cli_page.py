"""Write docs/cli.md from the commands themselves; a test compares the two. Run: python recipes/docs/cli_page.py"""

from __future__ import annotations

import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
HEAD = """# Command line

Generated from the commands by `make docs`. The same text comes from `permafrost COMMAND --help`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug in permafrost: a traceback is printed |
| 2 | the call is wrong: an unknown name, an impossible option, data that do not fit, a place that cannot be written to |
| 3 | data, weights or a dependency are missing |
| 4 | finished, and some samples failed (they are listed in `samples.jsonl` or `failures.jsonl`) |
| 130 | interrupted; the same command continues |
"""


def page(root: click.Command) -> str:
    """The Markdown page of a command and of all commands below it."""
    sections = [HEAD]
    for path, command in _walk(root, ("permafrost",)):
        sections.append(f"## {' '.join(path)}\n\n```\n{_help(command, path)}\n```\n")
    return "\n".join(sections)


def _walk(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            found += _walk(command.commands[name], (*path, name))
    return found


def _help(command: click.Command, path: tuple[str, ...]) -> str:
    context = click.Context(command, info_name=path[-1], terminal_width=110, max_content_width=110, help_option_names=["-h", "--help"])
    lines = command.get_help(context).splitlines()
    lines[0] = lines[0].replace(f"Usage: {path[-1]}", f"Usage: {' '.join(path)}", 1)
    return "\n".join(line.rstrip() for line in lines).rstrip()


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from cli import cli

    target = ROOT / "docs" / "cli.md"
    target.write_text(page(cli), encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
