"""What may be answered to the questions of a survey."""

from __future__ import annotations

from collections.abc import Mapping

from models.domain.errors import require
from serving.incentives.incentive import Question, QuestionKind, Survey

Answer = str | int | list[str]
LONGEST_ANSWER = 2_000


def checked_answers(survey: Survey, given: Mapping[str, Answer]) -> dict[str, Answer]:
    """The answers to the questions that were answered.

    Args:
        survey: What was asked.
        given: By question: the id of an option, ids of several, a number of a scale, or text; an empty one is none.

    Raises:
        InvalidInputError: names the question and what would be right.
    """
    known = {question.question_id for question in survey.questions}
    for name in given:
        require(name in known, f"answers.{name[:80]}", name[:80], "must be the id of a question")
    answers: dict[str, Answer] = {}
    for question in survey.questions:
        place, answer = f"answers.{question.question_id}", given.get(question.question_id, "")
        if answer in ("", []):
            require(not question.required, place, answer, "must be answered")
            continue
        answers[question.question_id] = _checked(question, place, answer)
    return answers


def _checked(question: Question, place: str, answer: Answer) -> Answer:
    options = [option.option_id for option in question.options]
    match question.kind:
        case QuestionKind.CHOICE:
            require(answer in options, place, answer, f"must be one of {', '.join(options)}")
        case QuestionKind.SEVERAL:
            fits = isinstance(answer, list) and set(answer) <= set(options)
            require(fits, place, answer, f"must be a list of {', '.join(options)}")
            return [option for option in options if option in answer] if isinstance(answer, list) else answer
        case QuestionKind.SCALE:
            within = isinstance(answer, int) and question.least <= answer <= question.most
            require(within, place, answer, f"must be a whole number in [{question.least}, {question.most}]")
        case QuestionKind.TEXT:
            fits = isinstance(answer, str) and len(answer) <= LONGEST_ANSWER and "\0" not in answer
            require(fits, place, "", f"must be text of at most {LONGEST_ANSWER} characters")
    return answer
