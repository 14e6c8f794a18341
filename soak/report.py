"""What a run has shown: its figures as text, and what is wrong with them."""

from __future__ import annotations

from typing import Any

MIB = 1024 * 1024
# How a peer's RST may show, depending on what was under way.
BROKEN = {"ConnectionResetError", "BrokenPipeError"}
# Kinds whose connections do not all end well. asyncio's own client, when it reads slowly, leaves
# without TLS's goodbye.
ENDS = {
    "reset": BROKEN,
    "faulty": {"LookupError"},
    "tls-source": {"well", "SSLEOFError"},
}


def report(figures: dict[str, Any]) -> str:
    """A page of text."""
    server, loads = figures["server"], figures["loads"]
    counts = server["counts"]
    visits = {name: sum(load["visits"].values()) for name, load in loads.items()}
    latency = ", ".join(f"{name} {ms:.2f} ms" for name, ms in figures["latency"].items())
    options = figures["options"]
    before, after = server["descriptors"]
    lines = [
        f"{options['seconds']:g} s, {options['connections']} connections, seed {options['seed']}",
        f"visits           {visits['asyncio']} by asyncio, {visits['mantou']} by mantou",
        f"bytes checked    {sum(load['carried'] for load in loads.values()) / MIB:,.0f} MiB",
        f"idle             {sum(load['idled'] for load in loads.values())}",
        f"come and gone    {sum(load['churned'] for load in loads.values())}",
        f"probe            {latency}",
        f"reloads, swaps   {server['reloads']}, {server['swaps']}",
        f"handlers raised  {server['faults'][0]}",
        f"server           {server['cpu']:.0f} s of CPU, {server['rss'] / MIB:.0f} MiB at most",
        f"descriptors      {len(before)} before, {len(after)} behind",
        "",
        "| kind | opened | closed | how they ended |",
        "|---|--:|--:|---|",
    ]
    for kind, count in counts.items():
        ends = ", ".join(f"{number} {name}" for name, number in count["ends"].items())
        lines.append(f"| {kind} | {count['opened']} | {count['closed']} | {ends} |")
    return "\n".join(lines)


def faults(figures: dict[str, Any]) -> list[str]:
    """What should not be."""
    server, loads, options = figures["server"], figures["loads"], figures["options"]
    found = [f"{name}: {fault}" for name, load in loads.items() for fault in load["faults"]]
    for kind, count in server["counts"].items():
        if count["opened"] != count["closed"] or count["twice"]:
            found.append(f"{kind}: not one close for each open: {count}")
        expected = ENDS.get(kind, {"well"})
        found += [f"{kind}: ended with {name}" for name in count["ends"] if name not in expected]
        if not count["opened"]:
            found.append(f"{kind}: nobody came")
    raised, told = server["faults"]
    if raised != told:
        found.append(f"{raised} handlers failed, and {told} errors were told")
    if server["cut"] or any(server["workers"]):
        found.append(f"{server['cut']} were cut; the workers ended with {server['workers']}")
    before, after = server["descriptors"]
    if len(after) > len(before):
        found.append(f"descriptors are left: {sorted(set(after) - set(before))}")
    for name in ("idle", "churn"):
        done = sum(load["idled" if name == "idle" else "churned"] for load in loads.values())
        if done != options[name]:
            found.append(f"{name}: {done} of {options[name]}")
    return found + [f"log: {line}" for line in server["log"]]
