"""`python -m spinemat_bringup`: the command line."""

import sys

from spinemat_bringup.cli import main

sys.exit(main())
