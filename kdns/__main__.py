"""`python -m kdns` is `kdns`."""

import sys

from kdns.entry import main

sys.exit(main())
