"""Every setting of an installation: one place, read from the environment or a `.env` file.

`NEXTCHANNEL_<NAME>` sets the field of that name. The defaults need no server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from features.row_cache import MOST_ROWS
from models.domain.errors import InvalidInputError
from models.domain.party import Party

_PREFIX = "NEXTCHANNEL_"


class Settings(BaseSettings):
    """Settings of one installation."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_file=".env", extra="ignore")

    def __init__(self, **values: Any) -> None:
        """Read the environment.

        Raises:
            InvalidInputError: a setting breaks its bound; names the variable.
        """
        try:
            super().__init__(**values)
        except ValidationError as exc:
            first = exc.errors()[0]
            variable = _PREFIX + str(first["loc"][0]).upper()
            raise InvalidInputError(variable, first["input"], first["msg"]) from exc
        except SettingsError as exc:
            raise InvalidInputError(f"{_PREFIX}*", str(exc), f"must be JSON ({exc.__cause__})") from exc

    home: Path = Field(
        default=Path(".nextchannel"),
        description="Folder of the installation: database, features, models.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder that holds the public data sets (`hillstrom/hillstrom.csv.gz` and so on).",
    )
    database: str | None = Field(
        default=None,
        description="SQLAlchemy address of the history; default: an SQLite file in `home`.",
    )
    online_store: dict[str, Any] | None = Field(
        default=None,
        description="Feast's configuration of the online store, as JSON; default: an SQLite file in `home`.",
    )
    cached_rows: int = Field(
        default=MOST_ROWS,
        ge=0,
        description=(
            "Customers whose features a process keeps in memory, those that were used last; each takes 8 bytes a feature "
            "and about 240 more."
        ),
    )
    dask: str = Field(
        default="",
        pattern=r"^([1-9]\d?|(tcp|tls)://\S+)?$",
        description=(
            "Who computes the features of many customers: a number of processes of this machine, or the address of a Dask "
            "scheduler (`tcp://` or `tls://`); empty: the process that needs them. Needs the extra `dask`."
        ),
    )
    mlflow: str | None = Field(
        default=None,
        description="MLflow tracking address; default: an SQLite file in `home`.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the service listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that the service listens on.")
    public_url: str = Field(
        default="http://127.0.0.1:8000",
        description="Address under which customers reach tracked links and the unsubscribe page.",
    )
    tracking_secret: str = Field(
        default="",
        description="Key that signs tracked links; empty: one is made and kept in `home`.",
    )
    contact_keys: str = Field(
        default="",
        description="Keys of contact points, as `nextchannel contacts keys` prints them; empty: made and kept in `home`.",
    )
    phone_region: str = Field(
        default="",
        description="Country (ISO 3166 code) of phone numbers that come without country code; empty: none is assumed.",
    )
    parties: dict[str, Party] = Field(
        default_factory=dict,
        description=(
            "Whose data a source gives, as JSON: `second` for a marketplace or partner, `third` for what was bought; "
            "a source that is not named is our own (`first`)."
        ),
    )
    require_keys: bool = Field(
        default=True,
        description=(
            "Whether callers need a key; on a loopback address they need none until the first key is made. "
            "False opens the service to this machine; it is refused on any other address."
        ),
    )
    most_body_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="Largest body of a request, in bytes."
    )
    requests_per_second: float = Field(
        default=1_000.0, ge=0, description="Requests a second of one key, on each replica; 0: no limit."
    )
    burst: int = Field(default=2_000, ge=1, description="Requests that a key may make at once after a pause.")
    docs: bool = Field(default=True, description="Whether `/docs` and `/openapi.json` are there.")
    log_format: Literal["text", "json"] = Field(
        default="text", description="Lines of the log: for people, or JSON for a log store."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="Least level that is logged; `info` gives one line a request."
    )
    otlp_endpoint: str = Field(
        default="",
        description="Address of an OpenTelemetry collector (OTLP over HTTP); empty: no traces. Needs the extra `telemetry`.",
    )
    currency: str = Field(default="USD", description="The one currency, by its ISO 4217 code.")
    currency_digits: int = Field(
        default=2, ge=0, le=4, description="Decimal digits between its minor and its major unit."
    )
    pacing: bool = Field(
        default=True,
        description=(
            "Whether budgets and capacities are shared with those who are still expected to ask; false gives what is scarce "
            "to whoever asks first."
        ),
    )
    deadline_ms: float = Field(
        default=200.0,
        gt=0,
        description="How long a decision waits for features before it does without; longer for a batch.",
    )
    most_under_way: int = Field(
        default=128,
        ge=1,
        description="How many single decisions may be under way; one more is answered 429.",
    )
    answer_within_ms: float = Field(
        default=5_000.0,
        gt=0,
        description="How long a caller waits for a decision to be recorded before it is answered 503.",
    )
    rehearse_from: AwareDatetime | None = Field(
        default=None,
        description=(
            "Rehearsal: the service's clock begins here, in ISO 8601 with an offset, and stands still until `PUT "
            "/v1/clock` moves it. Needs `NEXTCHANNEL_SEND=false`. Not set: the clock of the machine."
        ),
    )
    send: bool = Field(default=True, description="Whether this process also sends messages.")
    smtp_host: str = Field(default="127.0.0.1", description="Mail server.")
    smtp_port: int = Field(default=1025, ge=1, le=65535, description="Port of the mail server.")
    smtp_username: str = Field(default="", description="User name at the mail server; empty: none.")
    smtp_password: str = Field(default="", description="Password at the mail server.")
    smtp_tls: Literal["none", "starttls", "tls"] = Field(
        default="none", description="Encryption towards the mail server."
    )
    sender: str = Field(
        default="nextchannel <offers@localhost.localdomain>", description="From address of e-mail."
    )
    return_path: str = Field(
        default="",
        description="Where bounces go, for example `bounces@news.example.com`; empty: to `sender`, unread.",
    )
    adapters: dict[str, str] = Field(
        default_factory=lambda: {"email": "email"},
        description="Adapter by channel, as JSON; a channel that is not named uses `console`.",
    )
    adapter_settings: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="Settings of each adapter by its name, as JSON; those of `email` are above.",
    )
    unknown_outcome: Literal["at_least_once", "park_unknown"] = Field(
        default="at_least_once",
        description="What to do when a provider without idempotency key does not answer.",
    )
    unknown_outcomes: dict[str, Literal["at_least_once", "park_unknown"]] = Field(
        default_factory=dict,
        description="The same for some channels by name, as JSON; the others follow `unknown_outcome`.",
    )
    rates: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Most messages a second by adapter, as JSON, over all senders; not named: no limit.",
    )
    send_concurrency: int = Field(
        default=128,
        ge=1,
        description="Most messages that a sender has claimed; an eighth as many calls at a time to one provider.",
    )

    @property
    def database_url(self) -> str:
        """SQLAlchemy address of the history."""
        return self.database or f"sqlite:///{self.home.resolve() / 'history.db'}"

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking address."""
        return self.mlflow or f"sqlite:///{self.home.resolve() / 'mlflow.db'}"

    @property
    def artifact_root(self) -> Path:
        """Folder of model files where MLflow keeps them locally."""
        return self.home.resolve() / "mlartifacts"
