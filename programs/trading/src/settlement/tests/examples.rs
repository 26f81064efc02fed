//! Worked examples of an entry, and every refusal by its own error.

use common::{
    quantities::{MicroThb, PriceUthb, Wh},
    state::trading::{RunSums, Slot, Trader, BALANCE_LIMIT, SIDE_BUY, SIDE_SELL, SLOT_PLACED},
    Error,
};

use super::{
    super::{
        initial::settle,
        late::settle_late,
        resettlement::{self, resettle, Rates, DEFICIT_IS_PRIOR},
    },
    balances, late, late_terms, mandate, slot, terms, trader, zones, EPOCH, SEQ,
};

#[test]
fn a_purchase_pays_energy_and_wheeling_rounded_up_once_and_burns_for_the_deficit() {
    let table = zones(3_333_333, 250_001);
    let mut t = Trader {
        thbc_uthb: MicroThb(10_000_000),
        current: mandate(0, 4_000_000, 1_000, 0),
        ..trader()
    };
    let mut sums = RunSums::default();
    settle(&mut t, -1_001, 777, &terms(&table), &mut sums).unwrap();
    // cost ⌈777 × 3 583 334 / 1000⌉ = 2 784 251; energy ⌊777 × 3 333 333 / 1000⌋ = 2 589 999; residual 224 Wh at 4.10 = 918 400
    assert_eq!(balances(&t), (0, 10_000_000 - 2_784_251 - 918_400, 0));
    assert_eq!(t.last_seq, SEQ);
    assert_eq!(
        sums,
        RunSums {
            drawn_wh: Wh(1_001),
            bought_wh: Wh(777),
            cost_uthb: MicroThb(2_784_251),
            zone_wheeling_uthb: MicroThb(194_252),
            residual_wh: Wh(224),
            billed_uthb: MicroThb(918_400),
            paid_uthb: MicroThb(918_400),
            ..RunSums::default()
        }
    );
}

#[test]
fn a_sale_pays_debt_first_and_the_unsold_rest_is_bought_back() {
    let table = zones(3_000_001, 0);
    let mut t = Trader {
        debt_uthb: MicroThb(1_000_000),
        current: mandate(2_500_000, 0, 1_000, 1),
        ..trader()
    };
    let mut sums = RunSums::default();
    settle(&mut t, 999, -333, &terms(&table), &mut sums).unwrap();
    // value ⌊333 × 3 000 001 / 1000⌋ = 999 000, fee 9 990, proceeds 989 010; buy-back ⌊666 × 2.2⌋ = 1 465 200
    assert_eq!(balances(&t), (0, 989_010 + 1_465_200 - 1_000_000, 0));
    assert_eq!(
        (sums.proceeds_uthb, sums.fee_uthb),
        (MicroThb(989_010), MicroThb(9_990))
    );
    assert_eq!(sums.debt_repaid_uthb, MicroThb(1_000_000));
    assert_eq!(
        (sums.bought_back_wh, sums.buy_back_uthb),
        (Wh(666), MicroThb(1_465_200))
    );
}

#[test]
fn a_sale_limit_holds_exactly_after_the_fee_and_not_one_wh_more() {
    let table = zones(3_030_304, 0);
    for (limit, fits) in [(3_000_001, true), (3_000_002, false)] {
        // 1000 Wh: value 3 030 304, fee 30 303, proceeds 3 000 001 µTHB: limit × 1000 ≤ 1000 × 3 000 001
        let mut t = Trader {
            current: mandate(limit, 0, 1_000, 0),
            ..trader()
        };
        let outcome = settle(&mut t, 1_000, -1_000, &terms(&table), &mut RunSums::default());
        assert_eq!(outcome, if fits { Ok(()) } else { Err(Error::OutsideLimits) });
    }
    let mut t = Trader {
        current: mandate(2_000_000, 0, 999, 0),
        ..trader()
    };
    assert_eq!(
        settle(&mut t, 1_000, -1_000, &terms(&table), &mut RunSums::default()),
        Err(Error::OutsideLimits)
    );
}

