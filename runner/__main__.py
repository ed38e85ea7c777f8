"""`python -m runner` is the `sweep` command."""

from .text.utf8_mode import ensure_utf8

if __name__ == "__main__":
    ensure_utf8()
    from .cli import main

    main()
