"""Bringing a network up: programs checked and initialised, users, meters, deposits, mandates, funding.

Belongs here: what must be on the chain before the first epoch opens. Does not belong here: settlement (runs).
Every step reads the chain first and does what is missing, so a broken-off set-up is simply run again. A deposit and
the issue that pays it share a transaction, and the issue is once-only by its reference: money is never made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import msgspec
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.client import AccountInfo, ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.participants import (
    GRID_OPERATOR,
    SUPPLIER,
    ChainKeys,
    ChainMandate,
    ChainMeter,
    ChainUser,
    MarketFunding,
    SetupReport,
    params_of,
)
from gridtokenx_pipelines.chain.signer import Signer
from gridtokenx_pipelines.chain.transactions import Group, create_token_account, pack, sign
from gridtokenx_pipelines.market.rules import Rules

PAYER_LAMPORTS = 1_000 * 10**9
PENDING = 0
SIMULATED_TIME = 1
TRANSACTIONS_AT_ONCE = 512
# compute units of one household's or meter's instructions, measured with room for the PDA searches' spread
USER_UNITS, METER_UNITS, DEPOSIT_UNITS, INITIALISE_UNITS = 60_000, 40_000, 120_000, 300_000


class SetupError(RuntimeError):
    """The chain is in a state that set-up can't go on from; the message says what to do."""


