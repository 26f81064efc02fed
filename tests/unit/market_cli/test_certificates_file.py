"""`gridtokenx market clear --certificates`: the extra key whole, and files that can't be."""

from __future__ import annotations

import json

import pytest

from gridtokenx_pipelines.config import ConfigError
from tests.unit.market_cli.clearing_files import THB, Run, order, write_book

BOOK = [
    order("s1", "sell", 1_000, 2 * THB, wallet="ann", certificate_id="c1"),
    order("s2", "sell", 500, 3 * THB, wallet="ann", certificate_id="c1"),
    order("s3", "sell", 100, 3 * THB, wallet="bob", certificate_id="c1"),
    order("b1", "buy", 700, 5 * THB, wallet="xi", certificate_id=None),
    order("b2", "buy", 500, 4 * THB, wallet="yu", certificate_id=None),
]
CERTIFICATE = {"certificate_id": "c1", "wallet": "ann", "unclaimed_wh": 1_100, "expires_at": "2027-01-27T12:00:00Z"}


def certificates_file(folder, document):
    path = folder / "certificates.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_certificates_are_locked_and_passed_on_and_change_no_trade(tmp_path, suffix):
    book = write_book(tmp_path, BOOK, suffix)
    plain = Run("clear", book, "--json").json
    assert "certificates" not in plain
    run = Run("clear", book, "--json", "--certificates", certificates_file(tmp_path, [CERTIFICATE]))
    found = run.json
    assert run.code == 0
    assert found.pop("certificates") == {
        "locked": [
            {"order_id": "s1", "certificate_id": "c1", "locked_wh": 1_000},
            {"order_id": "s2", "certificate_id": "c1", "locked_wh": 100},
        ],
        "unbacked": [{"order_id": "s3", "certificate_id": "c1", "reason_code": 4, "reason": "foreign"}],
        "passed": [
            {
                "certificate_id": "c1",
                "sell_order_id": "s1",
                "buy_order_id": buy,
                "seller": "ann",
                "buyer": buyer,
                "energy_wh": wh,
            }
            for buy, buyer, wh in (("b1", "xi", 700), ("b2", "yu", 300))
        ]
        + [
            {
                "certificate_id": "c1",
                "sell_order_id": "s2",
                "buy_order_id": "b2",
                "seller": "ann",
                "buyer": "yu",
                "energy_wh": 100,
            }
        ],
        "unclaimed": [{"certificate_id": "c1", "unclaimed_wh": 0}],
    }
    assert found == plain


def test_a_certificate_must_last_beyond_the_end_of_the_books_epoch(tmp_path):
    ends = certificates_file(tmp_path, [CERTIFICATE | {"expires_at": "2026-01-27T12:15:00Z"}])
    book = write_book(tmp_path, BOOK)
    reasons = [
        [
            row["reason"]
            for row in Run("clear", book, "--json", "--certificates", ends, "--epoch", key).json["certificates"][
                "unbacked"
            ]
        ]
        for key in ("2026-01-27T11:45Z", "2026-01-27T12:00Z")
    ]
    assert reasons == [["foreign"], ["expired", "expired", "foreign"]]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "a list of certificates in JSON"),
        ([CERTIFICATE, CERTIFICATE], "must be used once"),
        ([CERTIFICATE | {"unclaimed_wh": -1}], "a list of certificates in JSON"),
        ([CERTIFICATE | {"unclaimed_wh": 1.5}], "a list of certificates in JSON"),
        ([CERTIFICATE | {"expires_at": "soon"}], "expires_at of"),
        ([CERTIFICATE | {"expires_at": 10**30}], "expires_at of"),
        ([CERTIFICATE | {"status": "fine"}], "one of issued, validated, retired, revoked"),
    ],
)
def test_certificates_that_cannot_be_stop_the_command(tmp_path, document, words):
    with pytest.raises(ConfigError, match=words):
        Run("clear", write_book(tmp_path, BOOK), "--certificates", certificates_file(tmp_path, document))


def test_what_is_lost_on_a_link_passes_to_nobody_and_stays_unclaimed(tmp_path):
    network = tmp_path / "net.json"
    link = {"link_id": 1, "from_zone": 1, "to_zone": 2, "capacity_forward_wh": 5_000, "capacity_backward_wh": 0}
    zones = [{"zone_id": 1}, {"zone_id": 2}]
    network.write_text(json.dumps({"zones": zones, "links": [link | {"loss_ppm": 50_000}]}))
    sell = order("s", "sell", 1_000, 3 * THB, zone_id=1, wallet="ann", certificate_id="c1")
    book = write_book(tmp_path, [sell, order("b", "buy", 950, 5 * THB, zone_id=2, wallet="xi")])
    given = certificates_file(tmp_path, [CERTIFICATE | {"unclaimed_wh": 990}])
    found = Run("clear", book, "--network", network, "--json", "--certificates", given).json
    assert found["flows"][0]["lost_wh"] == 50
    assert found["certificates"] == {
        "locked": [{"order_id": "s", "certificate_id": "c1", "locked_wh": 990}],
        "unbacked": [],
        "passed": [
            {
                "certificate_id": "c1",
                "sell_order_id": "s",
                "buy_order_id": "b",
                "seller": "ann",
                "buyer": "xi",
                "energy_wh": 950,
            }
        ],
        "unclaimed": [{"certificate_id": "c1", "unclaimed_wh": 40}],
    }
