"""How money is written for people: in the configured currency, not in minor units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Currency:
    """The one currency of an installation.

    Attributes:
        code: ISO 4217, for example `USD`.
        digits: Decimal digits between minor and major unit: 2 for USD, 0 for JPY.
    """

    code: str = "USD"
    digits: int = 2

    @property
    def minor_per_major(self) -> int:
        """Minor units in a major one: 100 cents in a dollar."""
        return int(10**self.digits)

    def words(self, minor: float) -> str:
        """An amount for people; amounts below a tenth keep three significant digits.

        Example:
            >>> Currency().words(123456), Currency().words(-1.45), Currency().words(0.01)
            ('1,234.56 USD', '-0.0145 USD', '0.0001 USD')
        """
        major = minor / self.minor_per_major
        if major == 0 or abs(major) >= 0.1:
            amount = f"{major:,.{self.digits}f}"
        else:
            amount = f"{float(f'{major:.3g}'):.6f}".rstrip("0").rstrip(".")
        return f"{amount} {self.code}"
