//! A tunnel's destination must not be reached through the tunnel.

use anyhow::Result;
use integration::lab::{ALPHA, BETA};
use integration::pair::{PATIENCE, Pair};
use serde_json::json;

#[test]
fn a_route_that_would_lead_a_tunnel_into_itself_is_refused_when_written() -> Result<()> {
    let pair = Pair::up()?;
    let route = json!({"destination": format!("{}/32", BETA.black()), "tunnel": "to-beta"});
    let answer = pair.alpha.api.request("PUT", "/v1/routes/recursive", Some(&route), &[])?;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert!(answer.text.contains("to-beta"), "{}", answer.text);
    assert_eq!(pair.alpha.api.request("GET", "/v1/routes/recursive", None, &[])?.status, 404);
    Ok(())
}

#[test]
fn a_learned_one_takes_the_tunnel_down_with_its_cause_until_it_is_gone() -> Result<()> {
    let pair = Pair::up()?;
    let alpha = &pair.alpha.namespace;
    // As a routing daemon would.
    alpha.ip(&format!("route add {}/32 dev to-beta", BETA.black()))?;
    let cause = pair.alpha.tunnel_cause("to-beta", "recurs", PATIENCE)?;
    assert!(cause.contains("leads through the tunnel itself"), "{cause}");
    alpha.ip(&format!("route del {}/32 dev to-beta", BETA.black()))?;
    pair.alpha.tunnel_up("to-beta", PATIENCE)?;
    integration::checks::reachable(pair.lab.host(ALPHA)?, &BETA.host()[0], PATIENCE)
}