#[test]
fn every_refusal_of_an_entry_has_its_own_error() {
    let table = zones(3_000_000, 100_000);
    let x = terms(&table);
    let rich = Trader {
        thbc_uthb: MicroThb(10_000_000),
        grid_wh: Wh(10),
        ..trader()
    };
    // net energy on the side of the trade, as much as is traded
    let run = |mut t: Trader, traded: i32| settle(&mut t, -traded as i64, traded as i64, &x, &mut RunSums::default());
    assert_eq!(run(Trader { last_seq: SEQ, ..rich }, 0), Err(Error::DuplicateEntry));
    assert_eq!(run(Trader { zone: 2, ..rich }, 1), Err(Error::NoPrice));
    assert_eq!(run(rich, 1), Err(Error::OutsideLimits));
    assert_eq!(
        run(
            Trader {
                current: mandate(0, 3_099_999, 9, 0),
                ..rich
            },
            1
        ),
        Err(Error::OutsideLimits)
    );
    assert_eq!(
        run(
            Trader {
                current: mandate(0, 3_100_000, 9, 0),
                thbc_uthb: MicroThb(3_099),
                ..rich
            },
            1
        ),
        Err(Error::InsufficientThbc)
    );
    assert_eq!(run(rich, -1), Err(Error::OutsideLimits));
    let mut promised = rich;
    promised.slots[0] = slot(SIDE_SELL, 2_000_000, 99);
    assert_eq!(
        settle(&mut promised, 0, -11, &x, &mut RunSums::default()),
        Err(Error::InsufficientGrid)
    );
    let full = Trader {
        current: mandate(2_000_000, 0, 99, 0),
        thbc_uthb: MicroThb(BALANCE_LIMIT - 1),
        ..rich
    };
    assert_eq!(run(full, -10), Err(Error::BalanceOverflow));
}

#[test]
fn mandate_and_recorded_orders_add_up_and_slots_of_another_epoch_or_side_do_not_count() {
    let table = zones(3_000_000, 0);
    let mut t = Trader {
        thbc_uthb: MicroThb(10_000_000),
        current: mandate(0, 3_000_000, 10, 0),
        ..trader()
    };
    t.slots[0] = slot(SIDE_BUY, 3_000_000, 20);
    t.slots[7] = slot(SIDE_BUY, 8_000_000, 30);
    // placed on chain: the book may have dropped it, so it takes nothing from the mandate
    let placed = |side, limit| Slot {
        used: SLOT_PLACED,
        ..slot(side, limit, 1_000)
    };
    t.slots[1] = placed(SIDE_BUY, 2_990_000);
    t.slots[2] = placed(SIDE_SELL, 8_000_000);
    t.slots[3] = Slot {
        epoch: EPOCH + 1,
        ..slot(SIDE_BUY, 8_000_000, 1_000)
    };
    t.slots[4] = Slot {
        used: 0,
        ..slot(SIDE_BUY, 8_000_000, 1_000)
    };
    let run = |mut t: Trader, net: i64, b: i32| settle(&mut t, net, b as i64, &terms(&table), &mut RunSums::default());
    // the mandate is an order for what signed orders leave of the net energy: 10 of 60, 9 of 59, none of 50
    assert_eq!(run(t, -60, 60), Ok(()));
    assert_eq!(run(t, -99, 60), Ok(()));
    assert_eq!(run(t, -99, 61), Err(Error::OutsideLimits));
    assert_eq!(run(t, -59, 59), Ok(()));
    assert_eq!(run(t, -59, 60), Err(Error::OutsideLimits));
    assert_eq!(run(t, -50, 51), Err(Error::OutsideLimits));
    assert_eq!(run(t, 5, 50), Ok(()));
    assert_eq!(run(t, 5, 51), Err(Error::OutsideLimits));
    t.slots[6] = slot(SIDE_SELL, 8_000_000, 1);
    assert_eq!(run(t, -99, 51), Err(Error::OutsideLimits));
}

#[test]
fn a_mandate_sells_no_more_than_the_surplus() {
    let table = zones(3_000_000, 0);
    let t = Trader {
        grid_wh: Wh(1_000),
        current: mandate(2_000_000, 8_000_000, 500, 0),
        ..trader()
    };
    let run = |mut t: Trader, net: i64, b: i64| settle(&mut t, net, b, &terms(&table), &mut RunSums::default());
    assert_eq!(run(t, 40, -40), Ok(()));
    assert_eq!(run(t, 40, -41), Err(Error::OutsideLimits));
    assert_eq!(run(t, -40, -1), Err(Error::OutsideLimits));
    assert_eq!(run(t, 600, -501), Err(Error::OutsideLimits));
}

#[test]
fn a_late_deficit_burns_for_the_dearest_class_first_and_bills_each_class_rounded_up() {
    let x = late_terms(4_100_001, 2_580_001);
    let mut t = Trader {
        grid_wh: Wh(50),
        thbc_uthb: MicroThb(100_000),
        ..trader()
    };
    let mut sums = RunSums::default();
    settle_late(&mut t, &late(50, 150, 25), &x, &mut sums).unwrap();
    // 100 Wh burned for on-peak; residual 50 on-peak ⌈205 000.05⌉ and 25 off-peak ⌈64 500.025⌉
    assert_eq!(balances(&t), (0, 0, 205_001 + 64_501 - 100_000));
    assert_eq!(
        (sums.credited_wh, sums.drawn_wh, sums.residual_wh),
        (Wh(50), Wh(175), Wh(75))
    );
    assert_eq!(
        (sums.billed_uthb, sums.paid_uthb),
        (MicroThb(269_502), MicroThb(100_000))
    );
    let dearer_off_peak = late_terms(1_000_000, 2_000_000);
    let mut t = Trader {
        grid_wh: Wh(100),
        ..trader()
    };
    settle_late(&mut t, &late(0, 150, 100), &dearer_off_peak, &mut RunSums::default()).unwrap();
    assert_eq!(balances(&t), (0, 0, 150_000));
}

