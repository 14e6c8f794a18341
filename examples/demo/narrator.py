"""How the demonstration speaks: parts, events, checks, a progress bar and a summary."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

COLOURS = {"server": "magenta", "client": "cyan"}


class Narrator:
    """Prints what happens and keeps count of what should not have happened."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.passed = 0
        self.failed = 0
        self.part_began = time.monotonic()

    def part(self, title: str, why: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{escape(title)}", align="left")
        self.console.print(f"[dim]{escape(why)}")
        self.part_began = time.monotonic()

    def event(self, who: str, handler: str, text: str) -> None:
        """Tell what a side did or, with the handler's name, what was reported to it."""
        milliseconds = (time.monotonic() - self.part_began) * 1000
        colour = COLOURS.get(who.split(maxsplit=1)[0], "white")
        self.console.print(
            f"[dim]{milliseconds:8.1f} ms[/]  [{colour}]{escape(who):<11}[/] "
            f"[bold]{handler:<8}[/] {escape(text)}"
        )

    def check(self, what: str, *, passed: bool) -> None:
        self.passed += passed
        self.failed += not passed
        mark = "[green]ok[/]" if passed else "[bold red]FAILED[/]"
        self.console.print(f"             {mark}  {escape(what)}")

    def progress(self) -> Progress:
        """A bar for the large transfer."""
        return Progress(
            TextColumn("            "),
            BarColumn(bar_width=40),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=self.console,
        )

    def summary(self, speeds: dict[str, float]) -> None:
        self.console.print()
        self.console.rule("[bold]Summary", align="left")
        for name, speed in speeds.items():
            self.console.print(f"  throughput over {name + ':':<13} {speed / 1e6:8.0f} MB/s")
        self.console.print("  (sender, receiver and both SHA-256 sums share one thread)")
        verdict = (
            f"[bold red]{self.failed} of {self.passed + self.failed} checks failed[/]"
            if self.failed
            else f"[bold green]all {self.passed} checks passed[/]"
        )
        self.console.print(f"  {verdict}")
