"""`gridtokenx market clear --charges` with versions: the one in force for the book's epoch, and what is refused."""

from __future__ import annotations

import json

import pytest

from gridtokenx_pipelines.config import ConfigError
from tests.unit.market_cli.clearing_files import THB, Run, order, write_book

BOOK = [
    order("bid", "buy", 1_000, 4 * THB, wallet="ann"),
    order("ask", "sell", 1_000, 2 * THB, wallet="bob"),
    order("dear", "sell", 500, 3 * THB, wallet="cid"),
]
VERSIONS = [
    {"effective_epoch": 100},
    {"effective_epoch": 200, "fee_bp": 100, "vat_bp": 700},
    {"effective_epoch": 300, "fee_bp": 200, "vat_bp": 700, "zone_wheeling_uthb_per_kwh": {"1": 50_000}},
]


def charges_file(folder, document):
    path = folder / "charges.json"
    path.write_text(json.dumps(document))
    return path


def sums(document) -> tuple[int, int, int, int]:
    rows = document["charges"]
    names = ("zone_wheeling_uthb", "fee_uthb", "vat_wheeling_uthb", "vat_fee_uthb")
    return tuple(sum(row[name] for row in rows) for name in names)


def test_each_book_of_a_file_is_charged_by_the_version_of_its_own_epoch(tmp_path):
    books = tmp_path / "books.jsonl"
    epochs = [199, 200, "1970-01-04T03:00Z", 50, None]
    lines = [{"book_id": n} | ({} if at is None else {"epoch": at}) | {"orders": BOOK} for n, at in enumerate(epochs)]
    books.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = Run("clear", books, "--json", "--charges", charges_file(tmp_path, VERSIONS))
    # midpoints of the last accepted offer and the first rejected one, net: 2.00…3.00, 2.020203…3.030304, …
    assert [(row["price_uthb_per_kwh"], sums(row)) for row in run.lines[:3]] == [
        (2_500_000, (0, 0, 0, 0)),
        (2_520_000, (0, 25_200, 0, 25_200 * 700 // 10_700)),
        (2_550_000, (50_000, 51_000, 50_000 * 700 // 10_700, 51_000 * 700 // 10_700)),
    ]
    assert run.code == 1
    assert run.lines[3] == {
        "book_id": 3,
        "error": "epoch was '1970-01-01T12:30Z', must be 1970-01-02T01:00Z or later, when the first version takes "
        "effect; add the version that was in force then",
    }
    assert run.lines[4]["error"].startswith("book had no epoch, must have one where charges have versions")


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_a_book_that_names_no_epoch_takes_that_of_the_option(tmp_path, suffix):
    book, charges = write_book(tmp_path, BOOK, suffix), charges_file(tmp_path, VERSIONS)
    run = Run("clear", book, "--json", "--charges", charges, "--epoch", "1970-01-03T02:00Z")
    assert (run.code, sums(run.json)[1]) == (0, 25_200)


def test_one_document_still_holds_for_every_epoch(tmp_path):
    charges = charges_file(tmp_path, {"fee_bp": 100})
    plain = Run("clear", write_book(tmp_path, BOOK), "--json", "--charges", charges).out
    assert Run("clear", write_book(tmp_path, BOOK), "--json", "--charges", charges, "--epoch", "7").out == plain


def test_a_link_is_charged_by_the_version_in_force(tmp_path):
    net = tmp_path / "net.json"
    link = {"link_id": 4, "from_zone": 1, "to_zone": 2, "capacity_forward_wh": 900, "capacity_backward_wh": 0}
    net.write_text(json.dumps({"zones": [{"zone_id": 1}, {"zone_id": 2}], "links": [link]}))
    book = write_book(
        tmp_path,
        [
            order("b", "buy", 900, 5 * THB, wallet="ann", zone_id=2),
            order("s", "sell", 900, 3 * THB, wallet="bob", zone_id=1),
        ],
    )
    versions = [{"effective_epoch": 0}, {"effective_epoch": 9, "link_wheeling_uthb_per_kwh": {"4": 100_000}}]
    charges = charges_file(tmp_path, versions)
    found = [
        Run("clear", book, "--network", net, "--json", "--charges", charges, "--epoch", epoch).json["flows"][0]
        for epoch in (8, 9)
    ]
    assert [(flow["sent_wh"], flow["wheeling_uthb"]) for flow in found] == [(900, 0), (900, 90_000)]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "versions of {path} was [], must be at least one"),
        ([{"fee_bp": 1}], "missing required field `effective_epoch`"),
        (
            [{"effective_epoch": 1}, {"effective_epoch": 1}],
            "effective_epoch of version 2 of {path} was 1, must be",
        ),
        ([{"effective_epoch": 2}, {"effective_epoch": 1}], "must be after 2, that of version 1; put the versions in"),
        ([{"effective_epoch": 1, "end_epoch": 3}, {"effective_epoch": 4}], "(gap)"),
        ([{"effective_epoch": 1, "end_epoch": 5}, {"effective_epoch": 4}], "(overlap)"),
        ([{"effective_epoch": 1}, {"effective_epoch": 4, "fee_bp": 10_000}], "fee_bp of version 2 of {path} was 10000"),
        ([{"effective_epoch": 1, "feed_in_uthb_per_kwh": -1}], "feed_in_uthb_per_kwh of version 1"),
        ([{"effective_epoch": 1, "link_wheeling_uthb_per_kwh": {"1": 1}}], "a link of the network (none given)"),
        ([{"effective_epoch": 1, "fee_bp": 1.5}], "a file of charges in JSON"),
        ({"fee_bp": 1, "effective_epoch": 1}, "unknown field `effective_epoch`"),
    ],
)
def test_versions_that_cannot_be_stop_the_command(tmp_path, document, words):
    charges = charges_file(tmp_path, document)
    with pytest.raises(ConfigError) as error:
        Run("clear", write_book(tmp_path, BOOK), "--charges", charges, "--epoch", "4")
    assert words.format(path=charges) in str(error.value)


@pytest.mark.parametrize("epoch", ["noon", "2026-01-27T12:01Z", "-1", "99999999999"])
def test_an_epoch_that_is_none_stops_the_command(tmp_path, epoch):
    with pytest.raises(ConfigError, match="--epoch was"):
        Run("clear", write_book(tmp_path, BOOK), "--epoch", epoch)


def test_a_book_whose_epoch_is_none_is_refused_alone(tmp_path):
    books = tmp_path / "books.jsonl"
    lines = [{"epoch": epoch, "orders": BOOK} for epoch in (True, 1.5, "noon", -1, 7)]
    books.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = Run("clear", books, "--json")
    assert ["epoch was" in line.get("error", "") for line in run.lines] == [True, True, True, True, False]
