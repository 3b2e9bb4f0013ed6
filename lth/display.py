"""The live display of a running sweep: trainings, levels and arms in flight, seed-steps a second, time left."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from lth.console import Console
from lth.experiment import Experiment, format_seeds
from lth.store import Unit
from lth.sweep.progress import Event, Notice, Phase, Planned, Steps, UnitChanged


class Display:
    """Listens to a sweep and keeps a few lines on the screen current; plain lines where there is no terminal."""

    def __init__(self, console: Console, experiment: Experiment) -> None:
        self.console = console
        self.experiment = experiment
        self.lock = threading.Lock()
        self.plan: Planned | None = None
        self.text = ""
        self.begun = 0.0
        self.trained = 0
        self.steps = 0
        self.units = 0
        self.running: dict[Unit, float] = {}
        self.failures: list[str] = []
        self.reported = -1.0
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("trainings"),
            TaskProgressColumn(),
            console=console,
        )
        self.task = self.bar.add_task(experiment.id, total=None)
        self.live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live.is_started:
            self.live.stop()

    def phase(self, text: str) -> None:
        """Say what is happening before units run."""
        with self.lock:
            self.text = text
        if not self.console.is_terminal:
            self.console.print(f"{self.experiment.id}: {text} …")

    def listen(self, event: Event) -> None:
        """Take in an event; called from the threads of a sweep."""
        if isinstance(event, Phase):
            self.phase(event.text)
            return
        if isinstance(event, Notice):
            self.console.print(f"{self.experiment.id}: {event.text}", soft_wrap=True)
            return
        with self.lock:
            if isinstance(event, Planned):
                self.plan, self.text, self.begun = event, "", time.monotonic()
                self.trained = self.steps = self.units = 0  # a sweep to which seeds are added is planned again
                self.reported = -1.0
                self.bar.update(self.task, total=event.trainings, completed=event.committed)
            elif isinstance(event, Steps):
                self.steps = max(self.steps, event.trained)
            elif event.what == "started":
                self.running.setdefault(event.unit, time.monotonic())
            else:
                self.running.pop(event.unit, None)
                if event.what == "committed":
                    self.units += 1
                    self.trained += len(event.unit.seeds)
                    self.bar.advance(self.task, len(event.unit.seeds))
                else:
                    self.failures.append(event.detail)
        if isinstance(event, Planned) or (isinstance(event, UnitChanged) and event.what != "started"):
            self._plain(event)

    def _plain(self, event: Event) -> None:
        """Where there is no terminal: a line at the start, then about every tenth of the work, and failures."""
        if self.console.is_terminal or self.plan is None:
            return
        if isinstance(event, UnitChanged) and event.what == "failed":
            self.console.print(f"failed: {event.detail}", soft_wrap=True)
        share = (self.plan.committed + self.trained) / max(self.plan.trainings, 1)
        if share >= self.reported + 0.1 or share == 1:
            self.reported = share
            self.console.print(
                f"{self.plan.committed + self.trained}/{self.plan.trainings} trainings · {self.rate()}", soft_wrap=True
            )

    def rate(self) -> str:
        """Speed and time left, in words."""
        if self.plan is None:
            return ""
        elapsed = time.monotonic() - self.begun
        if not self.steps or elapsed <= 0:
            resumed = f", {self.plan.resumed} from where they were saved" if self.plan.resumed else ""
            return f"{self.plan.units} units to run, {self.plan.slots} at a time{resumed}"
        speed = self.steps / elapsed
        left = max(self.plan.seed_steps - self.steps, 0) / speed
        return f"{self.units}/{self.plan.units} units · {speed:,.0f} seed-steps/s · {_clock(left)} left"

    def render(self) -> RenderableType:
        """What stands on the screen now."""
        with self.lock:
            if self.plan is None:
                return Text(f"{self.experiment.id}: {self.text} …")
            now = time.monotonic()
            flying = [
                Text(
                    f"  level {unit.level} · {unit.arm} · seeds {format_seeds(unit.seeds)} · {now - since:.0f} s",
                    style="dim",
                    no_wrap=True,
                    overflow="ellipsis",
                )
                for unit, since in sorted(self.running.items(), key=lambda item: item[1])[:8]
            ]
            failed = [Text(f"  failed: {reason}", style="red") for reason in self.failures[-3:]]
            return Group(self.bar, Text(f"  {self.rate()}"), *flying, *failed)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
