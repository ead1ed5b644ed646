"""The HTTP application over a built service."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from serving import problems
from serving.dashboard.calls import call_pages
from serving.dashboard.chats import chat_pages
from serving.dashboard.lifecycle import lifecycle_pages
from serving.dashboard.occasions import occasion_pages
from serving.dashboard.pages import STATIC_FOLDER, dashboard_routes
from serving.dashboard.plans import plan_pages
from serving.dashboard.segments import segment_pages
from serving.dashboard.sign_in import sign_in_routes
from serving.idempotency import IdempotencyMiddleware
from serving.observability.requests import ObservedRequests
from serving.routes.answers import answer_routes
from serving.routes.api_pages import mount_api_pages
from serving.routes.audience import audience_routes
from serving.routes.campaigns import campaign_routes
from serving.routes.channels import channel_routes
from serving.routes.chats import chat_routes
from serving.routes.clock import clock_routes
from serving.routes.customers import customer_routes
from serving.routes.decisions import deciding, decision_routes
from serving.routes.direct import DirectEndpoint
from serving.routes.examples import describe_answers
from serving.routes.handover import handover_routes
from serving.routes.health import health_routes
from serving.routes.identities import identity_routes
from serving.routes.incentives import incentive_routes
from serving.routes.interactions import interaction_routes
from serving.routes.lifecycle import lifecycle_routes
from serving.routes.listing import listing_routes
from serving.routes.metrics import metrics_routes
from serving.routes.models import model_routes
from serving.routes.occasions import occasion_routes
from serving.routes.pacing import pacing_routes
from serving.routes.plans import plan_routes
from serving.routes.receipts import receipt_routes
from serving.routes.redeem_page import redeem_pages
from serving.routes.redemptions import redemption_routes
from serving.routes.registration import registration_routes
from serving.routes.report import report_routes
from serving.routes.schemas import DecisionIn
from serving.routes.segments import segment_routes
from serving.routes.simulate import simulation_routes
from serving.routes.tracking import tracking_router
from serving.security.described import describe_keys
from serving.security.gate import Gate
from serving.security.sessions import Sessions
from serving.service import Service

# A batch makes some forty objects a decision, which all live until it is answered: collecting after every 700, as
# Python does, looks through them again and again. A tenth of a batch's time.
_OBJECTS_BETWEEN_COLLECTIONS = 20_000


def create_app(service: Service, *, owns_process: bool = False) -> FastAPI:
    """The application; its lifespan starts and drains the service.

    Args:
        service: What it serves.
        owns_process: Whether the process is there for it alone, so that it may say how the process collects garbage.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.in_thread(service.start)
        if owns_process:
            # What is loaded by now stays: the collector need not go through all of it again and again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
        try:
            yield
        finally:
            service.stop()

    app = FastAPI(
        title=service.title,
        version=version("nextchannel"),
        description="For this customer, now: which offer, on which channel, at what time - or better not at all?",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if service.protection.docs else None,
        # Spans are ours (`serving.observability.traces`), figures too; FastAPI would look for its own at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    problems.install(app)
    sessions = Sessions(service.tracking_secret)
    # Added first, so that whatever checks keys and limits stands before it.
    app.add_middleware(IdempotencyMiddleware, service=service)
    app.add_middleware(DirectEndpoint, path="/v1/decisions", model=DecisionIn, answer=deciding(service))
    for router in (
        decision_routes(service),
        handover_routes(service),
        listing_routes(service),
        simulation_routes(service),
        interaction_routes(service),
        registration_routes(service),
        customer_routes(service),
        identity_routes(service),
        campaign_routes(service),
        incentive_routes(service),
        redemption_routes(service),
        channel_routes(service),
        answer_routes(service),
        chat_routes(service),
        segment_routes(service),
        audience_routes(service),
        plan_routes(service),
        occasion_routes(service),
        pacing_routes(service),
        report_routes(service),
        lifecycle_routes(service),
        model_routes(service),
        health_routes(service),
        clock_routes(service),
        metrics_routes(service),
        dashboard_routes(service),
        sign_in_routes(service, sessions),
        receipt_routes(service),
        call_pages(service),
        chat_pages(service),
        plan_pages(service),
        occasion_pages(service),
        segment_pages(service),
        lifecycle_pages(service),
        redeem_pages(service),
        tracking_router(service.engine, service.tracking_secret, service.clock),
    ):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC_FOLDER), name="static")
    if service.protection.docs:
        mount_api_pages(app)
    describe_answers(app)
    describe_keys(app)
    # The last one added is the outermost.
    app.add_middleware(
        Gate,
        ring=service.key_ring,
        sessions=sessions,
        protection=service.protection,
        clock=service.clock,
    )
    app.add_middleware(ObservedRequests, metrics=service.metrics)
    return app
