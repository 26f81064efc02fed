"""One suite on both chains: what the local chain answers is what a validator answers."""

from __future__ import annotations

import base64
import itertools

import msgspec
import pytest
from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import CreateAccountParams, TransferParams, create_account, transfer
from solders.transaction import VersionedTransaction

from gridtokenx_pipelines.chain import lookup
from gridtokenx_pipelines.chain.addresses import SYSTEM_PROGRAM, TOKEN_2022
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.errors import ChainError
from gridtokenx_pipelines.chain.signer import KeypairSigner
from gridtokenx_pipelines.chain.transactions import sign

SOL = 10**9
UNIQUE = itertools.count(1)


@pytest.fixture(scope="module", params=["localnet", pytest.param("validator", marks=pytest.mark.validator)])
def chain(request: pytest.FixtureRequest) -> ChainClient:
    return request.getfixturevalue(f"{request.param}_client")


@pytest.fixture(scope="module")
def payer(chain: ChainClient) -> KeypairSigner:
    signer = KeypairSigner(Keypair())
    chain.airdrop(signer.pubkey, 100 * SOL)
    return signer


def pay(payer: KeypairSigner, to: Pubkey, lamports: int = SOL) -> list[Instruction]:
    move = transfer(TransferParams(from_pubkey=payer.pubkey, to_pubkey=to, lamports=lamports))
    return [set_compute_unit_limit(10_000 + next(UNIQUE)), move]


def padded(payer: KeypairSigner, size: int) -> Instruction:
    """A transfer with as many bytes behind its data; the system program leaves them alone."""
    move = pay(payer, payer.pubkey, next(UNIQUE))[1]
    return Instruction(SYSTEM_PROGRAM, bytes(move.data) + bytes(size), move.accounts)


def raw_send(chain: ChainClient, raw: bytes, **config: object) -> ChainError | str:
    try:
        return chain.call("sendTransaction", base64.b64encode(raw).decode(), {"encoding": "base64", **config})
    except ChainError as error:
        return error


def test_an_airdrop_arrives_and_is_confirmed(chain: ChainClient) -> None:
    address = Pubkey.new_unique()
    fresh = Keypair().pubkey()
    chain.airdrop(fresh, 3 * SOL)
    assert (chain.balance(fresh), chain.balance(address)) == (3 * SOL, 0)


def test_a_transfer_moves_lamports_and_leaves_a_record(chain: ChainClient, payer: KeypairSigner) -> None:
    to = Keypair().pubkey()
    before = chain.balance(payer.pubkey)
    signature = chain.send_and_confirm(pay(payer, to), payer)
    assert (chain.balance(to), before - chain.balance(payer.pubkey)) == (SOL, SOL + 5_000)
    [info] = chain.transactions([signature])
    assert info is not None
    assert (info.err, info.fee_lamports, info.compute_units) == (None, 5_000, 300)
    assert info.logs[-1] == f"Program {SYSTEM_PROGRAM} success"


def test_solana_py_reads_what_the_chain_writes(chain: ChainClient, payer: KeypairSigner) -> None:
    import asyncio  # noqa: PLC0415

    from solana.rpc.async_api import AsyncClient  # noqa: PLC0415

    signature = chain.send_and_confirm(pay(payer, Keypair().pubkey()), payer)

    async def read() -> tuple[object, ...]:
        async with AsyncClient(chain.rpc_url) as client:
            transaction = await client.get_transaction(
                Signature.from_string(signature), commitment="confirmed", max_supported_transaction_version=0
            )
            status = await client.get_signature_statuses([Signature.from_string(signature)])
            account = await client.get_account_info(payer.pubkey, commitment="confirmed")
            blockhash = await client.get_latest_blockhash()
            version = await client.get_version()
            epoch = await client.get_epoch_info()
            return transaction.value, status.value[0], account.value, blockhash.value, version.value, epoch.value

    transaction, status, account, blockhash, version, epoch = asyncio.run(read())
    assert transaction.transaction.meta.fee == 5_000  # type: ignore[attr-defined]
    assert status.err is None  # type: ignore[attr-defined]
    assert account.owner == SYSTEM_PROGRAM  # type: ignore[attr-defined]
    assert blockhash.last_valid_block_height > 0  # type: ignore[attr-defined]
    assert version.solana_core.startswith("3.1")  # type: ignore[attr-defined]
    assert epoch.slots_in_epoch > 0  # type: ignore[attr-defined]


