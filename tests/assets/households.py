"""A household acting on the local chain on its own account, through nothing but the client.

Belongs here: deposits, withdrawals, orders as a wallet sends them. Does not belong here: assertions.
"""

from __future__ import annotations

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.chain.transactions import create_token_account
from gridtokenx_pipelines.settlement_service.services import Services
from tests.assets.market_chain import signer
from tests.assets.market_day import key_of_household, wallet

TRADING = Program.load("trading")


class Household:
    """A wallet acting on its own account of the local chain, through nothing but the client."""

    def __init__(self, services: Services, index: int) -> None:
        self.client, self.index = services.client, index
        self.key = KeypairSigner(Keypair.from_seed(bytes(key_of_household(index))))
        self.trader = addresses.address_of_trader(wallet(index))
        self.thbc = addresses.token_account(self.key.pubkey, addresses.thbc_mint())
        self.grid = addresses.token_account(self.key.pubkey, addresses.grid_mint())
        self._payer = signer("relayer")

    def act(self, name: str, accounts: dict[str, Pubkey] | None = None, **args: int) -> None:
        named = {"wallet": self.key.pubkey, "trader": self.trader, **(accounts or {})}
        self.client.send_and_confirm([TRADING.instruction(name, named, **args)], self._payer, [self.key])

    def slot(self) -> int:
        """The slot of its one order on chain."""
        account = self.client.account(self.trader)
        assert account is not None
        placed = TRADING.decode("Trader", account.data)["placed"]
        return next(index for index, number in enumerate(placed) if number)

    def withdraw(self) -> None:
        for mint in (addresses.thbc_mint(), addresses.grid_mint()):
            make = create_token_account(self._payer.pubkey, self.key.pubkey, mint)
            self.client.send_and_confirm([make], self._payer)
        self.act("withdraw", {"thbc_destination": self.thbc, "grid_destination": self.grid})
