"""pause() and resume() of a listener."""

from __future__ import annotations

from tests.limits import arrive, come_in, echo, listen_over
from tests.support import (
    Recorder,
    every_path,
    listen,
    others_had_their_turn,
)


@every_path
async def test_who_comes_to_a_paused_listener_waits(link: str) -> None:
    recorder = Recorder(data=echo)
    with listen_over(link, recorder) as listener:
        listener.pause()
        listener.pause()
        waiting = arrive(listener)
        await others_had_their_turn()
        assert listener.stats().accepted == 0
        listener.resume()
        peer = await come_in(link, waiting)
        await peer.send(b"in")
        assert await peer.receive(2) == b"in"
        peer.close()
        await recorder.until("close")


async def test_a_listener_paused_while_it_accepts_accepts_no_more() -> None:
    recorder = Recorder(open=lambda socket: socket.listener.pause())
    with listen(recorder) as listener:
        peers = [arrive(listener) for _ in range(3)]
        for count in range(1, 4):
            await recorder.until("open", count)
            await others_had_their_turn()
            assert len(recorder.of("open")) == count
            listener.resume()
        for peer in peers:
            peer.close()
        await recorder.until("close", 3)


async def test_room_does_not_end_a_pause_nor_the_other_way_round() -> None:
    recorder = Recorder()
    with listen(recorder, max_connections=1) as listener:
        first, second = arrive(listener), arrive(listener)
        await recorder.until("open")
        listener.pause()
        first.close()
        await recorder.until("close")
        await others_had_their_turn()
        assert len(recorder.of("open")) == 1
        listener.resume()
        await recorder.until("open", 2)
        third = arrive(listener)
        listener.pause()
        listener.resume()
        await others_had_their_turn()
        assert len(recorder.of("open")) == 2
        second.close()
        await recorder.until("open", 3)
        third.close()
        await recorder.until("close", 3)


async def test_pausing_what_is_stopped_does_nothing() -> None:
    listener = listen(Recorder())
    listener.stop()
    listener.pause()
    listener.resume()
    assert listener.fileno() == -1