def test_an_unknown_blockhash_is_refused(chain: ChainClient, payer: KeypairSigner) -> None:
    transaction = sign(pay(payer, Keypair().pubkey()), payer, (), Hash(bytes([7] * 32)))
    answer = raw_send(chain, bytes(transaction))
    assert isinstance(answer, ChainError)
    assert answer.name == "BlockhashNotFound"


def test_a_resent_transaction_was_already_processed(chain: ChainClient, payer: KeypairSigner) -> None:
    raw = bytes(sign(pay(payer, Keypair().pubkey()), payer, (), chain.blockhash().value))
    signature = raw_send(chain, raw, preflightCommitment="confirmed")
    assert isinstance(signature, str)
    chain.confirm([signature])
    again = raw_send(chain, raw, preflightCommitment="confirmed")
    assert isinstance(again, ChainError)
    assert again.name == "AlreadyProcessed"


def test_a_transaction_over_1232_bytes_is_refused(chain: ChainClient, payer: KeypairSigner) -> None:
    fitting = sign([padded(payer, 1_046)], payer, (), chain.blockhash().value)
    excess = sign([padded(payer, 1_047)], payer, (), chain.blockhash().value)
    assert (len(bytes(fitting)), len(bytes(excess))) == (1_232, 1_233)
    assert isinstance(raw_send(chain, bytes(fitting), preflightCommitment="confirmed"), str)
    answer = raw_send(chain, bytes(excess))
    assert isinstance(answer, ChainError)
    assert answer.code == -32602
    assert "too large: 1233 bytes (max: 1232 bytes)" in str(answer)


def test_a_forged_signature_is_refused(chain: ChainClient, payer: KeypairSigner) -> None:
    good = sign(pay(payer, Keypair().pubkey()), payer, (), chain.blockhash().value)
    forged = VersionedTransaction.populate(good.message, [Signature.new_unique()])
    answer = raw_send(chain, bytes(forged))
    assert isinstance(answer, ChainError)
    assert answer.name == "SignatureFailure"


def test_a_failing_program_is_named_with_its_logs(chain: ChainClient, payer: KeypairSigner) -> None:
    answer = raw_send(
        chain,
        bytes(sign(pay(payer, Keypair().pubkey(), 10**18), payer, (), chain.blockhash().value)),
        preflightCommitment="confirmed",
    )
    assert isinstance(answer, ChainError)
    assert (answer.name, answer.program) == ("Custom(1)", str(SYSTEM_PROGRAM))
    assert answer.logs[-1] == f"Program {SYSTEM_PROGRAM} failed: custom program error: 0x1"


def test_a_failing_transaction_lands_with_its_fee_when_preflight_is_skipped(
    chain: ChainClient,
) -> None:
    payer = KeypairSigner(Keypair())
    chain.airdrop(payer.pubkey, SOL)
    transaction = sign(pay(payer, Keypair().pubkey(), 10**18), payer, (), chain.blockhash().value)
    signature = raw_send(chain, bytes(transaction), skipPreflight=True)
    assert signature == str(transaction.signatures[0])
    with pytest.raises(ChainError, match=r"Custom\(1\)"):
        chain.confirm([signature])
    assert chain.balance(payer.pubkey) == SOL - 5_000


def test_a_simulation_shows_error_logs_and_units_and_changes_nothing(chain: ChainClient, payer: KeypairSigner) -> None:
    before = chain.balance(payer.pubkey)
    good = chain.simulate(sign(pay(payer, Keypair().pubkey()), payer, (), chain.blockhash().value))
    bad = chain.simulate(sign(pay(payer, Keypair().pubkey(), 10**18), payer, (), chain.blockhash().value))
    assert (good["err"], good["unitsConsumed"], good["logs"][-1]) == (None, 300, f"Program {SYSTEM_PROGRAM} success")
    assert bad["err"] == {"InstructionError": [1, {"Custom": 1}]}
    assert bad["logs"][-1] == f"Program {SYSTEM_PROGRAM} failed: custom program error: 0x1"
    assert chain.balance(payer.pubkey) == before


