"""Who may ask for what, and how much: keys, scopes, limits, sign-in."""
