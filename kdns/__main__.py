"""`python -m kdns` is `kdns`."""

import sys

from kdns import missing

try:
    from kdns.cli import main
except ModuleNotFoundError as error:
    sys.exit(missing.words("kdns", error))

sys.exit(main())