def test_an_account_that_is_not_there_is_null(chain: ChainClient, payer: KeypairSigner) -> None:
    missing = Keypair().pubkey()
    there, not_there = chain.accounts([payer.pubkey, missing])
    assert there is not None
    assert (there.owner, there.data, there.executable, not_there) == (SYSTEM_PROGRAM, b"", False, None)
    token = chain.account(TOKEN_2022)
    assert token is not None
    assert token.executable


def test_a_method_that_is_not_there_answers_minus_32601(chain: ChainClient) -> None:
    with pytest.raises(ChainError) as caught:
        chain.call("getNothingAtAll")
    assert caught.value.code == -32601
    assert "Method not found" in str(caught.value)


def test_wrong_parameters_answer_minus_32602(chain: ChainClient) -> None:
    for method, params in [("getBalance", ["no address"]), ("getAccountInfo", [7]), ("getSlot", [3])]:
        with pytest.raises(ChainError) as caught:
            chain.call(method, *params)
        assert (method, caught.value.code) == (method, -32602)


def test_too_many_accounts_and_statuses_are_refused(chain: ChainClient) -> None:
    addresses = [str(Pubkey.new_unique()) for _ in range(101)]
    signatures = [str(Signature.new_unique()) for _ in range(257)]
    for method, values in [("getMultipleAccounts", addresses), ("getSignatureStatuses", signatures)]:
        with pytest.raises(ChainError, match="Too many inputs provided"):
            chain.call(method, values)


def test_a_batch_is_answered_in_one_request(chain: ChainClient) -> None:
    results = chain.call_many("getBalance", [[str(Pubkey.default())], ["bad"], [str(TOKEN_2022)]])
    assert results[0]["value"] > 0
    assert results[1].error["code"] == -32602
    assert results[2]["value"] > 0


def test_program_accounts_are_filtered_by_size_and_bytes(chain: ChainClient, payer: KeypairSigner) -> None:
    made = [Keypair() for _ in range(3)]
    owner = Keypair().pubkey()
    rent = chain.call("getMinimumBalanceForRentExemption", 20)
    for number, keypair in enumerate(made):
        create = create_account(
            CreateAccountParams(
                from_pubkey=payer.pubkey, to_pubkey=keypair.pubkey(), lamports=2 * rent, space=20 - number, owner=owner
            )
        )
        chain.send_and_confirm([create], payer, [KeypairSigner(keypair)])
    found = chain.program_accounts(owner, [{"dataSize": 19}])
    assert [(account.address, account.data) for account in found] == [(made[1].pubkey(), bytes(19))]
    zeros = chain.program_accounts(owner, [{"memcmp": {"offset": 18, "bytes": "11"}}])
    assert [account.address for account in zeros] == [made[0].pubkey()]
    assert chain.program_accounts(owner, [{"memcmp": {"offset": 0, "bytes": "2"}}]) == []
    assert len(chain.program_accounts(owner)) == 3


def test_a_lookup_table_makes_sixty_accounts_fit(chain: ChainClient, payer: KeypairSigner) -> None:
    addresses = [Pubkey(bytes([number + 1] * 32)) for number in range(50)]
    tables = lookup.ensure(chain, payer, addresses)
    assert all(address in tables for address in addresses)
    watched = transfer(TransferParams(from_pubkey=payer.pubkey, to_pubkey=addresses[0], lamports=SOL))
    watched = Instruction(
        watched.program_id, watched.data, [*watched.accounts, *(AccountMeta(a, False, True) for a in addresses[1:])]
    )
    chosen = tables.tables_for(addresses)
    transaction = sign([watched], payer, (), chain.blockhash().value, chosen)
    assert len(bytes(transaction)) < 400
    before = chain.balance(addresses[0])
    signature = chain.send_and_confirm([watched], payer, (), chosen)
    assert chain.balance(addresses[0]) - before == SOL
    loaded = chain.call("getTransaction", signature, {"maxSupportedTransactionVersion": 0, "commitment": "confirmed"})[
        "meta"
    ]["loadedAddresses"]
    assert loaded["writable"] == [str(address) for address in addresses]
    again = lookup.ensure(chain, payer, addresses)
    assert [table.key for table in again.tables] == [table.key for table in tables.tables]


