"""Has all conversations at once over each kind of bad way.

python -m trials.network [PATTERN]

PATTERN picks some, as "lossy" or "down*". Ends with 1 if anything was found.
"""

from __future__ import annotations

import asyncio
import fnmatch
import socket as kernel
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mantou
from trials.conversations import CONVERSATIONS, Conversation, Stage
from trials.network.conditions import DEAD_AFTER, TRIALS, Trial, judge_death, now, under_way
from trials.network.way import Way
from trials.verdict import complaints, is_whole

SIZE = 500_000
SIDE_BY_SIDE = 3
# What is at both ends of the way; proxies and files are the kernel's business at ours.
CARRIED = [it for it in CONVERSATIONS if not it.proxies and not it.peeks]


def main(pattern: str = "*") -> int:
    """Returns 1 if anything was found."""
    wanted = [trial for trial in TRIALS if fnmatch.fnmatch(trial.name, pattern)]
    if not wanted:
        print(f"nothing is called {pattern!r}: {[trial.name for trial in TRIALS]}")
        return 1
    findings = 0
    start = time.monotonic()
    # Side by side: each has a way of its own, and the longest mostly wait.
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for trial, (count, found, took) in zip(wanted, pool.map(play, wanted), strict=True):
            print(f"{trial.name}: {count} conversations, {took:.0f} s", *found, sep="\n!! ")
            findings += len(found)
    print(f"{findings} findings in {(time.monotonic() - start) / 60:.1f} minutes")
    return 1 if findings else 0


def play(trial: Trial, size: int = SIZE) -> tuple[int, list[str], float]:
    """How many conversations there were, what was found, how long it took."""
    start = time.monotonic()
    with Way() as way:
        way.become(trial.conditions)
        stages = [
            # Nobody may be done before the peer is gone.
            make_stage(way, trial, conversation, link, size * 8 if trial.dies else size)
            for conversation in CARRIED
            for link in conversation.links
            if link != "unix"
        ]
        with (
            ThreadPoolExecutor(len(stages)) as waiting,
            asyncio.Runner(loop_factory=mantou.new_event_loop) as runner,
        ):
            runner.get_loop().set_default_executor(waiting)
            found = runner.run(play_all(way, trial, stages))
            for stage in stages:
                stage.leave()
    return len(stages), found, time.monotonic() - start


def make_stage(way: Way, trial: Trial, conversation: Conversation, link: str, size: int) -> Stage:
    """Our half at this end, and the peer at the other."""
    stage = Stage(
        conversation,
        link,
        size=size,
        host=way.local,
        far_host=way.remote,
        make_socket=lambda family: way.inside(lambda: kernel.socket(family)),
        patience=trial.limit,
    )
    if trial.dies:
        stage.options["dead_after"] = DEAD_AFTER
    return stage


async def play_all(way: Way, trial: Trial, stages: list[Stage]) -> list[str]:
    """Plays them, and does in the middle what the trial wants."""
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    playing = [asyncio.ensure_future(stage.conversation.play(stage)) for stage in stages]
    found = []
    happened = 0.0
    try:
        async with asyncio.timeout(trial.limit):
            if trial.midway is not None:
                await under_way(stages)
                happened = now()
                await trial.midway(way, stages)
            if trial.dies:
                await asyncio.gather(*(stage.told.ended() for stage in stages))
                for stage in stages:
                    stage.peer.dismiss()
            await asyncio.wait(playing)
    except TimeoutError:
        for stage, task in zip(stages, playing, strict=True):
            if not task.done():
                found.append(
                    f"{title(stage)}: not over after {trial.limit} s, the peer has sent "
                    f"{stage.peer.sent}, we received {stage.told.came.received}"
                )
        for task in playing:
            task.cancel()
        for stage in stages:
            stage.peer.dismiss()
        await asyncio.wait(playing)
    for task in playing:
        if not task.cancelled() and (error := task.exception()) is not None:
            found.append(f"it raised {error!r}")
    found += [f"the loop was told {context}" for context in reported]
    for stage in stages:
        wrong = judge_death(stage, happened) if trial.dies else judge(stage)
        found += [f"{title(stage)}: {what}" for what in wrong]
    return found


def judge(stage: Stage) -> list[str]:
    """Whether both sides have every byte."""
    wrong = complaints(stage.told, stage.peer)
    if not is_whole(stage.told, stage.peer) or stage.told.came.received != stage.size:
        wrong.append(
            f"not whole: {stage.told.came.received} came and {stage.peer.came.received} went of "
            f"{stage.size}, told {stage.told.errors}, the peer {stage.peer.error!r}"
        )
    return wrong


def title(stage: Stage) -> str:
    """What it is called in messages."""
    return f"{stage.conversation.name} {stage.link}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
