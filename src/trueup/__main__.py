"""Makes `python -m trueup` the same as the command `trueup`. Invariant: nothing else is here."""

from trueup.cli import main

if __name__ == "__main__":
    main()
