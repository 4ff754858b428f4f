//! GRE on what is agreed with OpenIKED, while the underlay loses each message of IKE in turn, and while either side rekeys.

use anyhow::{Context, Result, bail, ensure};
use integration::checks::ping;
use integration::configuration::{CRYPTO_MAP, crypto_map};
use integration::foreign::{Mode, Settings, openiked};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::lost_message::Message;
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::pcap::exchange::{CREATE_CHILD_SA, IKE_AUTH, IKE_SA_INIT, INFORMATIONAL};
use integration::wait;
use serde_json::{Value, json};

fn scenario(number: u8, what: &'static str, role: Role) -> Scenario {
    Scenario { number, what, peer: openiked::DAEMON.name, role }
}

/// Both ends with a tunnel that passes pings, and nothing else in it; `connection` is for gamma's policy.
fn up(connection: &'static str) -> Result<Mapped> {
    let settings = Settings { connection, ..Settings::speaking(&openiked::DAEMON, GAMMA, ALPHA, KEY) };
    let mapped = Mapped::bare(settings)?;
    mapped.configure_with(&json!({
        "encryption": "aes-128-cbc", "integrity": "sha1", "mode": Mode::Transport.word(), "esn": false,
        "allow_insecure": ["sha1"],
    }))?;
    passes(&mapped)?;
    Ok(mapped)
}

fn passes(mapped: &Mapped) -> Result<()> {
    mapped.passes(PATIENCE).with_context(|| mapped.gamma.gateway.log().unwrap_or_default())?;
    for address in GAMMA.host() {
        let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
        ensure!(pings.all_answered(), "{address}: {pings:?}");
    }
    Ok(())
}

/// One IKE SA, and none of before.
fn one_other_than(mapped: &Mapped, old: &std::collections::BTreeSet<String>) -> Result<()> {
    wait::until("the end of the old IKE SA", PATIENCE, || {
        let now = mapped.ike_spis()?;
        ensure!(now.len() == 1 && now.is_disjoint(old), "{now:?}");
        anyhow::Ok(())
    })
    .with_context(|| mapped.gamma.gateway.log().unwrap_or_default())
}

#[test]
fn through_rekeys_of_the_ike_sa() -> Result<()> {
    let mapped = up("ikelifetime 30")?;
    // 25.5 to 28.5 s after that: counted from the last IKE SA.
    scenario(22, "IKE SA rekeyed by us; GRE", Role::Initiator).judge(|| {
        let (old, esp) = (mapped.ike_spis()?, mapped.outbound_spis()?);
        mapped.losses(5, || mapped.rekey_ike(), || mapped.ike_is_new(&old))?.none()?;
        one_other_than(&mapped, &old)?;
        ensure!(mapped.outbound_spis()? == esp, "the child changed too");
        passes(&mapped)
    })?;
    scenario(22, "IKE SA rekeyed by the peer; GRE", Role::Responder).judge(|| {
        let (old, esp) = (mapped.ike_spis()?, mapped.outbound_spis()?);
        mapped.losses(32, || Ok(()), || mapped.ike_is_new(&old))?.none()?;
        one_other_than(&mapped, &old)?;
        ensure!(mapped.outbound_spis()? == esp, "the child changed too");
        passes(&mapped)
    })
}

