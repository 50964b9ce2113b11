"""`python -m dukou.control FOLDER`: the control process of one server; started by its supervisor."""

import sys

from dukou.control.process import main

sys.exit(main(sys.argv[1:]))
