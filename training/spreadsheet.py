"""CSV cells that a spreadsheet program does not run as formulas."""

from __future__ import annotations

# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(value: object) -> object:
    """The value; text that begins like a formula gets an apostrophe in front. Numbers stay numbers.

    Example:
        >>> safe_cell("=1+1"), safe_cell(-1.5)
        ("'=1+1", -1.5)
    """
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value
