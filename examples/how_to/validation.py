"""Refuse what does not fit: its form when the call is made, its moment in negotiation."""

import attrs
import trio

import trsm
from trsm import Schema, State


@attrs.frozen
class Amount:
    euros: int = attrs.field(validator=attrs.validators.gt(0))  # always so, whatever the account


class Account(Schema):
    Open = State()
    Withdrawn = State(args=Amount, multi=True, require=Open)


def tell(result: trsm.Result) -> None:
    print(result.reason if isinstance(result, trsm.Canceled) else "paid")


class Handlers:
    balance = 100

    @Account.Withdrawn.can_enter
    def is_covered(self, t: trsm.Transition) -> bool:  # so or not, as things stand
        return t.args_of(Account.Withdrawn).euros <= self.balance

    @Account.Withdrawn.on_enter
    def pay(self, t: trsm.Transition) -> None:
        self.balance -= t.args_of(Account.Withdrawn).euros


async def main() -> None:
    handlers = Handlers()
    async with trsm.open_machine(Account, handlers) as account:
        tell(account.add(Account.Withdrawn(30)))
        account.add(Account.Open)
        for euros in (30, 80):
            tell(account.add(Account.Withdrawn(euros)))
        print("70 is possible:", account.can_add(Account.Withdrawn(70)), "and the balance", handlers.balance)

        for wrong in (-5, "ten"):
            try:
                account.add(Account.Withdrawn(wrong))  # type: ignore[arg-type]
            except (ValueError, trsm.MutationError) as error:
                print(error)


trio.run(main)