#[test]
fn a_resettlement_refunds_at_the_deficit_epoch_and_bills_at_the_surplus_epoch() {
    let x = resettlement::Terms {
        seq: SEQ,
        epoch: Rates {
            tariff: PriceUthb(4_100_001),
            feed_in: PriceUthb(2_200_001),
        },
        prior: Rates {
            tariff: PriceUthb(2_580_001),
            feed_in: PriceUthb(2_100_001),
        },
    };
    let entry = resettlement::Entry {
        minted_and_burned_wh: 40,
        refund_wh: 100,
        taken_back_wh: 30,
        returned_wh: 50,
        billed_wh: 20,
    };
    // deficit in `epoch`: refund ⌊410 000.1⌋; surplus in `prior`: returned ⌈105 000.05⌉, billed ⌈51 600.02⌉
    let mut t = Trader {
        grid_wh: Wh(30),
        debt_uthb: MicroThb(400_000),
        ..trader()
    };
    let mut sums = RunSums::default();
    resettle(&mut t, &entry, &x, &mut sums).unwrap();
    assert_eq!(balances(&t), (0, 0, 105_001 + 51_601 - 10_000));
    assert_eq!(
        sums,
        RunSums {
            residual_wh: Wh(20),
            billed_uthb: MicroThb(51_601),
            paid_uthb: MicroThb(10_000),
            debt_repaid_uthb: MicroThb(400_000),
            minted_and_burned_wh: Wh(40),
            refund_wh: Wh(100),
            refund_uthb: MicroThb(410_000),
            taken_back_wh: Wh(30),
            returned_wh: Wh(50),
            returned_uthb: MicroThb(105_001),
            debt_incurred_uthb: MicroThb(146_602),
            ..RunSums::default()
        }
    );
    // deficit in `prior`: refund ⌊258 000.1⌋; surplus in `epoch`: returned ⌈110 000.05⌉, billed ⌈82 000.02⌉
    let mut t = Trader {
        grid_wh: Wh(30),
        ..trader()
    };
    let prior = resettlement::Entry {
        refund_wh: entry.refund_wh | DEFICIT_IS_PRIOR,
        ..entry
    };
    resettle(&mut t, &prior, &x, &mut RunSums::default()).unwrap();
    assert_eq!(balances(&t), (0, 258_000 - 110_001 - 82_001, 0));
}

#[test]
fn a_resettlement_entry_that_does_not_close_is_refused_and_what_cannot_be_taken_back_is_billed() {
    let rates = Rates {
        tariff: PriceUthb(4_000_000),
        feed_in: PriceUthb(2_000_000),
    };
    let x = resettlement::Terms {
        seq: SEQ,
        epoch: rates,
        prior: rates,
    };
    let entry = resettlement::Entry {
        minted_and_burned_wh: 0,
        refund_wh: 10,
        taken_back_wh: 5,
        returned_wh: 3,
        billed_wh: 2,
    };
    let run = |mut t: Trader, entry: resettlement::Entry| resettle(&mut t, &entry, &x, &mut RunSums::default());
    let holder = Trader {
        grid_wh: Wh(5),
        ..trader()
    };
    assert_eq!(run(holder, entry), Ok(()));
    assert_eq!(
        run(holder, resettlement::Entry { refund_wh: 11, ..entry }),
        Err(Error::RefundNotClosed)
    );
    assert_eq!(
        run(holder, resettlement::Entry { billed_wh: 3, ..entry }),
        Err(Error::RefundNotClosed)
    );
    let mut moved = Trader {
        grid_wh: Wh(4),
        thbc_uthb: MicroThb(1_000_000),
        ..holder
    };
    let mut sums = RunSums::default();
    assert_eq!(resettle(&mut moved, &entry, &x, &mut sums), Ok(()));
    // 10 refunded at 4.00, 4 taken, 3 returned at 2.00, 2 + 1 billed at 4.00
    assert_eq!(balances(&moved), (0, 1_000_000 + 40_000 - 6_000 - 12_000, 0));
    assert_eq!(
        (sums.refund_wh, sums.taken_back_wh, sums.residual_wh),
        (Wh(10), Wh(4), Wh(3))
    );
    assert_eq!(
        run(
            Trader {
                last_seq: SEQ,
                ..holder
            },
            entry
        ),
        Err(Error::DuplicateEntry)
    );
}
