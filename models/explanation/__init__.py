"""Why a decision came out as it did, and what would have turned it: arithmetic on what was predicted."""
