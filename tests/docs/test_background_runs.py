"""The page about runs in workers: Celery, RQ, django.tasks, a command; stopped, failing, tried again, interrupted and killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import httpx
import httpx_sse
import psutil
import pytest
from celery import Celery

from django_agent_sse import Topic
from django_agent_sse.eventlog import backend
from django_agent_sse.exceptions import RunExists, RunNotFound

from . import pages
from .blocks import DOCS, blocks_of
from .following import Project, followed, new_project, with_apps

PAGE = DOCS / "howto" / "background-runs.rst"
WHOLE = [{"page": page, "of": 10} for page in range(1, 11)]
LEASE = "15 if job in (9, 15, 21) else 30"
"""Seconds: less than 30 for those that are to be lost."""
PATIENCE = 120
GATE = """
        while job == 31 and page == 3 and not __import__("os").path.exists("goes-on"):
            time.sleep(0.01)"""
"""It is not over before it is asked to stop."""

# In this process


@pytest.fixture
def modules() -> Iterator[dict[str, ModuleType]]:
    app = Celery("mysite", set_as_current=True)
    app.conf.task_always_eager = app.conf.task_eager_propagates = True
    backend.reset()
    with pages.imported(PAGE) as found:
        vars(found["mysite/reports.py"])["time"] = Hurry()
        yield found
    app.close()
    backend.reset()


class Hurry:
    """The module ``time`` of the page's work."""

    def __init__(self) -> None:
        self.between = lambda: None

    def sleep(self, seconds: float) -> None:
        self.between()


def told(topic: str) -> tuple[list[Any], str | None]:
    return [json.loads(event.data) for event in Topic(topic).read()], Topic(topic).state().closed


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["celery", "rq", "django.tasks", "command"])
def test_each_queue_runs_it(modules: dict[str, ModuleType], where: str) -> None:
    if where == "celery":
        modules["mysite/tasks.py"].report_task.delay(7)
    elif where == "rq":
        jobs = modules["mysite/jobs.py"]
        (work,) = jobs.start_report.args  # a real worker has it below
        assert jobs.start_report.func == jobs.queue.enqueue
        work(7)
    elif where == "django.tasks":
        modules["mysite/django_tasks.py"].report_task.enqueue(7)
    else:
        command = modules["mysite/management/commands/report.py"].Command(no_color=True)
        command.run_from_argv(["manage.py", "report", "7"])
    assert told("reports.7") == (WHOLE, "finished")


@pytest.mark.django_db(transaction=True)
def test_sync_code_learns_at_its_next_write_that_it_is_stopped(modules: dict[str, ModuleType]) -> None:
    reports, after = modules["mysite/reports.py"], []

    def stop() -> None:
        if len(after) == 3:
            Topic("reports.8").stop_run()
            stopped.wait()
        after.append(1)

    stopped = Seen("reports.8")
    vars(reports)["time"].between = stop
    reports.report(8)
    events, closed = told("reports.8")
    assert (events, closed) == (WHOLE[:3], "stopped")
    assert len(after) == 4, "the work has ended with its next write"
    assert Topic("reports.8").stop_run().ending == "stopped", "once more changes nothing"
    with pytest.raises(RunNotFound):
        Topic("reports.99").stop_run()


class Seen:
    """Waits until the run of a topic in this process knows that it shall stop."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def wait(self) -> None:
        from django_agent_sse.runs.keeper import keeper

        (run,) = (run for run in keeper._runs if run.topic == self._topic)
        waiting = threading.Event()
        for _ in range(PATIENCE * 100):
            if run.stopping:  # type: ignore[attr-defined]
                return
            waiting.wait(0.01)
        raise AssertionError("the run never hears that it shall stop")


@pytest.mark.django_db(transaction=True)
def test_code_that_writes_seldom_looks_whether_it_should_end(modules: dict[str, ModuleType]) -> None:
    done = []

    def step() -> None:
        done.append(1)
        if len(done) == 2:
            Topic("training.1").stop_run()
            Seen("training.1").wait()

    modules["mysite/patient.py"].train(1, [step] * 9)
    assert (len(done), told("training.1")) == (2, ([], "stopped"))
    modules["mysite/patient.py"].train(2, [list] * 9)
    assert told("training.2") == ([{"steps": 9}], "finished")


@pytest.mark.django_db(transaction=True)
def test_the_exception_of_the_work_goes_on_to_the_queue(modules: dict[str, ModuleType]) -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    vars(modules["mysite/reports.py"])["time"].between = fail
    with pytest.raises(OSError, match="the disk is full"):
        modules["mysite/tasks.py"].report_task.delay(9)
    assert told("reports.9") == ([], "failed")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [ConnectionError("for now"), RunExists("another one", "other")])
def test_each_attempt_has_a_topic_and_the_key_leads_to_the_last(modules: dict[str, ModuleType], error: Exception) -> None:
    attempts = []

    def once() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise error

    vars(modules["mysite/reports.py"])["time"].between = once
    modules["mysite/retried.py"].report_task.apply(args=[7], throw=False)
    log = backend.event_log()
    ends = sorted(str(log.state(one).closed) for one in log.topics("retried.7."))
    assert ends == ["failed", "finished"]
    last = log.pointer("retried.7")
    assert last is not None
    assert told(last) == (WHOLE, "finished")


# In a project, with processes that end in every way


WORKER = """
from rq import Worker
from mysite.jobs import queue, start_report
start_report(21)
start_report(22)
Worker([queue], connection=queue.connection).work(logging_level="WARNING")
"""
URLS = """
from django.urls import include, path
from mysite.streams import router
urlpatterns = [path("", include(router.urls))]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Project]:
    changes = {
        'produce(f"reports.{job}")': f'produce(f"reports.{{job}}", lease={LEASE})',
        "Redis()": f'Redis.from_url("{redis_url}")',
        "time.sleep(0.5)": "time.sleep(0.05 if job == 22 or page == 1 else 600 if job in (2, 9, 15, 21) else 2)" + GATE,
        "guards=[login_required]": "",
    }
    names = ("reports", "streams", "jobs", "management/commands/report")
    blocks = [block for block in blocks_of(PAGE) if block.file in {f"mysite/{name}.py" for name in names}]
    for old, new in changes.items():
        assert sum(old in block.text for block in blocks) == 1, old
        blocks = [replace(block, text=block.text.replace(old, new)) for block in blocks]
    folder = tmp_path_factory.mktemp("background")
    new_project(folder)
    (folder / "mysite/management/commands").mkdir(parents=True)
    (folder / "mysite/urls.py").write_text(URLS)
    blocks += with_apps("mysite", "django_agent_sse")
    with followed(folder, blocks, "uvicorn mysite.asgi:application", new=False) as project:
        yield project


