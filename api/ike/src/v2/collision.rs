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

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 2.8.1: both ends see the same two exchanges and must come to mirrored verdicts.
    #[test]
    fn verdicts_mirror_each_other() {
        let nonces: [&[u8]; 5] = [&[0; 16], &[0; 32], &[0xff; 16], &[1, 0], &[1, 0, 0]];
        for ours in nonces {
            for theirs in nonces.into_iter().filter(|theirs| *theirs != ours) {
                let (here, there) = (resolve(ours, theirs), resolve(theirs, ours));
                assert_ne!(here, there);
            }
        }
        assert_eq!(resolve(&[1, 0], &[1, 0, 0]), Verdict::KeepTheirs);
    }

    #[test]
    fn the_lowest_nonce_loses() {
        assert_eq!(lowest(&[2], &[1, 9]), [1, 9]);
        assert_eq!(resolve(&lowest(&[0], &[9]), &lowest(&[1], &[1])), Verdict::KeepTheirs);
    }
}
