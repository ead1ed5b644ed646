"""Contact points in the form by which they are compared, and in the form to which messages go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from models.domain.channel import IdentityKind
from models.domain.errors import InvalidInputError, require

LONGEST_VALUE = 512

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_NUMBER = re.compile(r"\+?[0-9 ().\-/]{4,}")
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,255}")
_PHONES = frozenset({IdentityKind.PHONE, IdentityKind.WHATSAPP})
# Gmail ignores dots, case and what follows a plus: https://support.google.com/mail/answer/7436150 and
# https://support.google.com/mail/answer/22370. googlemail.com is the same provider under its older name.
_GMAIL = frozenset({"gmail.com", "googlemail.com"})
# These ignore what follows a plus (sub-addressing, RFC 5233) for every account:
# https://learn.microsoft.com/exchange/recipients-in-exchange-online/plus-addressing-in-exchange-online,
# https://support.apple.com/102540, https://proton.me/support/addresses-and-aliases.
_PLUS = frozenset(
    {"outlook.com", "hotmail.com", "live.com", "icloud.com", "me.com", "proton.me", "protonmail.com"}
)


@dataclass(frozen=True, slots=True)
class ContactPoint:
    """A contact point in its two forms.

    Attributes:
        deliverable: Where messages go: as it was given, tidied; a phone number in E.164.
        compared: Equal for two spellings of one contact point.
    """

    deliverable: str
    compared: str


def normalise(kind: IdentityKind, value: str, region: str = "") -> ContactPoint:
    """Both forms of a contact point.

    - E-mail: the domain in lower case, as DNS has it, and in ASCII where it is international. The local part in
      lower case: by RFC 5321 it may matter, by every provider of note it does not. Dots and tags only go where
      the provider is known to ignore them.
    - Phone, WhatsApp: E.164.
    - Everything else: an opaque token, only trimmed.

    What is no address or number is kept as it is, so that nothing is lost; `check` refuses it where a person or
    a system can be told.

    Args:
        kind: Of the contact point.
        value: As it was given.
        region: ISO 3166 code by which numbers without country code are read; empty: they stay as they are.
    """
    value = value.strip()
    if kind is IdentityKind.EMAIL and _EMAIL.fullmatch(value):
        return _email(value)
    if kind in _PHONES:
        number = _e164(value, region) or value
        return ContactPoint(number, number)
    return ContactPoint(value, value)


def check(kind: IdentityKind, value: str, region: str = "") -> None:
    """Refuse what cannot be a contact point of that kind.

    Raises:
        InvalidInputError: names the kind and the bound; the value is masked.
    """
    field, shown = f"identities.{kind}", mask(kind, value)
    require(
        0 < len(value.strip()) <= LONGEST_VALUE, field, shown, f"must have 1 to {LONGEST_VALUE} characters"
    )
    if kind is IdentityKind.EMAIL:
        require(
            bool(_EMAIL.fullmatch(value.strip())), field, shown, "must be an address like ada@example.com"
        )
    if kind in _PHONES and _e164(value.strip(), region) is None:
        bound = "must be a phone number with country code, for example +886912345678"
        if region:
            bound += f", or one of region {region}"
        raise InvalidInputError(field, shown, bound)


def check_region(region: str) -> None:
    """Refuse a default region that phone numbers do not know.

    Raises:
        InvalidInputError: it is no ISO 3166 code with phone numbers.
    """
    if region:
        from phonenumbers import SUPPORTED_REGIONS

        require(
            region in SUPPORTED_REGIONS, "phone_region", region, "must be an ISO 3166 code, for example TW"
        )


def mask(kind: IdentityKind | str, value: str) -> str:
    """Enough of a contact point to recognise it, too little to use it.

    Example:
        >>> mask("email", "ada@example.com"), mask("phone", "+886912345678"), mask("line", "U4af498062901")
        ('a***@example.com', '+886***678', 'U4***01')
    """
    value = value.strip()
    name, at, domain = value.rpartition("@")
    if at and kind == IdentityKind.EMAIL:
        return f"{name[:1]}***@{domain}"
    if kind in _PHONES and len(value) >= 10:
        return f"{value[:4]}***{value[-3:]}"
    return f"{value[:2]}***{value[-2:]}" if len(value) >= 8 else "***"


def redact(text: str) -> str:
    """The text with e-mail addresses and international phone numbers masked.

    Example:
        >>> redact("550 <ada@example.com>: no such user, call +886 912 345 678")
        '550 <a***@example.com>: no such user, call +886***678'
    """
    text = _EMAIL_IN_TEXT.sub(lambda found: mask(IdentityKind.EMAIL, found[0]), text)
    return _PHONE_IN_TEXT.sub(lambda found: mask(IdentityKind.PHONE, found[0]), text)


_EMAIL_IN_TEXT = re.compile(r"[^\s<>@,;:\"'()\[\]=]+@[^\s<>@,;:\"'()\[\]=]+\.[A-Za-z0-9\-]{2,}")
_PHONE_IN_TEXT = re.compile(r"(?<![0-9A-Za-z+:.\-])\+[1-9](?:[ .\-]?[0-9]){7,14}(?![0-9])")


def _email(value: str) -> ContactPoint:
    local, _, domain = value.rpartition("@")
    domain = _domain(domain)
    compared = local.lower()
    if domain in _GMAIL:
        compared = compared.partition("+")[0].replace(".", "") or compared
        return ContactPoint(f"{local}@{domain}", f"{compared}@gmail.com")
    if domain in _PLUS:
        compared = compared.partition("+")[0] or compared
    return ContactPoint(f"{local}@{domain}", f"{compared}@{domain}")


@lru_cache(maxsize=4_096)
def _domain(domain: str) -> str:
    domain = domain.rstrip(".").lower()
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


def _e164(value: str, region: str) -> str | None:
    if _E164.fullmatch(value):
        return value
    # The library would also read letters and extensions; a contact point has none.
    if not _NUMBER.fullmatch(value) or not (region or value.startswith("+")):
        return None
    import phonenumbers

    try:
        parsed = phonenumbers.parse(value, region or None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
