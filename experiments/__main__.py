"""The command `mmvae`: runs each other file of this folder by its name, as `python -m` does."""

import pydoc
import runpy
import sys
from pathlib import Path

from mmvae_jax.errors import UserError
from mmvae_jax.listing import model_table
from mmvae_jax.runs.command import exit_code, program


def main() -> int:
    """Run the command that is named first; the exit code: 0, or 2 after a user's mistake, told in one line."""
    return exit_code(_run)


def _run() -> None:
    commands = {path.stem: path for path in sorted(Path(__file__).parent.glob("[!_]*.py"))}
    match sys.argv[1:]:
        case ["--help" | "-h", *_]:
            print(_help(commands))
        case ["--list-models", *_]:
            print(model_table(5))
        case [name, *_] if name in commands:
            del sys.argv[1]
            runpy.run_module(f"{__package__}.{name}", run_name="__main__", alter_sys=True)
        case [name, *_]:
            raise UserError(f"unknown command {name!r}: choose one of {', '.join(commands)} (see {program()} --help)")
        case _:
            raise UserError(f"no command: choose one of {', '.join(commands)} (see {program()} --help)")


def _help(commands: dict[str, Path]) -> str:
    typed, width = program(), max(map(len, commands))
    return "\n".join(
        (
            f"usage: {typed} COMMAND ...\n",
            *(f"  {name:{width}}  {pydoc.synopsis(str(path))}" for name, path in commands.items()),
            f"\n{typed} COMMAND --help shows a command's flags, {typed} --list-models the models of the papers.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
