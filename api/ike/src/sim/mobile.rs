//! An end that changes its address while SAs are up, and says so (MOBIKE, RFC 4555).

use std::net::IpAddr;

use super::Simulation;
use crate::{IkeSaId, Path};

impl Simulation {
    /// Both ends agree on MOBIKE, as IKE_AUTH would have said. SAs that come of a rekey inherit it.
    pub fn agree_on_mobike(&mut self) {
        for host in &mut self.hosts {
            for sa in host.engine.sas.values_mut() {
                sa.ends.mobike = true;
            }
        }
    }

    /// `side` has this address from now on, and no other: what is sent to the one before is lost.
    pub fn move_to(&mut self, side: usize, address: IpAddr) {
        self.link.homes[side] = Some(address);
        for id in self.established(side) {
            let now = self.now;
            self.hosts[side].engine.with_sa(now, id, |sa, core| {
                if let Some((ends, established)) = sa.established_mut() {
                    let mut local = ends.path.local;
                    local.set_ip(address);
                    established.go_elsewhere(ends, core, now, Path { local, ..ends.path });
                }
            });
        }
        self.drain(side);
    }

    /// Says where `side` is; false while another question of its is out.
    pub fn tell_where(&mut self, side: usize) -> bool {
        let mut told = true;
        let active = |id: &IkeSaId| {
            let found = self.hosts[side].engine.sas.get(id).and_then(|sa| sa.established());
            found.is_some_and(|found| found.is_active())
        };
        for id in self.established(side).into_iter().filter(active).collect::<Vec<_>>() {
            let now = self.now;
            self.hosts[side].engine.with_sa(now, id, |sa, core| {
                if let Some((ends, established)) = sa.established_mut() {
                    told &= established.tell_where(ends, core, now);
                }
            });
        }
        self.drain(side);
        told
    }

    fn established(&self, side: usize) -> Vec<IkeSaId> {
        let sas = self.hosts[side].engine.sas.values();
        sas.filter(|sa| sa.established().is_some()).map(|sa| sa.ends.id).collect()
    }
}
