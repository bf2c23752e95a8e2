"""`python -m anamorph`."""

import sys

from anamorph.cli.main import main

sys.exit(main())