def test_a_lookup_table_that_is_not_there_is_refused(chain: ChainClient, payer: KeypairSigner) -> None:
    from solders.address_lookup_table_account import AddressLookupTableAccount  # noqa: PLC0415

    ghost = AddressLookupTableAccount(Keypair().pubkey(), [Keypair().pubkey() for _ in range(3)])
    watched = Instruction(
        SYSTEM_PROGRAM,
        transfer(TransferParams(from_pubkey=payer.pubkey, to_pubkey=payer.pubkey, lamports=1)).data,
        [AccountMeta(payer.pubkey, True, True), *(AccountMeta(a, False, True) for a in ghost.addresses)],
    )
    answer = raw_send(chain, bytes(sign([watched], payer, (), chain.blockhash().value, [ghost])))
    assert isinstance(answer, ChainError)
    assert "address table account that doesn't exist" in str(answer)


@pytest.mark.parametrize("extra", [0, 1])
def test_transactions_over_the_lock_limit_are_refused(chain: ChainClient, payer: KeypairSigner, extra: int) -> None:
    # a test validator starts with every feature active, and so with the limit that mainnet-beta does not have yet
    limit = 64 if "localnet" in chain.call("getVersion")["solana-core"] else 128
    addresses = [Pubkey(bytes([1, *([number + 1] * 31)])) for number in range(limit - 1)]
    tables = lookup.ensure(chain, payer, addresses)
    move = pay(payer, payer.pubkey, next(UNIQUE))[1]
    others = [AccountMeta(address, False, False) for address in addresses[: limit - 2 + extra]]
    locking = Instruction(SYSTEM_PROGRAM, bytes(move.data), [*move.accounts, *others])
    chosen = tables.tables_for(addresses)
    transaction = sign([locking], payer, (), chain.blockhash().value, chosen)
    answer = raw_send(chain, bytes(transaction), preflightCommitment="confirmed")
    if extra:
        assert isinstance(answer, ChainError)
        assert answer.name == "TooManyAccountLocks"
    else:
        assert answer == str(transaction.signatures[0])


def test_slots_advance_and_blockhashes_stay_valid(chain: ChainClient) -> None:
    first = chain.slot()
    blockhash = chain.blockhash().value
    while chain.slot() < first + 3:
        pass
    valid = chain.call("isBlockhashValid", str(blockhash), {"commitment": "confirmed"})["value"]
    stale = chain.call("isBlockhashValid", str(Hash(bytes([9] * 32))), {"commitment": "confirmed"})["value"]
    assert (valid, stale) == (True, False)
    assert chain.slot("finalized") <= chain.slot("confirmed")


def test_signatures_of_an_address_come_newest_first(chain: ChainClient, payer: KeypairSigner) -> None:
    to = Keypair().pubkey()
    sent = [chain.send_and_confirm(pay(payer, to), payer) for _ in range(3)]
    rows = chain.call("getSignaturesForAddress", str(to), {"commitment": "confirmed"})
    assert [row["signature"] for row in rows] == sent[::-1]
    assert [row["err"] for row in rows] == [None] * 3
    older = chain.call("getSignaturesForAddress", str(to), {"before": sent[1], "limit": 5, "commitment": "confirmed"})
    assert [row["signature"] for row in older] == sent[:1]


def test_a_websocket_tells_when_a_signature_lands(chain: ChainClient, payer: KeypairSigner) -> None:
    import asyncio  # noqa: PLC0415

    from websockets.asyncio.client import connect  # noqa: PLC0415

    transaction = sign(pay(payer, Keypair().pubkey()), payer, (), chain.blockhash().value)
    host, port = chain.rpc_url.removeprefix("http://").split(":")

    async def watch() -> dict[str, object]:
        async with connect(f"ws://{host}:{int(port) + 1}/") as socket:
            request = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "signatureSubscribe",
                "params": [str(transaction.signatures[0]), {"commitment": "confirmed"}],
            }
            await socket.send(msgspec.json.encode(request).decode())
            subscribed = msgspec.json.decode(await socket.recv())
            assert isinstance(subscribed["result"], int)
            await asyncio.to_thread(raw_send, chain, bytes(transaction), preflightCommitment="confirmed")
            async with asyncio.timeout(20):
                return msgspec.json.decode(await socket.recv())

    told = asyncio.run(watch())
    assert told["method"] == "signatureNotification"
    assert told["params"]["result"]["value"] == {"err": None}  # type: ignore[index]
