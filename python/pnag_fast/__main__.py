"""``python -m pnag_fast`` is the ``pnag`` command."""

from .cli import main

if __name__ == "__main__":
    main()
