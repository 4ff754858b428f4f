//! Many IKEv2 peers at once over UDP, to measure a responder: ours (`respond`) or a foreign one.
//!
//! ```text
//! ike_load respond  --local 127.9.0.1 --peers 10000 [--suite modp2048] [--tally true]
//! ike_load initiate --remote 127.9.0.1 --peers 2000 --first 0 --at-once 16 [--suite modp2048]
//! ike_load hold     --remote 127.9.0.1 --peers 10000 --child-secs 60 --ike-secs 150
//! ike_load flood    --remote 127.9.0.1 --per-second 20000 --seconds 5 [--first 8000]
//! ```
//! Peer number `n` has an address of its own, 10.64.0.0 plus `n`, which must be local (`ip route add local 10.64.0.0/10
//! dev lo`). All of them share a key and prove their address. `initiate` ends when each peer has its IKE SA with one
//! child and prints how long that took, one JSON object; `hold` keeps them all, with whom `respond` then rekeys; each line
//! on the standard input of either makes it say in JSON what became of its SAs (`--tally true`). `flood` sends IKE_SA_INIT
//! requests of 2,000 peers that never answer, from number `--first` on; without it they are peers that no responder knows.

mod flood;
mod hold;
mod initiate;
mod peers;
mod respond;
mod tally;

use anyhow::{Context, bail};

use crate::peers::Options;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().context("respond, initiate, hold or flood")?;
    let options = Options::parse(arguments)?;
    match command.as_str() {
        "respond" => respond::run(&options),
        "initiate" => initiate::run(&options),
        "hold" => hold::run(&options),
        "flood" => flood::run(&options),
        other => bail!("no command {other}; there are: respond initiate hold flood"),
    }
}
