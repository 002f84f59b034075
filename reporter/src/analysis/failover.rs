//! Kills, other blows to the cluster, and scale commands: which events belong together, when the service was whole again, and
//! the windows in which failed requests count for them. Pure functions on the run's events.

use super::frame::{Span, Window};
use super::sessions::{Kill, Victims};
use super::tally::WindowTally;
use crate::results::{FailoverResult, ScalingResult};
use crate::run::record::{EventRecord, EventRecordKind};

/// One kill, or another blow to the cluster, and what followed.
#[derive(Clone, Debug, PartialEq)]
pub struct KillFacts {
    /// `kill`, `node_drain`, `node_loss` or `rolling_update`.
    pub cause: &'static str,
    /// The killed replica's address, the node's name, or the service's.
    pub replica: String,
    /// Replicas that ended by it.
    pub replicas: u64,
    /// Just before the signal or the command was sent.
    pub at_ns: u64,
    /// The replica's target in the log, if it has one of its own.
    pub target: Option<u16>,
    /// When its process was started again; of several, the last one.
    pub started_ns: Option<u64>,
    /// When its health endpoint answered again; of several, when the last one was healthy and the
    /// last old one had ended.
    pub healthy_ns: Option<u64>,
    /// The end of the stage.
    pub stage_end_ns: u64,
    /// What became of its sessions.
    pub victims: Victims,
}

/// One scale command and what followed.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleFacts {
    /// Replicas before.
    pub from: u32,
    /// Replicas wanted.
    pub to: u32,
    /// When it was given.
    pub at_ns: u64,
    /// When the replicas were there, or gone.
    pub converged_ns: Option<u64>,
    /// When the sessions were spread.
    pub sessions_ns: Option<u64>,
}

/// The host of a target's URL, without its port.
pub fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

/// What each URL is called: its host, or its host with its port where several share a host.
pub fn names_of<'a>(urls: &[&'a str]) -> Vec<&'a str> {
    let shared = |host: &str| urls.iter().filter(|other| host_of(other) == host).count() > 1;
    let name = |url: &&'a str| {
        let host = host_of(url);
        match shared(host) {
            true => {
                let rest = url.split_once("://").map_or(*url, |(_, rest)| rest);
                rest.split(['/', '?']).next().unwrap_or(rest)
            }
            false => host,
        }
    };
    urls.iter().map(name).collect()
}

/// Whether a target of this name is that replica, whose own name may have a port that is left out
/// where no other target shares the host.
pub fn is_of(name: &str, replica: &str) -> bool {
    name == replica || name == host_of(replica)
}

/// What a blow is called; none if the event is none.
fn cause_of(kind: EventRecordKind) -> Option<&'static str> {
    match kind {
        EventRecordKind::Kill => Some("kill"),
        EventRecordKind::NodeDrain => Some("node_drain"),
        EventRecordKind::NodeLoss => Some("node_loss"),
        EventRecordKind::UpdateCommand => Some("rolling_update"),
        EventRecordKind::ReplicaStart
        | EventRecordKind::ReplicaHealthy
        | EventRecordKind::Recovered
        | EventRecordKind::ReplicaExit
        | EventRecordKind::ScaleCommand
        | EventRecordKind::ScaleConverged
        | EventRecordKind::Drain
        | EventRecordKind::Stop
        | EventRecordKind::SessionsConverged
        | EventRecordKind::Mark => None,
    }
}

/// The kills and other blows among a stage's events.
pub fn kills(events: &[&EventRecord], targets: &[String], stage: Span) -> Vec<KillFacts> {
    let urls: Vec<&str> = targets.iter().map(String::as_str).collect();
    let names = names_of(&urls);
    let facts = |event: &&EventRecord| {
        let cause = cause_of(event.kind)?;
        Some(match event.kind {
            EventRecordKind::Kill => kill(cause, event, events, &names, stage),
            _ => blow(cause, event, events, stage),
        })
    };
    events.iter().filter_map(facts).collect()
}

