"""`with_environment.py FILE FOLDER LOG PROGRAM [ARGUMENT]...`: become a program that has the
environment in a file, and stands in a folder. To be run by `python -I -S -X utf8`.

What tmux has to say of a terminal comes from tmux; of all else that a tmux server passes on,
nothing. The file is deleted once it is read. What the program says on standard error before it has
a log of its own goes to LOG, for a terminal that closes takes it along; with `-` it stays there.

It runs alone, before Python knows where any package is, and imports none.
"""

# pathlib takes longer to load than all of this does.
# ruff: noqa: PTH108, PTH123
import os
import sys

OF_TMUX = (b"TERM", b"TERM_PROGRAM", b"TERM_PROGRAM_VERSION", b"TMUX", b"TMUX_PANE")


def take_environment(path: str) -> "dict[bytes, bytes]":
    """Read an environment and delete its file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(1, "belongs to another user", path)
        content = file.read()
    os.unlink(path)
    entries = (entry.partition(b"=") for entry in content.split(b"\0") if entry)
    return {name: value for name, _, value in entries}


def main() -> None:
    path, folder, log, *program = sys.argv[1:]
    try:
        if log != "-":
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), 2)
        environment = take_environment(path)
        for name in OF_TMUX:
            environment.pop(name, None)
            if name in os.environb:
                environment[name] = os.environb[name]
        os.chdir(folder)
        os.execve(program[0], program, environment)
    except OSError as error:
        sys.exit(f"the slot cannot be started: {error.filename or program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
