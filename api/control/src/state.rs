//! Whether a tunnel or a flow carries traffic, and if not, why not: a pure judgement over facts.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::view::Condition;

/// What is known of a tunnel or a flow.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The operator wants it.
    pub(crate) enabled: bool,
    /// Why it could not be compiled, or not as written.
    pub(crate) problem: Option<String>,
    /// Why it is closed for recursive routing.
    pub(crate) closed: Option<String>,
    /// The dataplane shows that it lives.
    pub(crate) dataplane_alive: bool,
    /// What the dataplane made of its record.
    pub(crate) verdict: crate::Verdict,
    /// Why the port that it leaves by does not run.
    pub(crate) port: Option<String>,
    /// There is a way to the far end.
    pub(crate) has_route: bool,
    /// The far end.
    pub(crate) peer: String,
    /// What protects it.
    pub(crate) protection: Protection,
}

/// What protects it, and how far that is.
#[derive(Clone, Debug)]
pub(crate) enum Protection {
    /// Nothing, by the operator's word.
    None,
    /// SAs of its own, or of the flow of a crypto map that matches it.
    Sas {
        /// An outbound SA is in use: both halves of its pair were acknowledged.
        sending: bool,
        /// What IKE last said against it.
        cause: Option<String>,
    },
    /// A crypto map should, and none of its entries does.
    Unmatched,
}

/// The judgement.
pub(crate) fn judge(facts: &Facts) -> (Condition, Option<String>) {
    let down = |cause: String| (Condition::Down, Some(cause));
    if !facts.enabled {
        return (Condition::Disabled, Some("it is disabled".to_owned()));
    }
    if let Some(cause) = &facts.closed {
        return down(cause.clone());
    }
    if facts.verdict == crate::Verdict::Absent
        && let Some(problem) = &facts.problem
    {
        return down(problem.clone());
    }
    if !facts.dataplane_alive {
        return down("the dataplane is not running".to_owned());
    }
    if let crate::Verdict::Refused(refusal) = facts.verdict {
        return down(format!("the dataplane refused it: {}", refusal.description()));
    }
    if let Some(port) = &facts.port {
        return down(port.clone());
    }
    let acknowledged = facts.verdict == crate::Verdict::Applied;
    match &facts.protection {
        Protection::Sas { sending: true, .. } if acknowledged => return (Condition::Up, None),
        Protection::None if acknowledged && facts.has_route => return (Condition::Up, None),
        Protection::Unmatched => {
            return down("no entry of a crypto map matches it, so its packets are dropped".to_owned());
        }
        _ => {}
    }
    if let (Protection::Sas { .. }, Some(problem)) = (&facts.protection, &facts.problem) {
        return down(problem.clone());
    }
    if !facts.has_route {
        return down(format!("there is no route to {}", facts.peer));
    }
    match &facts.protection {
        Protection::Sas { sending: false, cause: Some(cause) } => down(cause.clone()),
        Protection::Sas { sending: false, cause: None } => {
            (Condition::Connecting, Some(format!("SAs are being negotiated with {}", facts.peer)))
        }
        _ => (Condition::Connecting, Some("the dataplane is taking it over".to_owned())),
    }
}

/// A condition with its cause, and since when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) condition: Condition,
    pub(crate) cause: Option<String>,
    pub(crate) since: OffsetDateTime,
}

/// The standings of all objects of one kind.
pub(crate) struct Standings<K> {
    of: BTreeMap<K, Standing>,
}

