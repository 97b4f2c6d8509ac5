"""A machine that goes on after a restart, where it was."""

import json
import os
from pathlib import Path

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Order:
    item: str
    count: int = 1


class Delivery(Schema):
    Ordered = State(args=Order, latch=True)
    Packing = State(require=Ordered, remove="Sent")
    Sent = State(require=Ordered, remove=Packing)


@Delivery.Packing.task(then=Delivery.Sent)
async def pack(t: trsm.Transition) -> None:
    order = (await t.machine.when(Delivery.Ordered)).args_of(Delivery.Ordered)  # kept in the snapshot
    print("packing", order.count, order.item)
    await trio.sleep(2)


def save(machine: trsm.Machine, path: Path) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(machine.snapshot(), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)  # the old file or the new one, never half of one


async def before(path: Path) -> None:
    async with trsm.open_machine(Delivery, pack) as delivery:
        delivery.add(Delivery.Ordered(item="books", count=3))
        delivery.add(Delivery.Packing)
        save(delivery, path)
        await trio.sleep(1)  # and here somebody pulls the plug


async def after(path: Path) -> None:
    snapshot = json.loads(await trio.Path(path).read_text(encoding="utf-8"))
    async with trsm.open_machine(Delivery, pack, snapshot=snapshot) as delivery:
        print("again:", delivery)
        await delivery.when(Delivery.Sent)
        save(delivery, path)
        print("sent:", delivery)


trio.run(before, Path("delivery.json"))
trio.run(after, Path("delivery.json"))
