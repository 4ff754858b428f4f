//! ESP with ChaCha20-Poly1305, and with a cipher in CBC mode and HMAC, judged by the kernel of a foreign gateway: what we
//! seal it opens, what it seals we open, in each suite that its strongSwan and we agree upon.

use anyhow::{Context, Result, bail, ensure};
use integration::checks::{ping, ping_sized};
use integration::configuration::{CRYPTO_MAP, TRANSFORM_SET_OF_MAP, crypto_map};
use integration::foreign::{Mode, Settings};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::{sa, wait};
use serde_json::{Value, json};

/// A suite in three vocabularies.
struct Suite {
    /// In our API's: cipher, integrity where the cipher needs one, what must be allowed.
    encryption: &'static str,
    integrity: Option<&'static str>,
    insecure: &'static [&'static str],
    /// In strongSwan's.
    esp: &'static str,
    /// In the kernel's: integrity, cipher, and bits of the cipher's key, a salt included.
    kernel: [&'static str; 2],
    key_bits: usize,
}

const SUITES: [Suite; 8] = [
    Suite {
        encryption: "aes-128-cbc",
        integrity: Some("sha2-256"),
        insecure: &[],
        esp: "aes128-sha256-esn",
        kernel: ["auth-trunc hmac(sha256)", "enc cbc(aes)"],
        key_bits: 128,
    },
    Suite {
        encryption: "aes-192-cbc",
        integrity: Some("sha2-384"),
        insecure: &[],
        esp: "aes192-sha384-noesn",
        kernel: ["auth-trunc hmac(sha384)", "enc cbc(aes)"],
        key_bits: 192,
    },
    Suite {
        encryption: "aes-256-cbc",
        integrity: Some("sha2-512"),
        insecure: &[],
        esp: "aes256-sha512-esn",
        kernel: ["auth-trunc hmac(sha512)", "enc cbc(aes)"],
        key_bits: 256,
    },
    Suite {
        encryption: "aes-128-cbc",
        integrity: Some("sha1"),
        insecure: &["sha1"],
        esp: "aes128-sha1-noesn",
        kernel: ["auth-trunc hmac(sha1)", "enc cbc(aes)"],
        key_bits: 128,
    },
    Suite {
        encryption: "3des",
        integrity: Some("md5"),
        insecure: &["3des", "md5"],
        esp: "3des-md5-noesn",
        kernel: ["auth-trunc hmac(md5)", "enc cbc(des3_ede)"],
        key_bits: 192,
    },
    Suite {
        encryption: "3des",
        integrity: Some("sha1"),
        insecure: &["3des", "sha1"],
        esp: "3des-sha1-noesn",
        kernel: ["auth-trunc hmac(sha1)", "enc cbc(des3_ede)"],
        key_bits: 192,
    },
    Suite {
        encryption: "aes-128-cbc",
        integrity: Some("md5"),
        insecure: &["md5"],
        esp: "aes128-md5-noesn",
        kernel: ["auth-trunc hmac(md5)", "enc cbc(aes)"],
        key_bits: 128,
    },
    Suite {
        encryption: "chacha20-poly1305",
        integrity: None,
        insecure: &[],
        esp: "chacha20poly1305-esn",
        kernel: ["aead rfc7539esp", "rfc7539esp(chacha20,poly1305)"],
        key_bits: 288,
    },
];

impl Suite {
    fn transform_set(&self, mode: Mode) -> Value {
        json!({
            "encryption": self.encryption, "integrity": self.integrity, "mode": mode.word(), "allow_insecure": self.insecure,
        })
    }

    /// The SAs in the kernel are of this suite and mode.
    fn is_in(&self, states: &str, mode: Mode) -> bool {
        let digits = format!("0x{}", "x".repeat(self.key_bits / 4)).len();
        let of_key = |line: &str| line.split_whitespace().nth(2).is_some_and(|key| key.len() == digits);
        let ciphers: Vec<&str> = states.lines().filter(|line| line.contains(self.kernel[1])).collect();
        !ciphers.is_empty()
            && ciphers.into_iter().all(of_key)
            && states.contains(self.kernel[0])
            && states.contains(&format!("mode {}", mode.word()))
    }
}

/// Pings both ways, of sizes that leave various parts of a cipher's block to padding.
fn passes(mapped: &Mapped) -> Result<()> {
    for (from, to) in [(ALPHA, GAMMA), (GAMMA, ALPHA)] {
        for address in to.host() {
            let pings = ping(mapped.lab.host(from)?, &address, 5)?;
            ensure!(pings.all_answered(), "from {} to {address}: {pings:?}", from.name);
        }
    }
    // What fits is answered in kind: both directions pad alike.
    for size in (56..72).step_by(3).chain([1300, 1352]) {
        let pings = ping_sized(mapped.lab.host(ALPHA)?, &GAMMA.host()[0], size)?;
        ensure!(pings.all_answered(), "{size} bytes: {pings:?}");
    }
    Ok(())
}

