"""How far a position is from a shop, along the great circle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, cos, radians, sin, sqrt
from typing import Annotated

from models.domain.bounds import Within, check_bounds
from serving.incentives.incentive import Shop

EARTH_RADIUS_METRES = 6_371_008.8
"""Mean radius of the WGS-84 ellipsoid, (2 a + b) / 3; the sphere is wrong by .6 % at most."""

_ROUNDED_TO = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where somebody is, WGS-84, degrees north and east."""

    latitude: Annotated[float, Within(-90, 90)]
    longitude: Annotated[float, Within(-180, 180)]

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True, slots=True)
class Near:
    """The nearest shop.

    Attributes:
        metres: Exact.
    """

    shop_id: str
    metres: float

    @property
    def rounded_metres(self) -> int:
        """What is kept: to 50 metres, so that the position cannot be worked out from it."""
        return round(self.metres / _ROUNDED_TO) * _ROUNDED_TO


def great_circle(one: Position | Shop, other: Position | Shop) -> float:
    """Metres between two places on a sphere, by the haversine formula.

    Example:
        >>> berlin = Position(latitude=52.5200, longitude=13.4050)
        >>> hamburg = Position(latitude=53.5511, longitude=9.9937)
        >>> round(great_circle(berlin, hamburg) / 1000)
        255
    """
    north, other_north = radians(one.latitude), radians(other.latitude)
    half_north = (other_north - north) / 2
    half_east = radians(other.longitude - one.longitude) / 2
    part = sin(half_north) ** 2 + cos(north) * cos(other_north) * sin(half_east) ** 2
    return 2 * EARTH_RADIUS_METRES * asin(min(1.0, sqrt(part)))


def nearest(shops: Sequence[Shop], position: Position) -> Near:
    """The shop that is nearest; there must be one."""
    metres, shop_id = min((great_circle(shop, position), shop.shop_id) for shop in shops)
    return Near(shop_id, metres)
