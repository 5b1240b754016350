"""`python -m paraexport` is the command `paraexport`."""

import sys

from paraexport.cli import main

if __name__ == "__main__":
    sys.exit(main())