fn carries_gre(mode: Mode) -> Result<Mapped> {
    let mut mapped = Mapped::bare(Settings { mode, esp: SUITES[0].esp, ..Settings::new(GAMMA, ALPHA, KEY) })?;
    mapped.configure_with(&SUITES[0].transform_set(mode))?;
    mapped.passes(PATIENCE)?;
    let dataplane = mapped.alpha.api.get("/v1/dataplane")?;
    ensure!(dataplane["engine"] == "ipsec-mb", "the engine that matters is not the one tested: {dataplane}");
    for suite in &SUITES {
        let what = match mode {
            Mode::Transport => "ESP with ChaCha20-Poly1305, or CBC and HMAC, in transport mode, GRE",
            Mode::Tunnel => "ESP with ChaCha20-Poly1305, or CBC and HMAC, in tunnel mode, GRE",
        };
        Scenario { number: 3, what, peer: "strongSwan", role: Role::Initiator }.judge(|| {
            let old = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
            mapped.gamma.gateway.reload(|settings| settings.esp = suite.esp)?;
            mapped.alpha.api.put(TRANSFORM_SET_OF_MAP, &suite.transform_set(mode))?;
            if suite.esp != SUITES[0].esp {
                wait::until("SAs of the new suite", PATIENCE, || {
                    let new = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
                    if !new.is_empty() && new.is_disjoint(&old) { Ok(()) } else { bail!("{new:08x?}") }
                })?;
            }
            mapped.passes(PATIENCE)?;
            // What was in use before is drained for some seconds; after that each packet is the new suite's.
            wait::until("no SA of another suite", PATIENCE, || {
                let states = mapped.gamma.gateway.run("ip xfrm state")?;
                ensure!(suite.is_in(&states, mode), "not {:?} in\n{states}", suite.kernel);
                for sa in mapped.alpha.api.items("/v1/ipsec-sas")? {
                    ensure!(
                        sa["encryption"] == suite.encryption && sa["integrity"] == json!(suite.integrity),
                        "{sa}"
                    );
                }
                anyhow::Ok(())
            })?;
            passes(&mapped).with_context(|| suite.encryption)?;
            // Whatever is lost when SAs are replaced: nothing that the kernel sealed was taken for forged or malformed.
            for reason in ["esp_auth_failed", "esp_malformed", "crypto_failed"] {
                let drops = mapped.alpha.drops(reason)?;
                ensure!(
                    drops == 0,
                    "{drops} packets dropped for {reason} with {} {:?}",
                    suite.encryption,
                    suite.integrity
                );
            }
            Ok(())
        })?;
    }
    Ok(mapped)
}

/// A list of transport mode, then of tunnel mode, towards a peer that has tunnel mode alone.
fn takes_tunnel_mode_where_it_must(mapped: &Mapped, suite: &Suite) -> Result<()> {
    let what = "the peer answers transport mode with tunnel mode, which our transform sets allow; GRE";
    Scenario { number: 26, what, peer: "strongSwan", role: Role::Initiator }.judge(|| {
        let old = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
        mapped.alpha.api.put("/v1/transform-sets/preferred", &suite.transform_set(Mode::Transport))?;
        let sets = json!({"transform_sets": ["preferred", "to-peer"]});
        mapped.alpha.api.put(CRYPTO_MAP, &crypto_map(GAMMA, &sets))?;
        wait::until("SAs of the new list", PATIENCE, || {
            let new = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
            if !new.is_empty() && new.is_disjoint(&old) { Ok(()) } else { bail!("{new:08x?}") }
        })?;
        mapped.passes(PATIENCE)?;
        for sa in mapped.alpha.api.items("/v1/ipsec-sas")? {
            ensure!(sa["mode"] == "tunnel", "{sa}");
        }
        passes(mapped)
    })
}

#[test]
fn each_suite_carries_gre_in_transport_mode() -> Result<()> {
    carries_gre(Mode::Transport).map(drop)
}

#[test]
fn each_suite_carries_gre_in_tunnel_mode() -> Result<()> {
    let mapped = carries_gre(Mode::Tunnel)?;
    takes_tunnel_mode_where_it_must(&mapped, SUITES.last().context("no suite")?)
}
