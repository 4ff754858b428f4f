//! The witness of every lab would see it if a gateway said what it should not: each kind of lie is denied, after a
//! negotiation that was true.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use integration::pair::Pair;
use integration::witness::flip;
use integration::witness::gateways::Testimony;
use integration::witness::message::Form;

type Lie = (&'static str, fn(&mut Testimony));

/// Changes a digit of the keys that it seals with, whichever end it is.
fn change_keys(told: &mut Testimony) {
    for keys in told.keys.ike_sas.values_mut().flatten() {
        for key in &mut keys.0[2..4] {
            let digit = if key.starts_with('0') { "1" } else { "0" };
            key.replace_range(..1, digit);
        }
    }
}

const LIES: &[Lie] = &[
    ("Integrity Checksum Data is incorrect", |told| flip(&mut told.messages, Form::Sealed, |len| len - 1)),
    ("Integrity Checksum Data is incorrect", change_keys),
    // The length of the first payload.
    ("tshark and our messages", |told| flip(&mut told.messages, Form::Clear, |_| 28 + 3)),
    ("no message", |told| told.messages[0].1.payload.truncate(27)),
    ("it told no keys", |told| told.keys.ike_sas.clear()),
    ("nothing was seen of any of its IKE SAs", |told| told.messages.clear()),
    ("no keys for", |told| {
        let keys = std::mem::take(&mut told.keys.ike_sas);
        told.keys.ike_sas = keys.into_iter().map(|((spi_i, spi_r), keys)| ((spi_i, !spi_r), keys)).collect();
    }),
];

#[test]
fn and_denies_what_they_did_not() -> Result<()> {
    let pair = Pair::up()?;
    let keys = pair.alpha.dir().join("ike-keys").metadata()?;
    ensure!(keys.permissions().mode() & 0o777 == 0o600, "{keys:?}");
    let testimonies = pair.lab.witness()?.testimonies()?;
    let [alpha, beta] = &testimonies[..] else { anyhow::bail!("{} gateways", testimonies.len()) };
    ensure!((alpha.gateway.as_str(), beta.gateway.as_str()) == ("alpha", "beta"));
    let read = alpha.judge(&pair.lab.dir).context("the truth")?;
    // IKE_SA_INIT in clear; IKE_INTERMEDIATE, with keys of its own, and IKE_AUTH.
    ensure!(read.clear >= 1 && read.opened >= 2, "{read}");
    for (words, lie) in LIES {
        let mut told = alpha.clone();
        lie(&mut told);
        let denied = told.judge(&pair.lab.dir).err().with_context(|| format!("{words}: believed"))?;
        ensure!(format!("{denied:#}").contains(words), "{words}: {denied:#}");
    }
    Ok(())
}
