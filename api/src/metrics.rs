//! `/metrics`: everything that is counted, as text for Prometheus.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use control::view::{Condition, Direction, MetricsSnapshot};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::caller::Viewer;
use crate::expiry::{Expiry, expiries};
use crate::problem::Problem;
use crate::state::Gateway;

pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Read all counters in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", operation_id = "read_metrics", tag = "operation",
    responses((status = 200, description = "Counters and gauges.", body = String, content_type = "text/plain"),
        (status = 401, description = "No token, or none that is known.", body = Problem, content_type = "application/problem+json")))]
async fn metrics(State(gateway): State<Gateway>, _: Viewer) -> Result<impl IntoResponse, Problem> {
    let desired_generation = *gateway.store.watch().borrow();
    let expiries = expiries(&gateway).await?;
    let text = render(&gateway.control.metrics_snapshot(), desired_generation, &expiries);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

const CONDITIONS: [Condition; 4] =
    [Condition::Up, Condition::Connecting, Condition::Down, Condition::Disabled];

fn render(snapshot: &MetricsSnapshot, desired_generation: u64, expiries: &[Expiry]) -> String {
    let mut text = Exposition::default();
    text.one("culvert_desired_generation", "gauge", "Generation of the desired state.", desired_generation);
    text.one("culvert_applied_generation", "gauge", "Generation that runs.", snapshot.applied_generation);
    tunnels(&mut text, snapshot);
    ports(&mut text, snapshot);
    dataplane(&mut text, snapshot);
    sas(&mut text, snapshot);
    text.one("culvert_routes", "gauge", "Routes mirrored into the dataplane.", snapshot.routes);
    text.one("culvert_neighbours", "gauge", "Neighbours mirrored into the dataplane.", snapshot.neighbours);
    text.one(
        "culvert_netlink_overruns_total",
        "counter",
        "Times that the kernel's announcements overran and all was read again.",
        snapshot.netlink_overruns,
    );
    let expiry = "culvert_certificate_expiry_timestamp_seconds";
    text.family(expiry, "gauge", "When the first certificate of a resource expires, in seconds since 1970.");
    for (name, unix_secs) in expiries {
        text.sample(expiry, &[("certificate", name.as_str())], unix_secs);
    }
    text.0
}

/// Every configured tunnel is there in every state: one that is down must not vanish.
fn tunnels(text: &mut Exposition, snapshot: &MetricsSnapshot) {
    text.family("culvert_tunnel_state", "gauge", "1 for the state that a tunnel is in.");
    for tunnel in &snapshot.tunnels {
        for condition in CONDITIONS {
            let labels = [("tunnel", tunnel.name.as_str()), ("state", condition.name())];
            text.sample("culvert_tunnel_state", &labels, u8::from(condition == tunnel.state));
        }
    }
    text.family("culvert_flow_states", "gauge", "Flows of crypto maps by state.");
    for (condition, count) in &snapshot.flows {
        text.sample("culvert_flow_states", &[("state", condition.name())], count);
    }
    for (name, help, value) in TRAFFIC {
        let name = format!("culvert_tunnel_{name}_total");
        text.family(&name, "counter", help);
        for tunnel in &snapshot.tunnels {
            text.sample(&name, &[("tunnel", &tunnel.name)], value(&tunnel.traffic));
        }
    }
}

fn ports(text: &mut Exposition, snapshot: &MetricsSnapshot) {
    for (name, help, value) in TRAFFIC {
        let name = format!("culvert_interface_{name}_total");
        text.family(&name, "counter", help);
        for port in &snapshot.ports {
            text.sample(&name, &[("interface", &port.name)], value(&port.traffic));
        }
    }
}

fn dataplane(text: &mut Exposition, snapshot: &MetricsSnapshot) {
    text.family("culvert_drops_total", "counter", "Packets dropped, by reason.");
    for drop in &snapshot.drops {
        text.sample("culvert_drops_total", &[("reason", drop.reason)], drop.packets);
    }
    text.family("culvert_worker_events_total", "counter", "What a worker counted.");
    for worker in &snapshot.workers {
        let index = worker.worker.to_string();
        for counter in &worker.counters {
            let labels = [("worker", index.as_str()), ("event", counter.name)];
            text.sample("culvert_worker_events_total", &labels, counter.value);
        }
    }
    let status = &snapshot.dataplane;
    text.one("culvert_dataplane_up", "gauge", "1 while its heartbeat moves.", u8::from(status.alive));
    text.one(
        "culvert_dataplane_attaches_total",
        "counter",
        "How many times a dataplane has attached to the shared memory.",
        status.epoch,
    );
    text.one("culvert_dataplane_workers", "gauge", "Workers.", status.workers);
    text.one(
        "culvert_dataplane_events_lost_total",
        "counter",
        "Events that found their ring full.",
        status.events_lost,
    );
    text.family("culvert_dataplane_info", "gauge", "What the dataplane runs on.");
    let huge_pages = if status.huge_pages { "yes" } else { "no" };
    let labels =
        [("engine", status.engine.as_str()), ("huge_pages", huge_pages), ("poll", status.poll.as_str())];
    text.sample("culvert_dataplane_info", &labels, 1);
}

fn sas(text: &mut Exposition, snapshot: &MetricsSnapshot) {
    text.one("culvert_isakmp_sas", "gauge", "IKE SAs.", snapshot.isakmp_sas);
    text.family("culvert_insecure_sas", "gauge", "SAs that use what `allow_insecure` had to name.");
    for (what, count) in &snapshot.insecure_isakmp_sas {
        text.sample("culvert_insecure_sas", &[("kind", "isakmp"), ("algorithm", what)], count);
    }
    let mut ipsec = BTreeMap::<&str, u64>::new();
    for what in snapshot.ipsec_sas.iter().flat_map(|sa| &sa.insecure) {
        *ipsec.entry(what).or_default() += 1;
    }
    for (what, count) in ipsec {
        text.sample("culvert_insecure_sas", &[("kind", "ipsec"), ("algorithm", what)], count);
    }
    text.family("culvert_ike_events_total", "counter", "What the IKE engine counted.");
    for counter in &snapshot.ike {
        text.sample("culvert_ike_events_total", &[("event", &counter.name)], counter.value);
    }
    type OfSa = fn(&control::view::IpsecSa) -> u64;
    let families: [(&str, &str, OfSa); 5] = [
        ("packets", "Packets that an IPsec SA passed.", |sa| sa.packets),
        ("bytes", "Bytes that an IPsec SA passed.", |sa| sa.bytes),
        ("auth_failed", "Packets with a wrong ICV.", |sa| sa.auth_failed),
        ("replayed", "Packets whose sequence number was seen before.", |sa| {
            sa.replay.map_or(0, |it| it.replayed)
        }),
        ("late", "Packets left of the replay window.", |sa| sa.replay.map_or(0, |it| it.late)),
    ];
    for (name, help, value) in families {
        let name = format!("culvert_ipsec_sa_{name}_total");
        text.family(&name, "counter", help);
        for sa in &snapshot.ipsec_sas {
            let direction = match sa.direction {
                Direction::Inbound => "inbound",
                Direction::Outbound => "outbound",
            };
            let labels = [("owner", sa.owner.as_str()), ("direction", direction), ("spi", sa.spi.as_str())];
            text.sample(&name, &labels, value(sa));
        }
    }
}

type OfTraffic = fn(&control::view::Traffic) -> u64;

const TRAFFIC: [(&str, &str, OfTraffic); 5] = [
    ("rx_packets", "Packets received.", |traffic| traffic.rx_packets),
    ("rx_bytes", "Bytes received.", |traffic| traffic.rx_bytes),
    ("tx_packets", "Packets sent.", |traffic| traffic.tx_packets),
    ("tx_bytes", "Bytes sent.", |traffic| traffic.tx_bytes),
    ("drops", "Packets dropped.", |traffic| traffic.drops),
];

/// Text in the making. Writing to a string can't fail, so the results are dropped.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use control::view::{DropMetric, Traffic, TunnelMetrics};

    use super::*;

    fn snapshot() -> MetricsSnapshot {
        let mut snapshot = control::handle().0.metrics_snapshot();
        snapshot.tunnels = vec![TunnelMetrics {
            name: "gre1".to_owned(),
            state: Condition::Down,
            traffic: Traffic { tx_packets: 7, ..Traffic::default() },
        }];
        snapshot.insecure_isakmp_sas = BTreeMap::from([("sha1", 2)]);
        snapshot.drops = vec![DropMetric { reason: "no_sa", description: "No SA.", packets: 3 }];
        snapshot
    }

    #[test]
    fn a_tunnel_that_is_down_does_not_vanish() {
        let text = render(&snapshot(), 9, &[("gw".to_owned(), 1_780_315_200)]);
        assert!(
            text.contains("culvert_certificate_expiry_timestamp_seconds{certificate=\"gw\"} 1780315200\n"),
            "{text}"
        );
        for line in [
            "culvert_tunnel_state{tunnel=\"gre1\",state=\"down\"} 1",
            "culvert_tunnel_state{tunnel=\"gre1\",state=\"up\"} 0",
            "culvert_tunnel_tx_packets_total{tunnel=\"gre1\"} 7",
            "culvert_drops_total{reason=\"no_sa\"} 3",
            "culvert_insecure_sas{kind=\"isakmp\",algorithm=\"sha1\"} 2",
            "culvert_desired_generation 9",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn each_family_is_declared_once_and_before_its_samples() {
        let text = render(&snapshot(), 9, &[]);
        let mut declared = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(declared.insert(name.to_owned()), "{name} twice");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(declared.contains(name), "{name} undeclared");
            }
        }
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
