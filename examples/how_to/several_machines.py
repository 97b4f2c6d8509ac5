"""Wait for several machines at once, and miss none of their errors."""

import attrs
import trio

import trsm
from trsm import ErrorState, Schema, State


@attrs.frozen
class Work:
    seconds: int


class Crew(Schema):
    Hired = State()


class Job(Schema):
    Working = State(args=Work, remove=("Done", "Error"))
    Done = State(remove=Working)
    Failed = ErrorState(catches=ValueError)


@Job.Working.task(then=Job.Done)
async def work(t: trsm.Transition) -> int:
    seconds = t.args_of(Job.Working).seconds
    await trio.sleep(seconds)
    if seconds == 3:
        raise ValueError("three is too much")
    return seconds


async def main() -> None:
    async with trsm.open_machine(Crew) as crew:
        jobs = [crew.start_child(Job, work, id=f"job {number}") for number in range(3)]
        ends = [job.when(Job.Done) | job.when_error() for job in jobs]  # before they begin
        for job, seconds in zip(jobs, (2, 1, 3), strict=True):
            job.add(Job.Working(seconds))

        index, _ = await trsm.wait_any(*ends)
        print("the first to end is", jobs[index].id)

        for job, end in zip(jobs, await trsm.wait_all(*ends), strict=True):
            match end:
                case Exception() as error:
                    print(job.id, "failed:", error)
                case done:
                    print(job.id, "took", done.result, "s")


trio.run(main)
