"""The local dashboard over a folder: `python local_dashboard.py <folder> <anything> <port>`."""

from __future__ import annotations

import sys

from skinaug.cli.dashboard import main

if __name__ == "__main__":
    sys.exit(main(["--local", sys.argv[1], "--port", sys.argv[3], "--no-browser"]))
