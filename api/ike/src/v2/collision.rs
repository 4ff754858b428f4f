//! Simultaneous exchanges about the same thing (RFC 7296 sections 2.8.1 and 2.8.2).

/// Who keeps what both sides made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Ours survives; the peer deletes its own; we delete what was replaced.
    KeepOurs,
    /// Theirs survives; we delete our own; the peer deletes what was replaced.
    KeepTheirs,
}

/// The SA made with the lowest of the four nonces is the redundant one. `ours` and `theirs` are the lower nonces of
/// the two exchanges; `Vec`'s order is the RFC's: octet by octet, a prefix being lower.
pub(crate) fn resolve(ours: &[u8], theirs: &[u8]) -> Verdict {
    if ours < theirs { Verdict::KeepTheirs } else { Verdict::KeepOurs }
}

/// The lower nonce of an exchange.
pub(crate) fn lowest(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.min(other).to_vec()
}
