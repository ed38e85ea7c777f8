"""`python -m runner` is the `sweep` command."""

from .cli import main

if __name__ == "__main__":
    main()
