"""The HTTP application over a built service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from serving import problems
from serving.dashboard.pages import STATIC_FOLDER, dashboard_routes
from serving.routes.campaigns import campaign_routes
from serving.routes.customers import customer_routes
from serving.routes.decisions import decision_routes
from serving.routes.examples import describe_answers
from serving.routes.health import health_routes
from serving.routes.identities import identity_routes
from serving.routes.interactions import interaction_routes
from serving.routes.report import report_routes
from serving.routes.tracking import tracking_router
from serving.service import Service


def create_app(service: Service) -> FastAPI:
    """The application; its lifespan starts and drains the service."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.in_thread(service.start)
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title=service.title,
        version=version("nextchannel"),
        description="For this customer, now: which offer, on which channel, at what time - or better not at all?",
        lifespan=lifespan,
    )
    problems.install(app)
    for router in (
        decision_routes(service),
        interaction_routes(service),
        customer_routes(service),
        identity_routes(service),
        campaign_routes(service),
        report_routes(service),
        health_routes(service),
        dashboard_routes(service),
        tracking_router(service.engine, service.tracking_secret, service.clock),
    ):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    describe_answers(app)
    return app
