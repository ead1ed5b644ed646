"""Web addresses in running text."""

from __future__ import annotations

import re

# A full stop or a closing bracket after an address belongs to the sentence.
WEB_ADDRESS = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)\]]", re.IGNORECASE)
