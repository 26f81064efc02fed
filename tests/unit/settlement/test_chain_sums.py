"""The chain's side of the laws: each term that is off breaks the laws that speak of it, and no other."""

from __future__ import annotations

import msgspec

from gridtokenx_pipelines.settlement.laws import laws_from_sums, sums_from_chain


def test_chain_sums_name_every_law_that_does_not_close():
    names = ("minted", "burned", "net", "traded", "lost", "residual", "withdrawn_grid", "deposited_grid")
    market = dict.fromkeys([f"{name}_wh" for name in names], 0) | dict.fromkeys(
        [
            *("cost_uthb", "proceeds_uthb", "fee_uthb", "zone_wheeling_uthb", "link_wheeling_uthb", "rent_uthb"),
            *("billed_uthb", "returned_uthb", "refund_uthb", "paid_uthb", "debt_repaid_uthb", "buy_back_uthb"),
            *(
                "deposited_uthb",
                "withdrawn_uthb",
                "funded_uthb",
                "supplier_thbc_uthb",
                "platform_thbc_uthb",
                "grid_operator_thbc_uthb",
                "supplier_grid_wh",
            ),
        ],
        0,
    )
    parts = {
        "market": market,
        "traders": {"grid_wh": 0, "thbc_uthb": 0, "debt_uthb": 0},
        "meters": {"minted_wh": 0, "deficit_wh": 0, "production_wh": 0, "consumption_wh": 0, "not_closing": 0},
        "vaults": {"grid_wh": 0, "thbc_uthb": 0},
    }
    assert [law.difference for law in laws_from_sums(sums_from_chain(**parts))] == [0] * 11

    def broken(part: str, name: str) -> list[str]:
        changed = {**parts, part: {**parts[part], name: 1}}
        return [law.law.split()[0] for law in laws_from_sums(sums_from_chain(**changed)) if law.difference]

    assert broken("traders", "grid_wh") == ["1", "8"]
    assert broken("market", "withdrawn_grid_wh") == ["1", "8"]
    assert broken("market", "deposited_grid_wh") == ["1"]
    assert broken("meters", "minted_wh") == ["1", "2", "9"]
    assert broken("market", "lost_wh") == ["3", "4"]
    assert broken("market", "cost_uthb") == ["5"]
    assert broken("traders", "debt_uthb") == ["6"]
    assert broken("market", "buy_back_uthb") == ["7"]
    assert broken("market", "supplier_thbc_uthb") == ["7", "8"]
    # what nobody deposited is a stranger's own transfer, counted apart; what is lacking breaks the law
    assert broken("vaults", "thbc_uthb") == broken("vaults", "grid_wh") == []
    assert broken("traders", "thbc_uthb") == ["8"]
    assert broken("meters", "not_closing") == ["9"]
    assert laws_from_sums(sums_from_chain(**parts))[0].law == "1 minted − burned = GRID held"
    assert msgspec.to_builtins(laws_from_sums(sums_from_chain(**parts))[2]) == {
        "law": "3 Σ traded = −lost",
        "left": 0,
        "right": 0,
    }
