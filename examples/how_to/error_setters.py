"""Report an error that no handler or task of the machine has raised."""

import json

import trio

import trsm
from trsm import ErrorState, Schema, State


class Feed(Schema):
    Live = State(remove="Error")  # an error ends it
    Unreadable = ErrorState(catches=json.JSONDecodeError)
    Lost = ErrorState(catches=OSError)


@Schema.Error.on_enter
def tell(t: trsm.Transition) -> None:
    print(" ".join(str(state) for state in t.entering), "with", repr(t.error))


def received(feed: trsm.Machine, text: str) -> None:  # called by some library of yours
    with feed.errors_to_state():
        print("received", json.loads(text))


async def main() -> None:
    async with trsm.open_machine(Feed, tell) as feed:
        feed.add(Feed.Live)
        received(feed, "[1, 2]")
        received(feed, "[1, ")
        print(feed)

        feed.mutate(add=Feed.Live, remove=Feed.Error)  # try again
        feed.add_error(ConnectionResetError("no answer"))  # OSError is its base: Lost takes it

        feed.mutate(add=Feed.Live, remove=Feed.Error)
        feed.add_error(KeyError("token"), Feed.Lost)  # you say which
        print(feed)


trio.run(main)
