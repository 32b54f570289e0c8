"""The page about tasks: its work publishes, closes its topic, and is not heard twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from django_agent_sse import Topic
from django_agent_sse.eventlog import backend

from . import pages
from .blocks import DOCS

PAGE = DOCS / "howto" / "tasks.rst"


@pytest.fixture
def modules() -> Iterator[dict[str, Any]]:
    app = Celery("mysite", set_as_current=True)
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    backend.reset()
    with pages.imported(PAGE) as found:
        yield found
    backend.reset()


def events(topic: str) -> list[str]:
    return [record.event.data for record in backend.event_log().read_after(topic).records]


@pytest.mark.django_db(transaction=True)
def test_a_celery_task_publishes_after_the_commit(modules: dict[str, Any]) -> None:
    modules["mysite/tasks.py"].start_export(7)
    assert events("exports.7") == [f'{{"done":{number}}}' for number in range(100, 1001, 100)]
    assert Topic("exports.7").state().closed == "completed"


@pytest.mark.django_db(transaction=True)
def test_a_job_of_a_queue_too(modules: dict[str, Any]) -> None:
    class Queue:
        def enqueue(self, work: Any, *given: Any) -> None:
            work(*given)

    modules["mysite/jobs.py"].start_export(Queue(), 8)
    assert Topic("exports.8").state().top == 10


def test_work_that_is_tried_again_is_not_heard_twice(modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    export = modules["mysite/work.py"].export
    monkeypatch.setattr(Topic, "close", lambda *about: True)
    export(9, range(250))
    export(9, range(400))
    assert events("exports.9") == ['{"done":100}', '{"done":200}', '{"done":300}', '{"done":400}']


def test_work_that_fails_closes_its_topic_with_that(modules: dict[str, Any]) -> None:
    def rows() -> Iterator[int]:
        yield from range(100)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        modules["mysite/work.py"].export(10, rows())
    assert Topic("exports.10").state().closed == "failed"


def test_the_command_publishes_in_batches(modules: dict[str, Any]) -> None:
    modules["mysite/management/commands/nightly.py"].Command().handle()
    assert Topic("nightly").state().top == 1000
