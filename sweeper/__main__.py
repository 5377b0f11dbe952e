"""``python -m sweeper``: the command."""

from sweeper.cli import main

if __name__ == "__main__":
    main()