class Setup:
    """Set-up on one chain with one set of keys."""

    def __init__(self, client: ChainClient, keys: ChainKeys) -> None:
        self.client = client
        self.keys = keys
        self.transactions = 0
        self.governance = Program.load("governance")
        self.registry = Program.load("registry")
        self.energy_token = Program.load("energy-token")
        self.trading = Program.load("trading")

    def bring_up(
        self,
        rules: Rules,
        users: Sequence[ChainUser],
        meters: Sequence[ChainMeter],
        funding: MarketFunding | None = None,
        time_mode: int = SIMULATED_TIME,
    ) -> SetupReport:
        """Everything in order; a second call does nothing. Raises SetupError or ChainError."""
        self.transactions = 0
        self.check_deployed()
        self.fund_payer()
        initialised = self.initialise(rules, time_mode)
        self.fund_market(funding)
        mandates = self.register_users(users)
        return SetupReport(
            initialised=tuple(initialised),
            users=mandates[0],
            mandates=mandates[1],
            meters=self.register_meters(meters),
            deposits=self.deposit(users),
            transactions=self.transactions,
        )

    # --- programs and singletons -------------------------------------------------------------------------------

    def check_deployed(self) -> None:
        """SetupError naming the programs that are not on the chain as executables."""
        found = self.client.accounts([addresses.program_id(name) for name in addresses.PROGRAM_NAMES])
        missing = [
            name
            for name, account in zip(addresses.PROGRAM_NAMES, found, strict=True)
            if not (account and account.executable)
        ]
        if missing:
            raise SetupError(
                f"programs {', '.join(missing)} are not deployed at {self.client.rpc_url}; deploy programs/deploy"
            )

    def fund_payer(self) -> None:
        """Lamports for the payer from the faucet, where it has less than half of what set-up wants."""
        payer = self.keys.payer.pubkey
        if self.client.balance(payer) >= PAYER_LAMPORTS // 2:
            return
        try:
            self.client.airdrop(payer, PAYER_LAMPORTS)
        except ChainError as error:
            raise SetupError(f"payer {payer} has too few lamports and the faucet refused; fund it by hand") from error

    def initialise(self, rules: Rules, time_mode: int) -> list[str]:
        """Initialise the singletons that are not there; their names."""
        keys, deployer = self.keys, {"deployer": self.keys.authority.pubkey}
        if self.client.balance(keys.authority.pubkey) == 0:
            # the deployer pays the rent of the singletons
            self.client.airdrop(keys.authority.pubkey, 10 * 10**9)
        steps = {
            "governance": (
                addresses.governance(),
                lambda: self.governance.instruction(
                    "initialize",
                    deployer,
                    network=rules.network_id,
                    guardian=keys.guardian,
                    threshold=keys.oracle_threshold,
                    oracles=[oracle.pubkey for oracle in keys.oracles],
                    params=params_of(rules),
                ),
            ),
            "energy-token": (
                addresses.token_config(),
                lambda: self.energy_token.instruction(
                    "initialize",
                    deployer,
                    bridge_threshold=keys.bridge_threshold,
                    bridge=[attestor.pubkey for attestor in keys.bridge],
                ),
            ),
            "registry": (addresses.registry(), lambda: self.registry.instruction("initialize", deployer)),
            "trading": (
                addresses.market(),
                lambda: self.trading.instruction("initialize_market", deployer, time_mode=time_mode),
            ),
        }
        found = self.client.accounts([address for address, _ in steps.values()])
        missing = [name for name, account in zip(steps, found, strict=True) if account is None]
        for name in missing:
            self._send([Group((steps[name][1](),), (keys.authority,), INITIALISE_UNITS)])
        return missing

    # --- money -------------------------------------------------------------------------------------------------

    def fund_market(self, funding: MarketFunding | None) -> None:
        """Issue THBC to the funder and pay it into the supplier's and the grid operator's accounts, once."""
        if funding is None:
            return
        wanted = [
            (f"{funding.reference}/supplier", SUPPLIER, funding.supplier_uthb),
            (f"{funding.reference}/grid-operator", GRID_OPERATOR, funding.grid_operator_uthb),
        ]
        open_ones = self._undeposited([(reference, amount) for reference, _, amount in wanted])
        groups = []
        for reference, account, amount in wanted:
            if reference in open_ones:
                accounts = {"funder": funding.funder.pubkey, "source": self._thbc_account(funding.funder)}
                pay = self.trading.instruction("fund_account", accounts, account=account, amount=amount)
                groups.append(self._issue_and(funding.funder, reference, amount, pay))
        self._send(groups)

    def deposit(self, users: Sequence[ChainUser]) -> int:
        """Issue each user's deposit and pay it into the trading account, once per reference; how many were made."""
        paying = [user for user in users if user.deposit_uthb > 0]
        unnamed = [str(user.wallet.pubkey) for user in paying if not user.deposit_reference]
        if unnamed:
            raise SetupError(f"deposit of {unnamed[0]} has no reference; give one, it is what makes it once-only")
        open_ones = self._undeposited([(user.deposit_reference, user.deposit_uthb) for user in paying])
        groups = []
        for user in paying:
            if user.deposit_reference in open_ones:
                accounts = {
                    "wallet": user.wallet.pubkey,
                    "trader": addresses.address_of_trader(user.wallet.pubkey),
                    "source": self._thbc_account(user.wallet),
                }
                pay = self.trading.instruction("deposit", accounts, amount=user.deposit_uthb)
                groups.append(self._issue_and(user.wallet, user.deposit_reference, user.deposit_uthb, pay))
        self._send(groups)
        return len(groups)

    def _undeposited(self, references: Sequence[tuple[str, int]]) -> set[str]:
        markers = self.client.accounts([addresses.deposit(reference.encode()) for reference, _ in references])
        return {
            reference
            for (reference, amount), marker in zip(references, markers, strict=True)
            if marker is None and amount > 0
        }

    def _issue_and(self, wallet: Signer, reference: str, amount: int, pay: Instruction) -> Group:
        payer, attestors = self.keys.payer, self.keys.bridge[: self.keys.bridge_threshold]
        issue = self.energy_token.instruction(
            "issue_thbc",
            {
                "payer": payer.pubkey,
                "destination": self._thbc_account(wallet),
                "deposit": addresses.deposit(reference.encode()),
            },
            remaining=[AccountMeta(attestor.pubkey, True, False) for attestor in attestors],
            ref_hash=sha256(reference.encode()).digest(),
            amount=amount,
        )
        account = create_token_account(payer.pubkey, wallet.pubkey, addresses.thbc_mint())
        return Group((account, issue, pay), (wallet, *attestors), DEPOSIT_UNITS)

    @staticmethod
    def _thbc_account(wallet: Signer) -> Pubkey:
        return addresses.token_account(wallet.pubkey, addresses.thbc_mint())

    # --- participants ------------------------------------------------------------------------------------------

    def register_users(self, users: Sequence[ChainUser]) -> tuple[int, int]:
        """Register, approve, open trading accounts, set mandates; how many users and mandates were new."""
        wallets = [user.wallet.pubkey for user in users]
        user_accounts = self.client.accounts([addresses.address_of_user(wallet) for wallet in wallets])
        traders = self.client.accounts([addresses.address_of_trader(wallet) for wallet in wallets])
        groups, registered, mandated = [], 0, 0
        for user, account, trader in zip(users, user_accounts, traders, strict=True):
            admitted = self._admission(user, account)
            opened = [] if trader else [self._open_trader(user)]
            mandate = self._mandate(user, trader)
            registered += bool(admitted)
            mandated += bool(mandate)
            if admitted or opened or mandate:
                signers = (user.wallet, self.keys.authority)
                groups.append(Group((*admitted, *opened, *mandate), signers, USER_UNITS))
        self._send(groups)
        return registered, mandated

    def _admission(self, user: ChainUser, account: AccountInfo | None) -> list[Instruction]:
        wallet, address = user.wallet.pubkey, addresses.address_of_user(user.wallet.pubkey)
        register = self.registry.instruction(
            "register_user",
            {"wallet": wallet, "payer": self.keys.payer.pubkey, "user": address},
            user_type=user.user_type,
            zone=user.zone_id,
        )
        approve = self.registry.instruction("approve_user", {"authority": self.keys.authority.pubkey, "user": address})
        if account is None:
            return [register, approve]
        known = self.registry.decode("User", account.data)
        if known["zone"] != user.zone_id:
            raise SetupError(
                f"{wallet} is registered in zone {known['zone']}, must be {user.zone_id}: a wallet keeps its zone"
            )
        return [approve] if known["status"] == PENDING else []

    def _open_trader(self, user: ChainUser) -> Instruction:
        wallet = user.wallet.pubkey
        accounts = {
            "payer": self.keys.payer.pubkey,
            "trader": addresses.address_of_trader(wallet),
            "user": addresses.address_of_user(wallet),
        }
        return self.trading.instruction("open_trader", accounts)

    def _mandate(self, user: ChainUser, trader: AccountInfo | None) -> list[Instruction]:
        if user.mandate is None:
            return []
        if trader is not None:
            state = self.trading.decode("Trader", trader.data)
            newest = state["next"] if state["next"]["is_set"] else state["current"]
            if newest["is_set"] and _same(newest, user.mandate):
                return []
        wallet, mandate = user.wallet.pubkey, user.mandate
        return [
            self.trading.instruction(
                "set_mandate",
                {"wallet": wallet, "trader": addresses.address_of_trader(wallet)},
                sell_min=mandate.sell_min_uthb_per_kwh,
                buy_max=mandate.buy_max_uthb_per_kwh,
                max_wh=mandate.max_wh,
                expiry_epoch=mandate.end_epoch,
                buy_back=int(mandate.buy_back),
            )
        ]

    def register_meters(self, meters: Sequence[ChainMeter]) -> int:
        """Register and approve meters with their baselines; how many were new. The owners must be active users."""
        accounts = self.client.accounts([addresses.address_of_meter(meter.meter_id) for meter in meters])
        groups = []
        for meter, account in zip(meters, accounts, strict=True):
            instructions = self._meter(meter, account)
            if instructions:
                groups.append(Group(tuple(instructions), (meter.owner, self.keys.authority), METER_UNITS))
        self._send(groups)
        return len(groups)

    def _meter(self, meter: ChainMeter, account: AccountInfo | None) -> list[Instruction]:
        owner, address = meter.owner.pubkey, addresses.address_of_meter(meter.meter_id)
        register = self.registry.instruction(
            "register_meter",
            {
                "owner": owner,
                "payer": self.keys.payer.pubkey,
                "user": addresses.address_of_user(owner),
                "meter": address,
            },
            meter_type=meter.meter_type,
            zone=meter.zone_id,
            rating_w=meter.rating_w,
            device_key=meter.device_key,
            meter_id=meter.meter_id,
        )
        approve = self.registry.instruction(
            "approve_meter",
            {"authority": self.keys.authority.pubkey, "meter": address},
            first_epoch=meter.first_epoch,
            baseline_production_wh=meter.baseline_production_wh,
            baseline_consumption_wh=meter.baseline_consumption_wh,
        )
        if account is None:
            return [register, approve]
        known = self.registry.decode("Meter", account.data)
        if known["owner"] != owner:
            raise SetupError(f"meter {meter.meter_id} belongs to {known['owner']}, not to {owner}: choose another id")
        return [approve] if known["status"] == PENDING else []

    # --- sending -----------------------------------------------------------------------------------------------

    def _send(self, groups: Sequence[Group]) -> None:
        packed = pack(groups, self.keys.payer)
        for start in range(0, len(packed), TRANSACTIONS_AT_ONCE):
            blockhash = self.client.blockhash().value
            part = packed[start : start + TRANSACTIONS_AT_ONCE]
            self.client.deliver([bytes(sign(g.instructions, self.keys.payer, g.signers, blockhash)) for g in part])
        self.transactions += len(packed)


def _same(stored: dict[str, int], wanted: ChainMandate) -> bool:
    chain_values = (stored["sell_min"], stored["buy_max"], stored["max_wh"], stored["end_epoch"], stored["buy_back"])
    asked = msgspec.structs.astuple(wanted)
    return chain_values == (*asked[:4], int(asked[4]))