fn kill(
    cause: &'static str,
    kill: &EventRecord,
    events: &[&EventRecord],
    names: &[&str],
    stage: Span,
) -> KillFacts {
    let of_replica = |kind: EventRecordKind| {
        events
            .iter()
            .find(|e| e.kind == kind && e.replica == kill.replica && e.at_ns >= kill.at_ns)
            .map(|e| e.at_ns)
    };
    let target = names.iter().position(|name| is_of(name, &kill.replica));
    KillFacts {
        cause,
        replica: kill.replica.clone(),
        replicas: 1,
        at_ns: kill.at_ns,
        target: target.and_then(|index| u16::try_from(index).ok()),
        started_ns: of_replica(EventRecordKind::ReplicaStart),
        healthy_ns: of_replica(EventRecordKind::ReplicaHealthy),
        stage_end_ns: stage.end_ns,
        victims: Victims::default(),
    }
}

/// One that concerns several replicas: what follows until the cluster was whole belongs to it.
fn blow(
    cause: &'static str,
    blow: &EventRecord,
    events: &[&EventRecord],
    stage: Span,
) -> KillFacts {
    let recovered =
        |e: &&&EventRecord| e.kind == EventRecordKind::Recovered && e.at_ns >= blow.at_ns;
    let recovered_ns = events.iter().find(recovered).map(|e| e.at_ns);
    let until_ns = recovered_ns.unwrap_or(stage.end_ns);
    let inside =
        || events.iter().filter(|event| blow.at_ns <= event.at_ns && event.at_ns <= until_ns);
    let last = |kind: EventRecordKind| inside().filter(|e| e.kind == kind).map(|e| e.at_ns).max();
    let ended_ns = last(EventRecordKind::ReplicaExit);
    // The records' own times; the moment at which the driver saw it is later.
    let whole_ns = last(EventRecordKind::ReplicaHealthy).max(ended_ns).or(recovered_ns);
    KillFacts {
        cause,
        replica: blow.replica.clone(),
        replicas: inside().filter(|e| e.kind == EventRecordKind::ReplicaExit).count() as u64,
        at_ns: blow.at_ns,
        target: None,
        started_ns: last(EventRecordKind::ReplicaStart),
        healthy_ns: recovered_ns.and(whole_ns),
        stage_end_ns: stage.end_ns,
        victims: Victims::default(),
    }
}

/// The scale commands among a stage's events; what follows belongs to the command before it.
pub fn scales(events: &[&EventRecord], stage: Span) -> Vec<ScaleFacts> {
    let commands: Vec<&&EventRecord> =
        events.iter().filter(|event| event.kind == EventRecordKind::ScaleCommand).collect();
    let mut scales = Vec::new();
    for (number, command) in commands.iter().enumerate() {
        let until = commands.get(number + 1).map_or(stage.end_ns, |next| next.at_ns);
        let first = |kind: EventRecordKind| {
            events
                .iter()
                .find(|e| e.kind == kind && command.at_ns <= e.at_ns && e.at_ns < until)
                .map(|e| e.at_ns)
        };
        scales.push(ScaleFacts {
            from: command.from,
            to: command.to,
            at_ns: command.at_ns,
            converged_ns: first(EventRecordKind::ScaleConverged),
            sessions_ns: first(EventRecordKind::SessionsConverged),
        });
    }
    scales
}

/// Takes the sessions' fates and gives the windows: first those of the kills, then of the scales.
pub fn windows(
    kills: &mut [KillFacts],
    scales: &mut [ScaleFacts],
    victims: &[Victims],
    stage: Span,
) -> Vec<Window> {
    let mut windows = Vec::new();
    for (kill, victims) in kills.iter_mut().zip(victims) {
        kill.victims = *victims;
        let end_ns = kill.recovered_at_ns().unwrap_or(stage.end_ns).max(kill.at_ns) + 1;
        windows.push(Window { span: Span { start_ns: kill.at_ns, end_ns }, target: kill.target });
    }
    for scale in scales.iter() {
        let end = match (scale.converged_ns, scale.sessions_ns) {
            (Some(replicas), Some(sessions)) => replicas.max(sessions),
            (Some(replicas), None) => replicas,
            (None, _) => stage.end_ns,
        };
        let span = Span { start_ns: scale.at_ns, end_ns: end.max(scale.at_ns) + 1 };
        windows.push(Window { span, target: None });
    }
    windows
}

