"""Asks a PostgreSQL server and prints the rows: see `client.py`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import mantou
from examples.postgres.client import Connection, PostgresError
from examples.postgres.scram import AuthenticationError


async def ask(options: argparse.Namespace) -> None:
    tls = {"ca_file": options.ca, "server_name": options.hostname} if options.ca else False
    password = os.environ.get("PGPASSWORD", "")
    place, database = (options.hostname, options.port), options.database or options.user
    connection = await Connection.connect(place, options.user, password, database, tls)
    for row in await connection.query(options.query):
        print("\t".join("NULL" if value is None else value for value in row))
    await connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask a PostgreSQL server. PGPASSWORD is used.")
    parser.add_argument("--hostname", default="localhost")
    parser.add_argument("--port", type=int, default=5432)
    parser.add_argument("--user", required=True)
    parser.add_argument("--database", help="default: called as the user")
    parser.add_argument("--ca", type=Path, help="whom to trust: without it, no TLS")
    parser.add_argument("query")
    try:
        mantou.run(ask(parser.parse_args()))
    except (OSError, EOFError, PostgresError, AuthenticationError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
