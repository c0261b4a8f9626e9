"""`python -m daebus` is the command `daebus`."""

from daebus.operate.cli import main

if __name__ == "__main__":
    main()
