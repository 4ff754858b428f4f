//! The health view.

use super::Picture;
use crate::view::{Health, HealthPart};

impl Picture {
    pub(crate) fn health(&self) -> Health {
        let parts = vec![self.configuration(), self.dataplane_health(), self.netlink(), self.ike_health()];
        Health { ok: parts.iter().all(|part| part.ok), parts }
    }

    fn configuration(&self) -> HealthPart {
        let complaints = &self.complaints.configuration;
        let (ok, detail) = match (self.taken, complaints.first()) {
            (None, _) => (false, "the control plane has not started".to_owned()),
            (Some(_), Some(first)) => (false, with_more(first, complaints.len())),
            (Some(_), None) => (true, format!("generation {} is applied", self.generation)),
        };
        HealthPart { name: "configuration", ok, detail }
    }

    fn dataplane_health(&self) -> HealthPart {
        let status = self.dataplane();
        let (ok, detail) = match (status.alive, status.heartbeat_age_ms) {
            (true, _) if status.connected => (true, format!("process {} is running", status.pid)),
            (true, _) => (false, "it is running and not connected to the control plane's socket".to_owned()),
            (false, Some(age_ms)) => (false, format!("silent for {} s", age_ms / 1000)),
            (false, None) => (false, "it has not been seen since this region was made".to_owned()),
        };
        HealthPart { name: "dataplane", ok, detail }
    }

    fn netlink(&self) -> HealthPart {
        let complaints = &self.complaints.netlink;
        let (routes, neighbours, _) = self.mirrored;
        let (ok, detail) = match complaints.first() {
            Some(first) => (false, with_more(first, complaints.len())),
            None => (true, format!("{routes} routes and {neighbours} neighbours are mirrored")),
        };
        HealthPart { name: "netlink", ok, detail }
    }

    fn ike_health(&self) -> HealthPart {
        let complaints = &self.complaints.ike;
        let (ok, detail) = match complaints.first() {
            Some(first) => (false, with_more(first, complaints.len())),
            None => (true, format!("{} IKE SAs", self.isakmp.len())),
        };
        HealthPart { name: "ike", ok, detail }
    }
}

fn with_more(first: &str, count: usize) -> String {
    match count {
        0 | 1 => first.to_owned(),
        count => format!("{first}; and {} more", count - 1),
    }
}
