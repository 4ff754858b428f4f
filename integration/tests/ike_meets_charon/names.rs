//! Distinguished names in an odd order or encoding (RFC 5280 section 7.1): the string type, the case of letters and runs of
//! spaces say nothing, the order of the relative names does.

use anyhow::{Context, Result, bail, ensure};
use ike::{Cause, Connection, Identity, LocalProof, RsaPadding};
use integration::interop::Role;
use rcgen::{DistinguishedName, DnType, DnValue};

use crate::cable::{Cable, scenario};
use crate::certificates::{OURS, THEIRS, Theirs, ours};
use crate::pki::{Ca, Leaf, params, remote};

/// How a value is written.
#[derive(Clone, Copy)]
enum Encoding {
    Utf8,
    Printable,
}

/// A name of these attributes, in this order.
fn name(attributes: &[(DnType, &str)], encoding: Encoding) -> Result<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for (kind, value) in attributes {
        let value = match encoding {
            // A country may be nothing but printable (X.520).
            Encoding::Utf8 if *kind != DnType::CountryName => DnValue::Utf8String((*value).to_owned()),
            _ => DnValue::PrintableString((*value).try_into().ok().context("not printable")?),
        };
        name.push(kind.clone(), value);
    }
    Ok(name)
}

fn usual(common: &str) -> [(DnType, &str); 3] {
    [(DnType::CountryName, "CH"), (DnType::OrganizationName, "Culvert test"), (DnType::CommonName, common)]
}

fn backwards(common: &str) -> [(DnType, &str); 3] {
    let [country, organization, common] = usual(common);
    [common, organization, country]
}

/// A certificate of this name, and an identity of it.
fn leaf(ca: &Ca, alternative: &str, name: DistinguishedName) -> Result<(Leaf, Identity)> {
    let mut params = params(alternative)?;
    params.distinguished_name = name;
    let leaf = ca.leaf(&params)?;
    let LocalProof::Certificate(certificate) = leaf.local(RsaPadding::Pss)? else { bail!("no certificate") };
    let identity = Identity::DistinguishedName(certificate.subject().to_vec());
    Ok((leaf, identity))
}

fn tidy(cable: &Cable) -> Result<()> {
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

fn up(what: &'static str, roles: &[Role], connection: &Connection, theirs: &Theirs<'_>) -> Result<()> {
    let cable = Cable::new()?;
    theirs.configure(&cable)?;
    for role in roles {
        scenario(32, what, *role).judge(|| {
            let engine = cable.start(*role, connection.clone())?;
            engine.settles(1)?;
            let sas = cable.charon.swanctl("--list-sas")?;
            ensure!(sas.contains("ESTABLISHED") && sas.contains("INSTALLED"), "{sas}");
            drop(engine);
            tidy(&cable)
        })?;
    }
    Ok(())
}

#[test]
fn are_the_same_in_another_encoding() -> Result<()> {
    let ca = Ca::root("Root")?;
    let (own, own_name) = leaf(&ca, OURS, name(&usual(OURS), Encoding::Printable)?)?;
    let (far, _) = leaf(&ca, THEIRS, name(&usual(THEIRS), Encoding::Printable)?)?;
    let (_, in_utf8) = leaf(&ca, THEIRS, name(&usual(THEIRS), Encoding::Utf8)?)?;
    let mut connection = ours(own.local(RsaPadding::Pss)?, remote(ca.trust())?);
    (connection.local_identity, connection.remote_identity) = (own_name, in_utf8);
    let theirs = Theirs {
        id: "C=CH, O=Culvert test, CN=beta.example",
        far_id: "C=CH, O=Culvert test, CN=alpha.example",
        ..Theirs::new(&far, &ca)
    };
    up("distinguished names in another string type", &Role::BOTH, &connection, &theirs)?;
    // The same name as an operator might have typed it. charon takes a request for it, in IDr, as one for somebody else.
    let typed = [
        (DnType::CountryName, "ch"),
        (DnType::OrganizationName, " CULVERT   Test "),
        (DnType::CommonName, "Beta.Example"),
    ];
    let (_, typed) = leaf(&ca, THEIRS, name(&typed, Encoding::Utf8)?)?;
    connection.remote_identity = typed;
    up("distinguished names in another case and spacing", &[Role::Responder], &connection, &theirs)
}

#[test]
fn are_the_same_backwards_at_both_ends() -> Result<()> {
    let ca = Ca::root("Root")?;
    let (own, own_name) = leaf(&ca, OURS, name(&backwards(OURS), Encoding::Utf8)?)?;
    let (far, far_name) = leaf(&ca, THEIRS, name(&backwards(THEIRS), Encoding::Utf8)?)?;
    let mut connection = ours(own.local(RsaPadding::Pss)?, remote(ca.trust())?);
    (connection.local_identity, connection.remote_identity) = (own_name, far_name);
    let theirs = Theirs {
        id: "CN=beta.example, O=Culvert test, C=CH",
        far_id: "CN=alpha.example, O=Culvert test, C=CH",
        ..Theirs::new(&far, &ca)
    };
    up("distinguished names that begin with the common name", &Role::BOTH, &connection, &theirs)
}

#[test]
fn are_others_in_another_order() -> Result<()> {
    let ca = Ca::root("Root")?;
    let (own, own_name) = leaf(&ca, OURS, name(&usual(OURS), Encoding::Utf8)?)?;
    let (far, _) = leaf(&ca, THEIRS, name(&backwards(THEIRS), Encoding::Utf8)?)?;
    let (_, expected) = leaf(&ca, THEIRS, name(&usual(THEIRS), Encoding::Utf8)?)?;
    let mut connection = ours(own.local(RsaPadding::Pss)?, remote(ca.trust())?);
    (connection.local_identity, connection.remote_identity) = (own_name, expected);
    let cable = Cable::new()?;
    let theirs = Theirs {
        id: "CN=beta.example, O=Culvert test, C=CH",
        far_id: "C=CH, O=Culvert test, CN=alpha.example",
        ..Theirs::new(&far, &ca)
    };
    theirs.configure(&cable)?;
    for role in Role::BOTH {
        scenario(32, "the peer's distinguished name in another order than expected", role).judge(|| {
            let engine = cable.start(role, connection.clone())?;
            let cause = engine.ike_down()?;
            ensure!(matches!(cause, Cause::AuthenticationFailed { .. }), "{cause}");
            ensure!(engine.state().pairs.is_empty(), "something was installed");
            drop(engine);
            tidy(&cable)
        })?;
    }
    Ok(())
}
