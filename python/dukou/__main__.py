"""`python -m dukou`: the same door as the `dukou` command."""

import sys

from dukou.cli.main import main

sys.exit(main())