@contextmanager
def started(project: Project, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the project's ``manage.py``."""
    command = [sys.executable, "manage.py", *arguments]
    with subprocess.Popen(command, cwd=project.shell.folder, env=project.shell.environment) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Reader:
    """Follows a job from before it begins, as a page does."""

    def __init__(self, project: Project, job: int) -> None:
        self.pages: list[int] = []
        self.ending = ""
        self.begun, self._over = threading.Event(), threading.Event()
        self._url = f"{project.server.url}/reports/{job}/"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with httpx.Client(timeout=PATIENCE) as client, httpx_sse.connect_sse(client, "GET", self._url) as source:
            for event in source.iter_sse():
                if event.event == "progress":
                    self.pages.append(event.json()["page"])
                    self.begun.set()
                elif event.event == "sse.end":
                    self.ending = event.json()["closed"]
                    self._over.set()

    def over(self) -> str:
        """Wait for the end, and return it."""
        assert self._over.wait(PATIENCE)
        self._thread.join(PATIENCE)  # the answer ends with it
        assert not self._thread.is_alive()
        assert self.pages == [*range(1, len(self.pages) + 1)], "each once, in order"
        return self.ending


def test_a_command_ends_as_the_page_says(project: Project) -> None:
    endings = {signal.SIGKILL: "lost", signal.SIGTERM: "lost", signal.SIGINT: "interrupted"}
    readers = {number: Reader(project, number) for number in endings}
    with ExitStack() as stack:
        processes = {number: stack.enter_context(started(project, "report", str(int(number)))) for number in readers}
        for number, reader in readers.items():
            assert reader.begun.wait(PATIENCE)
            processes[number].send_signal(number)
            processes[number].wait(PATIENCE)
        assert {number: reader.over() for number, reader in readers.items()} == endings
    assert all(len(reader.pages) < len(WHOLE) for reader in readers.values())


def test_a_job_of_rq_whose_process_is_killed_is_lost_and_one_whose_worker_is_told_to_end_finishes(project: Project) -> None:
    killed, finishing = Reader(project, 21), Reader(project, 22)
    with started(project, "shell", "-c", WORKER) as worker:
        assert killed.begun.wait(PATIENCE)
        (horse,) = psutil.Process(worker.pid).children()
        horse.kill()
        assert finishing.begun.wait(PATIENCE)
        worker.terminate()
        assert finishing.over() == "finished"
        assert finishing.pages == [page["page"] for page in WHOLE]
        worker.wait(PATIENCE)
    assert killed.over() == "lost"


def test_the_view_stops_a_run_in_another_process(project: Project) -> None:
    reader = Reader(project, 31)
    with started(project, "report", "31") as process, httpx.Client(base_url=project.server.url, timeout=PATIENCE) as client:
        assert reader.begun.wait(PATIENCE)
        assert client.get("/reports/31/stop/").status_code == 405
        client.cookies["csrftoken"] = token = "a" * 32
        answer = client.post("/reports/31/stop/", headers={"X-CSRFToken": token})
        (project.shell.folder / "goes-on").touch()
        assert (answer.status_code, answer.json()) == (200, {"ending": None})
        assert reader.over() == "stopped"
        assert process.wait(PATIENCE) == 0, "the code ends quietly"
        assert client.post("/reports/31/stop/", headers={"X-CSRFToken": token}).json() == {"ending": "stopped"}
        assert client.post("/reports/98/stop/", headers={"X-CSRFToken": token}).status_code == 404
