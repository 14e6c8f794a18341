"""A broker for MQTT 3.1.1: qualities 0 and 1, wildcards, retained messages, last wills.

    python -m examples.mqtt.broker --port 1883
    mosquitto_sub -t 'house/#' -q 1 & mosquitto_pub -t house/door -m open -q 1

A session ends with its connection. A subscriber that has fallen too far behind misses messages of
quality 0, and is dropped before it would miss one of quality 1.
"""

from __future__ import annotations

import argparse

import mantou
from examples.mqtt import packets
from examples.mqtt.hub import Client, Hub, Socket
from examples.mqtt.packets import Malformed, Reader
from examples.mqtt.topics import is_filter

INTRODUCTION = 10.0  # seconds that a client has to say who it is


class Broker(mantou.SocketHandler[Client]):
    """All connections share this object, and so the subscriptions."""

    def __init__(self) -> None:
        self.clients: dict[bytes, Socket] = {}
        self.hub = Hub()

    def data(self, socket: Socket, data: bytes) -> None:
        client = socket.data
        try:
            received, client.rest = packets.split(client.rest + data)
            with socket.cork():
                for kind, flags, body in received:
                    self.take(socket, kind, flags, body)
        except (Malformed, BufferError):
            socket.terminate()

    def close(self, socket: Socket, error: BaseException | None) -> None:
        client = socket.data
        self.hub.leave(socket)
        if client.client_id is not None and self.clients.get(client.client_id) is socket:
            del self.clients[client.client_id]
        if client.will is not None:
            self.hub.publish(client.will)

    def take(self, socket: Socket, kind: int, flags: int, body: bytes) -> None:
        if (socket.data.client_id is None) is not (kind == packets.CONNECT):
            raise Malformed("the first packet is CONNECT, and no other is")
        match kind:
            case packets.CONNECT:
                self.welcome(socket, packets.connect_of(body))
            case packets.PUBLISH:
                message, number = packets.publish_of(flags, body)
                self.hub.publish(message)
                if number:
                    socket.write_all(packets.packet(packets.PUBACK, number))
            case packets.PUBACK:
                pass  # TCP has lost nothing, and the session ends with the connection
            case packets.SUBSCRIBE:
                self.subscribe(socket, Reader(body))
            case packets.UNSUBSCRIBE:
                self.unsubscribe(socket, Reader(body))
            case packets.PINGREQ:
                socket.write_all(packets.packet(packets.PINGRESP))
            case packets.DISCONNECT:
                socket.data.will = None
                socket.close()
            case _:
                raise Malformed(f"a packet of kind {kind}")

    def welcome(self, socket: Socket, connect: packets.Connect) -> None:
        client_id = connect.client_id or f"client-{id(socket)}".encode()
        if (older := self.clients.get(client_id)) is not None:
            older.close()
        self.clients[client_id] = socket
        socket.data.client_id, socket.data.will = client_id, connect.will
        # Half as long again as the client promised to be heard.
        socket.timeout(connect.keep_alive * 1.5)
        socket.write_all(packets.packet(packets.CONNACK, b"\0\0"))

    def subscribe(self, socket: Socket, reader: Reader) -> None:
        number, granted, kept = reader.take(2), bytearray(), []
        while reader:
            topic_filter, qos = reader.text(), min(reader.number(1), 1)
            granted.append(qos if is_filter(topic_filter) else 0x80)
            if is_filter(topic_filter):
                kept += [(kept, qos) for kept in self.hub.subscribe(socket, topic_filter, qos)]
        socket.write_all(packets.packet(packets.SUBACK, number + granted))
        for message, qos in kept:
            self.hub.deliver(socket, message, qos, retain=True)

    def unsubscribe(self, socket: Socket, reader: Reader) -> None:
        number = reader.take(2)
        while reader:
            self.hub.unsubscribe(socket, reader.text())
        socket.write_all(packets.packet(packets.UNSUBACK, number))


def main() -> None:
    parser = argparse.ArgumentParser(description="A broker for MQTT 3.1.1.")
    parser.add_argument("--hostname", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883, help="1883; 0 picks a free one")
    options = parser.parse_args()
    listener = mantou.listen(
        hostname=options.hostname,
        port=options.port,
        socket=Broker(),
        data_factory=lambda socket: Client(),
        idle_timeout=INTRODUCTION,
    )
    print(f"listening on {listener.hostname}:{listener.port}", flush=True)
    try:
        mantou.run()
    except KeyboardInterrupt:
        print("bye")


if __name__ == "__main__":
    main()
