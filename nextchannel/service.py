"""From settings to a service: what `nextchannel serve` and any other server process start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nextchannel.settings import Settings
from serving.bootstrap import ServiceConfig, build
from serving.dispatch_settings import UnknownPolicy
from serving.money import Currency
from serving.security.protection import Protection

if TYPE_CHECKING:
    from fastapi import FastAPI


def service_config(settings: Settings) -> ServiceConfig:
    """What the service needs to know of the settings."""
    return ServiceConfig(
        database_url=settings.database_url,
        data_dir=settings.home.resolve(),
        tracking_uri=settings.tracking_uri,
        artifact_root=None if settings.mlflow else settings.artifact_root,
        online_store=settings.online_store,
        cached_rows=settings.cached_rows,
        paced=settings.pacing,
        public_url=settings.public_url,
        tracking_secret=settings.tracking_secret,
        contact_keys=settings.contact_keys,
        phone_region=settings.phone_region,
        parties=settings.parties,
        run_dispatcher=settings.send,
        rehearse_from=settings.rehearse_from,
        adapters=settings.adapters,
        adapter_settings={
            **settings.adapter_settings,
            "email": {
                "host": settings.smtp_host,
                "port": str(settings.smtp_port),
                "sender": settings.sender,
                "username": settings.smtp_username,
                "password": settings.smtp_password,
                "tls": settings.smtp_tls,
                "return_path": settings.return_path,
                **settings.adapter_settings.get("email", {}),
            },
        },
        unknown_outcome=UnknownPolicy(settings.unknown_outcome),
        unknown_outcomes={name: UnknownPolicy(policy) for name, policy in settings.unknown_outcomes.items()},
        rates=settings.rates,
        send_concurrency=settings.send_concurrency,
        deadline_ms=settings.deadline_ms,
        protection=Protection(
            host=settings.host,
            require_keys=settings.require_keys,
            most_body_bytes=settings.most_body_bytes,
            requests_per_second=settings.requests_per_second,
            burst=settings.burst,
            https=settings.public_url.startswith("https://"),
            docs=settings.docs,
        ),
        most_under_way=settings.most_under_way,
        answer_within_ms=settings.answer_within_ms,
        currency=Currency(settings.currency, settings.currency_digits),
    )


def create() -> FastAPI:
    """The application as the environment configures it: `uvicorn --factory nextchannel.service:create`."""
    return application(Settings())


def application(settings: Settings) -> FastAPI:
    """The service that the settings describe, with its log and, where asked for, its traces."""
    from serving.app import create_app
    from serving.observability.logs import LogFormat, configure

    configure(LogFormat(settings.log_format), settings.log_level)
    app = create_app(build(service_config(settings)), owns_process=True)
    if settings.otlp_endpoint:
        from serving.observability.traces import trace_requests

        trace_requests(app, settings.otlp_endpoint)
    return app


def serve(settings: Settings) -> None:
    """Run the service until it is told to stop; it drains what was accepted."""
    import uvicorn

    uvicorn.run(
        application(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=30,
    )


def run_sender(settings: Settings) -> None:
    """Send until SIGTERM or SIGINT; what is under way is finished first."""
    import signal
    import threading

    from nextchannel.commands.installation import open_history
    from serving.bootstrap import build_sending

    engine = open_history(settings)
    sender = build_sending(service_config(settings), engine)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    sender.start()
    told.wait()
    sender.stop()
    engine.dispose()
