"""``python -m optimizer`` is the ``lorapack`` command."""

from optimizer.cli import main

main()
