"""The catalogue of every language."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from serving.explain.catalogue import Catalogue, Language
from serving.explain.chinese import CHINESE
from serving.explain.english import ENGLISH
from serving.explain.japanese import JAPANESE

CATALOGUES: Mapping[Language, Catalogue] = MappingProxyType(
    {one.language: one for one in (ENGLISH, CHINESE, JAPANESE)}
)
