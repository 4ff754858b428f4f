//! The transform sets of one list share their mode: IKEv2 asks for a mode once for all of them.

use super::Violation;
use crate::{Desired, Kind, SaTerms};

pub(super) fn check(desired: &Desired, found: &mut Vec<Violation>) {
    for (name, profile) in &desired.ipsec_profiles {
        one_mode(desired, &profile.terms, |pointer, detail| {
            found.push(Violation::new(Kind::IpsecProfile, name, pointer, detail));
        });
    }
    for (name, map) in &desired.crypto_maps {
        for (index, entry) in map.entries.iter().enumerate() {
            one_mode(desired, &entry.terms, |pointer, detail| {
                found.push(Violation::new(
                    Kind::CryptoMap,
                    name,
                    format!("/entries/{index}{pointer}"),
                    detail,
                ));
            });
        }
    }
}

fn one_mode(desired: &Desired, terms: &SaTerms, mut refuse: impl FnMut(String, String)) {
    let Some((first, first_set)) = desired.transform_sets_of(terms).next() else { return };
    for (index, (name, set)) in desired.transform_sets_of(terms).enumerate() {
        if set.mode != first_set.mode {
            refuse(
                format!("/transform_sets/{index}"),
                format!(
                    "{name} is of {} mode, {first} of {} mode: one list has one mode",
                    set.mode, first_set.mode
                ),
            );
        }
    }
}