impl KillFacts {
    /// For following the sessions.
    pub fn for_sessions(&self) -> Kill {
        Kill { at_ns: self.at_ns, target: self.target }
    }

    /// The later of the last session's return and the replica's; none: never.
    pub fn recovered_at_ns(&self) -> Option<u64> {
        let healthy = self.healthy_ns?;
        if self.victims.lost == 0 {
            return Some(healthy);
        }
        self.victims.all_back_ns.map(|back| back.max(healthy))
    }

    /// For `results.json`, with the failed requests of its window.
    pub fn result(&self, stage: &str, failed: &WindowTally) -> FailoverResult {
        let since = |at_ns: u64| at_ns.saturating_sub(self.at_ns);
        let first_request = (failed.failed > 0).then_some(failed.first_ns);
        let first = [first_request, self.victims.first_loss_ns].into_iter().flatten().min();
        let sessions = match self.victims.lost {
            0 => None,
            _ => self.victims.all_back_ns.map(since),
        };
        FailoverResult {
            stage: stage.to_owned(),
            cause: self.cause.to_owned(),
            replica: self.replica.clone(),
            replicas: self.replicas,
            killed_at_ns: self.at_ns,
            first_error_ns: first.map(since),
            last_error_ns: (failed.failed > 0).then(|| since(failed.last_ns)),
            lost_requests: failed.failed,
            sessions_lost: self.victims.lost,
            sessions_reestablished: self.victims.back,
            sessions_recovered_ns: sessions,
            replica_started_ns: self.started_ns.map(since),
            replica_healthy_ns: self.healthy_ns.map(since),
            recovery_ns: self.recovered_at_ns().map(since),
            // What each replica held is known to the whole of the analysis only.
            balanced_ns: None,
            share_of: None,
            shares: Vec::new(),
            idle: Vec::new(),
        }
    }
}