#[test]
fn while_each_message_that_makes_an_sa_is_lost() -> Result<()> {
    let mapped = up("")?;
    for role in [Role::Initiator, Role::Responder] {
        let what = "each message of IKE_SA_INIT and IKE_AUTH lost in turn; GRE";
        scenario(9, what, role).judge(|| {
            for exchange in [IKE_SA_INIT, IKE_AUTH] {
                for response in [false, true] {
                    let message = Message { exchange, response };
                    let ours = (role == Role::Initiator) != response;
                    let old = mapped.ike_spis()?;
                    mapped.lab.lose(message, if ours { ALPHA } else { GAMMA })?;
                    mapped.lab.may_begin(ALPHA, role == Role::Initiator)?;
                    mapped.gamma.gateway.end()?;
                    if role == Role::Responder {
                        mapped.gamma.gateway.begin()?;
                    }
                    one_other_than(&mapped, &old).with_context(|| format!("{message:?}"))?;
                    passes(&mapped).with_context(|| format!("{message:?}"))?;
                    mapped.lab.has_lost().with_context(|| format!("{message:?}"))?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn while_each_message_of_a_rekey_is_lost() -> Result<()> {
    let mapped = up("")?;
    scenario(9, "each message of a child's rekey lost in turn; GRE", Role::Initiator).judge(|| {
        for exchange in [CREATE_CHILD_SA, INFORMATIONAL] {
            for response in [false, true] {
                let message = Message { exchange, response };
                let old = mapped.outbound_spis()?;
                mapped.lab.lose(message, if response { GAMMA } else { ALPHA })?;
                let losses = mapped
                    .losses(8, || mapped.rekey_children(), || mapped.esp_is_new(&old))
                    .with_context(|| format!("{message:?}"))?;
                mapped.lab.has_lost().with_context(|| format!("{message:?}"))?;
                losses.only_what_overtook_the_answer().with_context(|| format!("{message:?}"))?;
                // It sends on the new SA at once; what comes until the answer is fetched again cannot be read.
                if message == (Message { exchange: CREATE_CHILD_SA, response: true }) {
                    ensure!(
                        losses.unknown_spi > 0,
                        "the answer was lost, and nothing overtook it: {losses:?}"
                    );
                }
                passes(&mapped)?;
            }
        }
        Ok(())
    })?;
    scenario(9, "each message of an IKE SA's rekey lost in turn; GRE", Role::Initiator).judge(|| {
        for exchange in [CREATE_CHILD_SA, INFORMATIONAL] {
            for response in [false, true] {
                let message = Message { exchange, response };
                let (old, esp) = (mapped.ike_spis()?, mapped.outbound_spis()?);
                mapped.lab.lose(message, if response { GAMMA } else { ALPHA })?;
                let losses = mapped
                    .losses(8, || mapped.rekey_ike(), || mapped.ike_is_new(&old))
                    .with_context(|| format!("{message:?}"))?;
                losses.none().with_context(|| format!("{message:?}"))?;
                one_other_than(&mapped, &old)?;
                mapped.lab.has_lost().with_context(|| format!("{message:?}"))?;
                ensure!(mapped.outbound_spis()? == esp, "the child changed too");
                passes(&mapped)?;
            }
        }
        Ok(())
    })?;
    floats_to_the_port_of_nat_traversal(&mapped)
}

/// No ESP passes there: on Linux this iked tells the kernel of no ESP in UDP (`SADB_X_EXT_UDPENCAP` is OpenBSD's).
fn floats_to_the_port_of_nat_traversal(mapped: &Mapped) -> Result<()> {
    let floated = || {
        wait::until("an IKE SA on port 4500 at both ends", PATIENCE, || {
            let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
            let on_port = |sa: &Value, end: &str| sa[end].as_str().is_some_and(|end| end.ends_with(":4500"));
            let [sa] = sas.as_slice() else { bail!("{sas:?}") };
            let up =
                sa["state"] == "established" && sa["children"].as_array().is_some_and(|all| !all.is_empty());
            ensure!(up && on_port(sa, "local") && on_port(sa, "remote"), "{sa}");
            let theirs = mapped.gamma.gateway.sas()?;
            let mut listed = theirs.lines().filter(|line| line.starts_with("iked_sas:"));
            let natted =
                |line: &str| ["ESTABLISHED", "natt", ":4500->"].iter().all(|word| line.contains(word));
            ensure!(listed.next().is_some_and(natted) && listed.next().is_none(), "{theirs}");
            anyhow::Ok(())
        })
        .with_context(|| mapped.gamma.gateway.log().unwrap_or_default())
    };
    let rekeyed_there = "no NAT, nat_traversal force: IKE alone floats, and is rekeyed there";
    scenario(27, rekeyed_there, Role::Initiator).judge(|| {
        let fields = json!({"nat_traversal": "force"});
        mapped.alpha.api.put(CRYPTO_MAP, &crypto_map(GAMMA, &fields))?;
        floated()?;
        let old = mapped.ike_spis()?;
        mapped.rekey_ike()?;
        one_other_than(mapped, &old)?;
        floated()
    })?;
    // No rekey here: where it has begun itself and we rekey, this iked reads no DELETE of what was rekeyed.
    scenario(27, "no NAT, nat_traversal force: IKE alone floats", Role::Responder).judge(|| {
        let old = mapped.ike_spis()?;
        mapped.lab.may_begin(ALPHA, false)?;
        mapped.gamma.gateway.end()?;
        mapped.gamma.gateway.begin()?;
        one_other_than(mapped, &old)?;
        floated()
    })
}
