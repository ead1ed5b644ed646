"""A real `nextchannel serve` in a process of its own, with people, a campaign and a key, to be ill-treated."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from types import MappingProxyType, TracebackType

import httpx

from features.history.append import CustomerRecord, append_consents, append_customers, append_identities
from features.history.campaigns import save_campaign
from models.domain.campaign import Campaign, Content, Offer, PolicyName, SendWindow
from models.domain.channel import ContentKind, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.experiment import Experiment
from nextchannel.commands.installation import open_history
from nextchannel.settings import Settings
from serving.security.keys import Scope, create_key

ROOT = Path(__file__).parents[2]
CAMPAIGN = "spring"
CUSTOMERS = tuple(f"c-{number}" for number in range(1001, 1101))
_START_SECONDS = 240
_KIBIBYTE = 1024


class LiveService:
    """The process.

    Args:
        home: An empty folder.
        environment: Other variables of its environment.
        settings: `NEXTCHANNEL_*` by name without the prefix.
    """

    def __init__(
        self, home: Path, *, environment: Mapping[str, str] = MappingProxyType({}), **settings: str
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        self.key = _fill(home)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXTCHANNEL_")}
        self._environment = kept | {
            "NEXTCHANNEL_HOME": str(home),
            "NEXTCHANNEL_PORT": str(self.port),
            "NEXTCHANNEL_PUBLIC_URL": self.address,
            "NEXTCHANNEL_SEND": "false",
            "NEXTCHANNEL_REQUESTS_PER_SECOND": "0",
            **environment,
            **{f"NEXTCHANNEL_{name.upper()}": value for name, value in settings.items()},
        }
        self.log = home / "service.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LiveService:
        # Whoever ends this program ends the service too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nextchannel", "serve"], cwd=ROOT, env=self._environment, stderr=log
            )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if not self.running:
                raise RuntimeError(f"the service ended by itself:\n{self.log.read_text()}")
            try:
                if httpx.get(f"{self.address}/readyz").status_code == httpx.codes.OK:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"not ready within {_START_SECONDS} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def rss_mb(self) -> float:
        """Memory of the process, MiB."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / _KIBIBYTE


def _fill(home: Path) -> str:
    """People who agreed to e-mail, a campaign by rule, and a key that may do everything; its text."""
    now = datetime.now(UTC)
    engine = open_history(Settings(home=home, database=None))
    text = {ContentKind.TEXT: Content(body="Coats are in.", subject="Coats", link_url="https://shop.test")}
    campaign = Campaign(
        campaign_id=CAMPAIGN,
        send_window=SendWindow(starts_at=now - timedelta(days=1), ends_at=now + timedelta(days=30)),
        slots=tuple(time_of_day(hour) for hour in range(0, 24, 3)),
        offers=(Offer(offer_id="coats", margin_minor=3000.0, content=text),),
        channels=("email", "sms"),
        experiment=Experiment(experiment_id=CAMPAIGN),
        conversion_value_minor=3000.0,
        policy=PolicyName.CHEAPEST_FIRST,
    )
    with engine.begin() as conn:
        append_customers(
            conn,
            [CustomerRecord(customer_id=one, time_zone="Asia/Taipei", created_at=now) for one in CUSTOMERS],
        )
        append_identities(
            conn,
            [
                Identity(
                    customer_id=one,
                    kind=IdentityKind.EMAIL,
                    value=f"{one}@example.com",
                    linked_at=now,
                    source="chaos",
                )
                for one in CUSTOMERS
            ],
        )
        append_consents(
            conn,
            [
                Consent(
                    customer_id=one,
                    channel="email",
                    purpose="marketing",
                    status=ConsentStatus.GRANTED,
                    since=now - timedelta(days=1),
                    source="chaos",
                )
                for one in CUSTOMERS
            ],
        )
        save_campaign(conn, campaign, now)
        made = create_key(conn, "chaos", list(Scope), now)
    engine.dispose()
    return made.text