impl ScaleFacts {
    /// For `results.json`, with the failed requests of its window.
    pub fn result(&self, stage: &str, failed: &WindowTally) -> ScalingResult {
        let since = |at_ns: u64| at_ns.saturating_sub(self.at_ns);
        ScalingResult {
            stage: stage.to_owned(),
            from: self.from,
            to: self.to,
            commanded_at_ns: self.at_ns,
            converged_ns: self.converged_ns.map(since),
            sessions_converged_ns: self.sessions_ns.map(since),
            failed_requests: failed.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGE: Span = Span { start_ns: 0, end_ns: 1_000 };

    fn event(at_ns: u64, kind: &str, replica: &str, from: u32, to: u32) -> EventRecord {
        serde_json::from_value(serde_json::json!({
            "at_ns": at_ns, "kind": kind, "replica": replica, "from": from, "to": to,
        }))
        .expect("an event")
    }

    fn killed(events: &[EventRecord]) -> KillFacts {
        let events: Vec<&EventRecord> = events.iter().collect();
        kills(&events, &["http://10.0.0.1:80/mcp".to_owned()], STAGE).remove(0)
    }

    #[test]
    fn hosts_are_found_in_urls_of_any_form() {
        for (url, host) in [
            ("http://127.0.0.12:8080/mcp", "127.0.0.12"),
            ("http://[::1]:8080/mcp", "::1"),
            ("127.0.0.1:5555", "127.0.0.1"),
            ("https://host/mcp?x=1:2", "host"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }

    #[test]
    fn recovery_is_the_later_of_sessions_and_replica() {
        let events = [
            event(10, "replica_healthy", "10.0.0.1", 0, 0),
            event(100, "kill", "10.0.0.1", 0, 0),
            event(150, "replica_healthy", "10.0.0.2", 0, 0),
            event(200, "replica_start", "10.0.0.1", 0, 0),
            event(300, "replica_healthy", "10.0.0.1", 0, 0),
        ];
        let mut kill = killed(&events);
        assert_eq!((kill.target, kill.healthy_ns), (Some(0), Some(300)));
        assert_eq!(kill.recovered_at_ns(), Some(300));
        kill.victims =
            Victims { lost: 2, back: 2, first_loss_ns: Some(101), all_back_ns: Some(400) };
        assert_eq!(kill.recovered_at_ns(), Some(400));
        let failed = WindowTally { failed: 3, first_ns: 120, last_ns: 390 };
        let result = kill.result("failover", &failed);
        assert_eq!((result.first_error_ns, result.last_error_ns), (Some(1), Some(290)));
        assert_eq!((result.recovery_ns, result.lost_requests), (Some(300), 3));
    }

    #[test]
    fn one_session_that_stays_away_means_never() {
        let events =
            [event(100, "kill", "10.0.0.1", 0, 0), event(300, "replica_healthy", "10.0.0.1", 0, 0)];
        let mut kill = killed(&events);
        kill.victims = Victims { lost: 2, back: 1, first_loss_ns: Some(101), all_back_ns: None };
        assert_eq!(kill.recovered_at_ns(), None);
        let mut kills = [kill];
        let victims = [kills[0].victims];
        let windows = windows(&mut kills, &mut [], &victims, STAGE);
        assert_eq!(windows[0].span.end_ns, STAGE.end_ns + 1, "it lasts to the end of the stage");
    }

    #[test]
    fn a_replica_that_never_comes_back_means_never() {
        assert_eq!(killed(&[event(100, "kill", "10.0.0.1", 0, 0)]).recovered_at_ns(), None);
    }

    #[test]
    fn a_lost_node_is_made_good_when_the_last_replica_is_healthy_by_its_record() {
        let events = [
            event(100, "node_loss", "node2", 0, 0),
            event(100, "replica_exit", "10.0.0.1", 0, 0),
            event(100, "replica_exit", "10.0.0.2", 0, 0),
            event(250, "replica_start", "10.0.0.8", 0, 0),
            event(260, "replica_start", "10.0.0.9", 0, 0),
            event(300, "replica_healthy", "10.0.0.9", 0, 0),
            event(310, "replica_healthy", "10.0.0.8", 0, 0),
            event(320, "recovered", "", 0, 0),
            event(900, "replica_healthy", "10.0.0.7", 0, 0),
        ];
        let kill = killed(&events);
        assert_eq!((kill.cause, kill.replicas, kill.target), ("node_loss", 2, None));
        assert_eq!((kill.started_ns, kill.healthy_ns), (Some(260), Some(310)));
        let never = killed(&events[..7]);
        assert_eq!(never.healthy_ns, None, "the driver never saw the cluster whole");
    }

    #[test]
    fn a_replica_with_a_port_in_its_name_is_found_where_it_has_its_host_alone() {
        assert!(is_of("10.1.0.2", "10.1.0.2:32768") && is_of("10.1.0.1:9", "10.1.0.1:9"));
        assert!(!is_of("10.1.0.1:9", "10.1.0.1:8") && !is_of("10.1.0.2", "10.1.0.20:9"));
        let kill = killed(&[event(100, "kill", "10.0.0.1:80", 0, 0)]);
        assert_eq!(kill.target, Some(0));
    }

    #[test]
    fn replicas_that_share_a_host_are_told_apart_by_their_ports() {
        let urls =
            ["http://10.1.0.1:32768/mcp", "http://10.1.0.1:32769/mcp", "http://10.1.0.2:80/"];
        assert_eq!(names_of(&urls), ["10.1.0.1:32768", "10.1.0.1:32769", "10.1.0.2"]);
    }

    #[test]
    fn a_convergence_belongs_to_the_command_before_it() {
        let events = [
            event(100, "scale_command", "", 12, 18),
            event(200, "scale_command", "", 18, 12),
            event(250, "scale_converged", "", 18, 12),
            event(260, "sessions_converged", "", 0, 0),
        ];
        let events: Vec<&EventRecord> = events.iter().collect();
        let mut scales = scales(&events, STAGE);
        assert_eq!((scales[0].converged_ns, scales[1].converged_ns), (None, Some(250)));
        let windows = windows(&mut [], &mut scales, &[], STAGE);
        assert_eq!(windows[0].span, Span { start_ns: 100, end_ns: 1_001 });
        assert_eq!(windows[1].span, Span { start_ns: 200, end_ns: 261 });
    }
}
