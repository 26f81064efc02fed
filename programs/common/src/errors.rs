//! The errors of all five programs: one numbered list, so that a code means the same whichever program returns it.
//!
//! A number never changes its meaning; new ones are appended to their range. The IDL carries name, number and text, and the
//! Python client raises them by name.

use pinocchio::error::ProgramError;

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Error { $($(#[doc = $doc])+ $name = $code,)* }

        /// (number, name, text) of every error, for the IDL.
        pub const ERRORS: &[(u32, &str, &str)] = &[$(($code, stringify!($name), concat!($($doc),+)),)*];
    };
}

errors! {
    // 6000–6099: accounts, signers and instruction data of any program
    /// The account is not owned by the program that must own it.
    WrongOwner = 6000,
    /// The account's first 8 bytes are not the discriminator of the expected type.
    WrongDiscriminator = 6001,
    /// The account's length is not that of its type.
    WrongLength = 6002,
    /// The account must be writable in this instruction.
    NotWritable = 6003,
    /// The account must sign this instruction.
    MissingSignature = 6004,
    /// The account's address is not the one that its seeds or the configuration give.
    WrongAddress = 6005,
    /// The account exists already.
    AlreadyExists = 6006,
    /// The signer lacks the right for this instruction.
    Unauthorised = 6007,
    /// The program is paused by governance.
    Paused = 6008,
    /// Instruction data is too short, too long, or a field is out of its range.
    InvalidData = 6009,
    /// The number of accounts after the named ones is not the number of entries.
    WrongAccountCount = 6010,
    /// A vector is longer than its bound, or holds the same key twice.
    InvalidKeySet = 6011,
    /// The network is not the one that the program was built for.
    WrongNetwork = 6012,
    /// Zones are numbered 1 to 63.
    InvalidZone = 6013,
    /// The amount must be above zero.
    ZeroAmount = 6014,
    /// The status does not allow this transition.
    InvalidTransition = 6015,

    // 6100–6199: attestations, batches, runs
    /// The batch's bit is set: it was applied before. Clients count this as success.
    AlreadySettled = 6100,
    /// The attestation is not final: fewer than k oracles agree on a root.
    NotFinal = 6101,
    /// Leaf and proof do not lead to the attested root.
    WrongRoot = 6102,
    /// The attestation is of another kind, epoch or run.
    WrongAttestation = 6103,
    /// The batch index lies outside the tree or the bitmap.
    BatchIndexOutOfRange = 6104,
    /// The instruction settles another kind of run than the present one.
    WrongKind = 6105,
    /// The former run is not finalised, or this run is not the one after it.
    RunOutOfOrder = 6106,
    /// The root is final: no vote can change it.
    AlreadyFinal = 6107,
    /// Metering and clearing have run 0 only, late entries and resettlements run 1 and above.
    InvalidRun = 6108,
    /// The epoch account is of another epoch.
    WrongEpoch = 6109,
    /// Fewer than k oracles of the set have reported within the staleness bound.
    StalePrice = 6110,
    /// A reported price must be above 0 and below 2²³ µTHB/kWh, demand and supply below 2⁴³ Wh.
    InvalidObservation = 6111,
    /// The reported epoch must not precede the oracle's former report, nor follow the epoch after the last that has begun.
    ObservationOutOfOrder = 6112,

    // 6200–6299: governance
    /// The threshold k must satisfy 2k > n and k ≤ n, with 1 to 16 oracles.
    InvalidThreshold = 6200,
    /// A change of parameters is pending; it must take effect first.
    ChangePending = 6201,
    /// The effective epoch must lie after the last one that has begun.
    EffectiveEpochTooEarly = 6202,
    /// A parameter lies outside its bound.
    ParameterOutOfBounds = 6203,
    /// Programs are numbered 0 to 4.
    InvalidProgram = 6204,
    /// The guardian paused this program within the last 30 days; only the authority may renew or lift the pause.
    GuardianSpent = 6205,
    /// No handover is proposed to this key.
    NoPendingAuthority = 6206,
    /// The signer is no validator, or was admitted after the proposal was made.
    NotAValidator = 6207,
    /// All 32 seats are taken, or the key is admitted already or is the zero key.
    InvalidValidator = 6208,
    /// Parameters are numbered 0 to 8.
    UnknownParameter = 6209,
    /// A proposal's id must be the number of proposals made before it.
    WrongProposalId = 6210,
    /// The voting period is over.
    VotingClosed = 6211,
    /// The voting period, or the time-lock after it, has not ended.
    TimeLocked = 6212,
    /// Fewer than two thirds of the validators voted, or yes has no majority of the votes.
    ProposalRejected = 6213,
    /// The proposal was not executed within its 14 days, or lapsed.
    ProposalExpired = 6214,
    /// The proposal was executed before.
    AlreadyExecuted = 6215,
    /// Only what a Solar or Hybrid meter produced is certified.
    NotRenewable = 6216,
    /// A certificate is over whole kWh, at least one.
    NotWholeKwh = 6217,
    /// The meter's production that no certificate claims is less than this.
    ProductionClaimed = 6218,
    /// The certificate's year is over.
    CertificateExpired = 6219,
    /// The claim would fall below zero.
    ClaimBelowZero = 6220,
    /// The effective epoch must lie at most 90 days after the last one that has begun: a change that far away blocks all others.
    EffectiveEpochTooLate = 6221,

    // 6300–6399: registry
    /// A meter id has 1 to 32 printable ASCII characters and no zero byte.
    InvalidMeterId = 6300,
    /// Type number out of range, or the rating is zero.
    InvalidMeter = 6301,
    /// The user is suspended or retired, or belongs to another wallet.
    UserNotActive = 6302,
    /// A wallet and its meters belong to one zone.
    ZoneMismatch = 6303,
    /// The meter is not active in this epoch.
    MeterNotActive = 6304,
    /// The entry's epoch does not follow the meter's last settled one.
    MeterOutOfOrder = 6305,
    /// The energy exceeds 1.1 × rating × 15 min × epochs.
    AboveRating = 6306,
    /// minted − deficit would differ from production − consumption.
    InvariantBroken = 6307,
    /// The surplus of a late entry must lie between the net and the production.
    InvalidSurplus = 6308,
    /// The correction would take minted or deficit below zero.
    CorrectionBelowZero = 6309,
    /// The meter has an entry in this resettlement run already.
    CorrectedTwice = 6310,
    /// The meter's epochs before its suspension are not all settled; settle them first, if need be by a late entry.
    MeterUnsettled = 6311,
    /// A device key must not be zero, and differ from the present one.
    InvalidDeviceKey = 6312,

    // 6400–6499: energy-token
    /// Fewer than k bridge attestors signed.
    NotEnoughAttestors = 6400,
    /// The bridge has 24 hours to confirm a redemption before its owner may take it back.
    ReclaimTooEarly = 6401,

    // 6500–6599: trading
    /// The epoch is not the last opened one plus one, or not the one after the last settled.
    EpochOutOfOrder = 6500,
    /// The epoch's status does not allow this.
    WrongStatus = 6501,
    /// The run's seq is not the market's next.
    SeqOutOfOrder = 6502,
    /// Metering of the epoch is not complete.
    MeteringIncomplete = 6503,
    /// The trader has an entry of this run already.
    DuplicateEntry = 6504,
    /// A trade outside mandate and recorded orders.
    OutsideLimits = 6505,
    /// GRID held does not cover it.
    InsufficientGrid = 6506,
    /// THBC held does not cover it.
    InsufficientThbc = 6507,
    /// The signed order does not match, or no Ed25519 instruction proves it.
    InvalidOrderSignature = 6508,
    /// The order's nonce was recorded before.
    OrderAlreadyRecorded = 6509,
    /// No order slot is free.
    NoSlot = 6510,
    /// A conservation law does not close.
    LawBroken = 6511,
    /// The epoch is closed for good.
    EpochClosed = 6512,
    /// A mandate's prices must lie on the tick and in the band (or be 0), its expiry after the next epoch that has not begun.
    InvalidMandate = 6513,
    /// The header is not valid for this kind of run.
    InvalidHeader = 6514,
    /// A batch or order of the run is not applied.
    RunIncomplete = 6515,
    /// The price lies outside the band.
    PriceOutOfBand = 6516,
    /// Simulated time is refused on mainnet.
    SimulatedTimeRefused = 6517,
    /// A balance would exceed 64 bits, a slot's energy 32.
    BalanceOverflow = 6518,
    /// A trade in a zone that the header gives no price; in a halted epoch, any trade.
    NoPrice = 6519,
    /// A resettlement entry's refund must be taken back + returned + billed.
    RefundNotClosed = 6520,
    /// A mandate still waits for epochs under the one before it to settle; try again when they have.
    MandatePending = 6521,
    /// There is no mandate to revoke.
    NoMandate = 6522,
    /// The order's length, tag, network, market, epoch, side, energy, nonce or limit is not acceptable.
    InvalidOrder = 6523,
    /// A zone's wheeling is above the epoch's cap.
    WheelingAboveCap = 6524,
    /// The epoch has not begun by the chain's clock.
    EpochNotBegun = 6525,
    /// Law 1: tokens minted − burned is not the change of GRID held.
    GridNotConserved = 6526,
    /// Law 2: the sum of net is not minted − deficit.
    NetNotClosed = 6527,
    /// Law 3: the sum of traded is not −lost.
    TradesNotClosed = 6528,
    /// Law 4: burned is not deficit − residual + lost, or would be negative.
    BurnNotClosed = 6529,
    /// Law 5: costs are not proceeds + fees + zone wheeling + link wheeling + rent.
    ChargesNotClosed = 6530,
    /// Law 6: bills are not what was paid + repaid + the change of debt.
    BillsNotClosed = 6531,
    /// Law 8: the change of THBC held is not what was received − paid.
    MoneyNotConserved = 6532,
    /// Minted-and-burned is not what metering minted, or more was taken back and returned than metering reversed.
    ReversalNotClosed = 6533,
    /// The supplier's account cannot cover the run; fund it and finalise again.
    SupplierNotCovered = 6534,
    /// The grid operator's account cannot cover a negative rent; fund it and finalise again.
    GridOperatorNotCovered = 6535,
    /// A sum exceeds 63 bits.
    SumOverflow = 6536,
    /// More GRID is credited to wallets than metering minted in the run.
    CreditAboveMinted = 6537,
    /// More Wh are reversed or refunded than the corrected meters can have moved at their ratings.
    ShiftAboveRating = 6538,
    /// A withdrawal is requested already; it must be paid first.
    WithdrawalPending = 6539,
    /// No withdrawal is requested.
    NoWithdrawal = 6540,
    /// Not every epoch that had begun at the request is settled yet.
    WithdrawalTooEarly = 6541,
    /// A run with an entry of this trader is not finalised yet.
    RunNotFinalised = 6542,
    /// An order on chain names an epoch that has not begun, at most 7 days ahead.
    OrderEpochOutOfRange = 6543,
    /// A wallet has one side per epoch, and does not trade with itself.
    SelfTrade = 6544,
    /// The slot holds no order placed on chain whose epoch has not begun.
    NoSuchOrder = 6545,
    /// The market is not in continuous trading, or an auction's epoch is not settled yet.
    NotContinuous = 6546,
    /// Continuous trading is halted until the authority resumes it.
    MarketHalted = 6547,
    /// The two orders don't cross, lie in different zones, or nothing of them is covered.
    NotMatchable = 6548,
    /// The epoch or run may not be voided yet, or at all.
    NotVoidable = 6549,
    /// The horizon of resettlement is not over.
    HorizonNotOver = 6550,
    /// The fills of a pay-as-bid entry must ascend by slot.
    FillsNotAscending = 6551,
    /// The grid operator would pay more than what rounding can take from its link wheeling and rent.
    RentBelowRounding = 6552,
    /// An epoch that has ended is not settled yet: what its runs are booked on must not move. Try again when it is.
    EndedEpochUnsettled = 6553,
}

impl From<Error> for ProgramError {
    #[inline(always)]
    fn from(error: Error) -> Self {
        ProgramError::Custom(error as u32)
    }
}

/// `require!(condition, Error)`: returns the error unless the condition holds.
#[macro_export]
macro_rules! require {
    ($condition:expr, $error:expr) => {
        if !$condition {
            return Err($error.into());
        }
    };
}
