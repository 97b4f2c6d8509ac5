"""One of two ends: it is done, or it has failed."""

import trio

import trsm
from trsm import ErrorState, Schema, State


class Job(Schema):
    Working = State(remove=("Done", "Error"))
    Done = State(remove=Working)
    Failed = ErrorState(catches=ValueError)


@Job.Working.task(then=Job.Done)
async def work(t: trsm.Transition) -> int:
    return int(str(t.args["text"]))


async def main() -> None:
    for text in ("42", "forty-two"):
        async with trsm.open_machine(Job, work) as machine:
            end = machine.when(Job.Done) | machine.when_error()
            machine.add(Job.Working, text=text)
            match await end:
                case Exception() as error:
                    print("failed:", error)
                case transition:
                    print("done:", transition.result)


trio.run(main)