impl<K> Default for Standings<K> {
    fn default() -> Self {
        Self { of: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Standings<K> {
    /// Takes in a judgement. Returns the standing, and the former condition when it changed.
    pub(crate) fn note(
        &mut self,
        key: &K,
        (condition, cause): (Condition, Option<String>),
        now: OffsetDateTime,
    ) -> (Standing, Option<Option<Condition>>) {
        let former = self.of.get(key);
        let since = former.filter(|former| former.condition == condition).map_or(now, |former| former.since);
        let changed = (former.map(|former| former.condition) != Some(condition))
            .then(|| former.map(|former| former.condition));
        let standing = Standing { condition, cause, since };
        self.of.insert(key.clone(), standing.clone());
        (standing, changed)
    }

    /// Forgets all others.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.of.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;
    use shm::Refusal;
    use std::time::Duration;

    fn facts() -> Facts {
        Facts {
            enabled: true,
            problem: None,
            closed: None,
            dataplane_alive: true,
            verdict: Verdict::Applied,
            port: None,
            has_route: true,
            peer: "192.0.2.2".to_owned(),
            protection: Protection::Sas { sending: true, cause: None },
        }
    }

    fn says(facts: &Facts) -> (Condition, String) {
        let (condition, cause) = judge(facts);
        (condition, cause.unwrap_or_default())
    }

    #[test]
    fn up_needs_an_acknowledged_record_and_an_acknowledged_pair() {
        assert_eq!(says(&facts()), (Condition::Up, String::new()));
        let pending = Facts { verdict: Verdict::Pending, ..facts() };
        assert_eq!(says(&pending).0, Condition::Connecting);
        let negotiating = Facts { protection: Protection::Sas { sending: false, cause: None }, ..facts() };
        assert_eq!(
            says(&negotiating),
            (Condition::Connecting, "SAs are being negotiated with 192.0.2.2".to_owned())
        );
    }

    #[test]
    fn each_obstacle_is_named_and_the_nearest_one_first() {
        let cause = Some("no proposal in common".to_owned());
        let refused = Facts { protection: Protection::Sas { sending: false, cause }, ..facts() };
        assert_eq!(says(&refused).1, "no proposal in common");
        let unreachable = Facts { has_route: false, ..refused.clone() };
        assert_eq!(says(&unreachable).1, "there is no route to 192.0.2.2");
        let no_port = Facts { port: Some("interface black: the link is down".to_owned()), ..unreachable };
        assert_eq!(says(&no_port).1, "interface black: the link is down");
        let no_space = Facts { verdict: Verdict::Refused(Refusal::NoSpace), ..no_port };
        assert!(says(&no_space).1.starts_with("the dataplane refused it: "));
        let dead = Facts { dataplane_alive: false, ..no_space };
        assert_eq!(says(&dead).1, "the dataplane is not running");
        let closed = Facts { closed: Some("recursive routing".to_owned()), ..dead };
        assert_eq!(says(&closed).1, "recursive routing");
        let disabled = Facts { enabled: false, ..closed };
        assert_eq!(says(&disabled).0, Condition::Disabled);
    }

    #[test]
    fn a_problem_that_does_not_keep_it_from_running_does_not_take_it_down() {
        let smaller =
            Facts { problem: Some("its MTU is more than fits; 1400 is used".to_owned()), ..facts() };
        assert_eq!(says(&smaller).0, Condition::Up);
        let keyless = Facts { protection: Protection::Sas { sending: false, cause: None }, ..smaller };
        assert_eq!(says(&keyless).0, Condition::Down);
    }

    #[test]
    fn a_tunnel_in_clear_needs_a_route_and_one_that_nothing_matches_is_down() {
        let clear = Facts { protection: Protection::None, ..facts() };
        assert_eq!(says(&clear).0, Condition::Up);
        assert_eq!(says(&Facts { has_route: false, ..clear }).0, Condition::Down);
        assert_eq!(says(&Facts { protection: Protection::Unmatched, ..facts() }).0, Condition::Down);
    }

    #[test]
    fn since_moves_with_the_condition_and_not_with_the_cause() {
        let mut standings = Standings::default();
        let first = OffsetDateTime::UNIX_EPOCH;
        let later = first + Duration::from_secs(5);
        let down = |cause: &str| (Condition::Down, Some(cause.to_owned()));
        assert_eq!(standings.note(&"t", down("a"), first).1, Some(None));
        let (standing, changed) = standings.note(&"t", down("b"), later);
        assert_eq!((standing.since, standing.cause.as_deref(), changed), (first, Some("b"), None));
        let (standing, changed) = standings.note(&"t", (Condition::Up, None), later);
        assert_eq!((standing.since, changed), (later, Some(Some(Condition::Down))));
    }
}
