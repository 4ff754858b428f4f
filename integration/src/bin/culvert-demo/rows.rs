//! The rows of the table, in the order in which they are made.

mod forwarding;
mod restart;
mod tunnels;
pub(crate) mod wire;

use anyhow::Result;

use crate::scene::Scene;
use crate::screen::{Screen, Table};

/// Makes all rows but the sniffer's, whose word comes last.
pub(crate) fn all(scene: &mut Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    tunnels::protection(scene, screen, table)?;
    tunnels::crypto_map(scene, screen, table)?;
    forwarding::adjacencies(scene, screen, table)?;
    forwarding::pings(scene, screen, table)?;
    forwarding::throughput(scene, screen, table)?;
    forwarding::learned_route(scene, screen, table)?;
    tunnels::rekeying(scene, screen, table)?;
    tunnels::crypto_map_in_tunnel_mode(scene, screen, table)?;
    restart::control_plane(scene, screen, table)?;
    restart::dataplane(scene, screen, table)?;
    tunnels::tear_down(scene, screen, table)
}
