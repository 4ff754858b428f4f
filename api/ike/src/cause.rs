//! Why something is down.

use crate::Mode;

/// A step of a negotiation, for causes and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's exchanges")]
pub enum Phase {
    IkeSaInit,
    IkeIntermediate,
    IkeAuth,
    CreateChildSa,
    Informational,
    MainMode,
    QuickMode,
}

/// Why something is down, in words that an operator can act on; `Display` is a full sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No answer within the retransmission schedule.
    #[error(
        "the peer did not answer {phase:?} after {tries} tries; check that UDP 500 and 4500 pass both ways"
    )]
    NoAnswer {
        /// The exchange.
        phase: Phase,
        /// Messages sent.
        tries: u32,
    },
    /// NO_PROPOSAL_CHOSEN, by us or by the peer.
    #[error("no proposal in common in {phase:?}: we have {ours}; the peer has {theirs}")]
    NoProposalChosen {
        /// The exchange.
        phase: Phase,
        /// Our proposals in words.
        ours: String,
        /// The peer's in words, or "(the peer did not say)".
        theirs: String,
    },
    /// The peer offers or chooses no additional key exchange, and ours is required.
    #[error("a post-quantum key exchange is required: we have {ours}; the peer has {theirs}")]
    PostQuantumRequired {
        /// Our proposals in words.
        ours: String,
        /// The peer's in words, or "(the peer did not say)".
        theirs: String,
    },
    /// The peer does not say that it can use a PPK, and ours is required.
    #[error("a post-quantum pre-shared key (PPK) is required, and the peer does not use one")]
    PpkRequired,
    /// AUTHENTICATION_FAILED, by us or by the peer.
    #[error("authentication failed ({side}): {detail}")]
    AuthenticationFailed {
        /// "we refused the peer" or "the peer refused us".
        side: &'static str,
        /// What did not match; never a secret.
        detail: String,
    },
    /// TS_UNACCEPTABLE.
    #[error("no traffic selectors in common: we have {ours}; the peer has {theirs}")]
    TsUnacceptable {
        /// Ours in words.
        ours: String,
        /// Theirs in words.
        theirs: String,
    },
    /// The peer's answer has more traffic selectors than an SA can have here.
    #[error(
        "the peer narrowed the traffic selectors to more ranges than an SA can have, {most} on each side: {theirs}; \
         protect fewer networks by one rule"
    )]
    TooManySelectors {
        /// Most of one side.
        most: usize,
        /// Theirs in words.
        theirs: String,
    },
    /// The peer answered tunnel mode where transport mode is required, or the reverse.
    #[error("the peer answered {theirs:?} mode, {ours:?} is required")]
    ModeMismatch {
        /// Required.
        ours: Mode,
        /// Answered.
        theirs: Mode,
    },
    /// The peer stopped answering DPD.
    #[error("the peer stopped answering after {silent_secs} s of silence")]
    PeerDead {
        /// Seconds since the last sign of life.
        silent_secs: u64,
    },
    /// The peer deleted it.
    #[error("the peer deleted the SA")]
    DeletedByPeer,
    /// We were told to.
    #[error("deleted on request")]
    Requested,
    /// A lifetime ended before a rekey succeeded.
    #[error("the lifetime ended before a rekey succeeded")]
    Expired,
    /// Another error notification.
    #[error("the peer sent {notify} in {phase:?}")]
    Notify {
        /// Name or number of the notification.
        notify: String,
        /// The exchange.
        phase: Phase,
    },
    /// A message that breaks the protocol in an authenticated exchange.
    #[error("the peer broke the protocol in {phase:?}: {detail}")]
    Protocol {
        /// The exchange.
        phase: Phase,
        /// What was wrong.
        detail: String,
    },
    /// An SA of before a restart is negotiated anew.
    #[error("the IKE SA of before the restart could not be resumed: {detail}")]
    NotResumed {
        /// Why.
        detail: String,
    },
    /// The dataplane refused the SA.
    #[error("the dataplane refused the SA: {detail}")]
    Dataplane {
        /// Its words.
        detail: String,
    },
}
