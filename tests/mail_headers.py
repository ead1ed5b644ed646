"""The headers of a mail of ours, each once: whatever else stands in one was smuggled in."""

from __future__ import annotations

HEADERS = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "MIME-Version",
    "Content-Type",
]
