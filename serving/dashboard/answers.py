"""How a browser is answered: a page, or a page that says why there is none."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.responses import HTMLResponse, Response

from models.domain.errors import NextchannelError
from serving.dashboard.pages import PAGE_HEADERS, page_environment
from serving.problems import Problem, problem_of
from serving.service import Service


class PageAnswers:
    """Answers for the pages of a service.

    Args:
        service: Whose.
        values: What each of its pages may use.
    """

    def __init__(self, service: Service, **values: object) -> None:
        self._service = service
        self._environment = page_environment(service.currency)
        self._values = values | {"title": service.title}

    def page(self, template: str, status_code: int = 200, **values: object) -> HTMLResponse:
        """A template, filled in."""
        html = self._environment.get_template(template).render(self._values | values)
        return HTMLResponse(html, status_code=status_code, headers=PAGE_HEADERS)

    def refusal(self, problem: Problem) -> HTMLResponse:
        """The page that says what is wrong."""
        return self.page("problem.html", status_code=problem.status, problem=problem)

    async def made(self, path: str, make: Callable[[], Response]) -> Response:
        """What is made beside the event loop, or what was wrong with it."""
        try:
            return await self._service.in_thread(make)
        except NextchannelError as exc:
            return self.refusal(problem_of(exc, path))
