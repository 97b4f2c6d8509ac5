"""Work that takes time, and its result."""

import trio

import trsm
from trsm import Schema, State


class Page(Schema):
    Loading = State(remove="Loaded")
    Loaded = State(remove=Loading)


@Page.Loading.task(then=Page.Loaded)
async def load(t: trsm.Transition) -> str:
    print("loading", t.args["url"])
    try:
        await trio.sleep(1)  # the network
    except trio.Cancelled:
        print("gave up on", t.args["url"])
        raise
    return f"the text of {t.args['url']}"


async def main() -> None:
    async with trsm.open_machine(Page, load) as page:
        page.add(Page.Loading, url="/first")
        loaded = await page.when(Page.Loaded)
        print(loaded.result)

        page.add(Page.Loading, url="/second")  # Loaded leaves: what it said is no longer so
        print(page)
        await trio.sleep(0.5)
        page.remove(Page.Loading)
        print(page.active_states)


trio.run(main)
