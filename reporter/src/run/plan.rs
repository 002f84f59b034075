//! The plan of a run: which stages, with how many connections, how fast and how long.
//!
//! One pure function decides, from what was asked for; no other file holds a duration or a rate.
//!
//! | profile | stage | connections | requests/s | held |
//! |---|---|---|---|---|
//! | quick | baseline | 100 | 200 | 5 s |
//! | quick | stress below the top | 1K, 10K, 50K, 100K | by size | 10 s |
//! | quick | stress at the top | N | by size | until each session has had its turn, at least 10 s |
//! | quick | failover, update, scaling | N | as the top | steps with 5 s between them |
//! | full | baseline | 100 | 200 | 5 min |
//! | full | stress below the top | as quick | by size | 10 min |
//! | full | stress at the top | N | by size | 40 min |
//! | full | failover, update, scaling | N | as the top | steps with 3 min between them |
//!
//! "By size": 1,000/s up to 1K connections, 2,000/s up to 10K, 3,000/s up to 50K, 3,500/s above
//! and in the stages with N connections, and never less than it takes for every session to be asked
//! within 95 % of its heartbeat. No connection is asked more than 100 times a second.

use super::record::StageKind;
use crate::clock::SECOND_NS;
use crate::cluster::Disturbance;
use crate::folder::count_label;

const MINUTE_NS: u64 = 60 * SECOND_NS;
const BASELINE_CONNECTIONS: u64 = 100;
const BASELINE_RATE_PER_S: f64 = 200.0;
const STRESS_CONNECTIONS: [u64; 4] = [1_000, 10_000, 50_000, 100_000];
const RATE_BY_CONNECTIONS: [(u64, f64); 4] =
    [(1_000, 1_000.0), (10_000, 2_000.0), (50_000, 3_000.0), (u64::MAX, 3_500.0)];
/// Where the thresholds are judged there must be load enough to meet them.
const TOP_RATE_PER_S: f64 = 3_500.0;
/// Requests of one connection wait for each other, so that a few of them cannot carry the top rate.
const RATE_A_CONNECTION_PER_S: f64 = 100.0;
/// Share of the heartbeat interval within which the rate reaches every session once.
const HEARTBEAT_SHARE: f64 = 0.95;
/// What a replica opens beside its sessions: listeners, logs, event loops, health checks.
pub const NOFILE_MARGIN: u64 = 512;

/// How long a run takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Everything once, in minutes: a laptop or a CI runner.
    Quick,
    /// The two-hour run on dedicated hosts.
    Full,
}

impl Profile {
    /// The name in options and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    fn times(self) -> &'static Times {
        match self {
            Self::Quick => &QUICK,
            Self::Full => &FULL,
        }
    }
}

struct Times {
    ramp_per_s: f64,
    warmup_ns: u64,
    baseline_ns: u64,
    stress_ns: u64,
    top_ns: u64,
    steady_ns: u64,
}

const QUICK: Times = Times {
    ramp_per_s: 8_000.0,
    warmup_ns: SECOND_NS,
    baseline_ns: 5 * SECOND_NS,
    stress_ns: 10 * SECOND_NS,
    top_ns: 10 * SECOND_NS,
    steady_ns: 5 * SECOND_NS,
};

const FULL: Times = Times {
    ramp_per_s: 5_000.0,
    warmup_ns: 30 * SECOND_NS,
    baseline_ns: 5 * MINUTE_NS,
    stress_ns: 10 * MINUTE_NS,
    top_ns: 40 * MINUTE_NS,
    steady_ns: 3 * MINUTE_NS,
};

/// What was asked for, as far as the plan depends on it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How long.
    pub profile: Profile,
    /// Connections of the top stage, at least 1.
    pub connections: u64,
    /// Replicas at the start, at least 1.
    pub replicas: u32,
    /// Requests a second of every stage above the baseline, in place of the rate by size.
    pub rate_per_s: Option<f64>,
    /// Interval within which a session must answer to count as alive.
    pub heartbeat_ns: u64,
    /// Why replicas can be neither killed nor scaled; none if they can.
    pub fixed: Option<String>,
    /// What befalls the cluster in the failover stage; none: there is no such stage.
    pub failover: Option<Blow>,
    /// Whether every replica is replaced in a stage of its own.
    pub rolling_update: bool,
    /// Whether the number of replicas is changed.
    pub scaling: bool,
}

/// What befalls the cluster while connections are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// One replica is killed.
    Kill,
    /// Several replicas go at once.
    Many(Disturbance),
}

impl Blow {
    /// The name in marks.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Many(Disturbance::NodeDrain) => "node_drain",
            Self::Many(Disturbance::NodeLoss) => "node_loss",
            Self::Many(Disturbance::RollingUpdate) => "rolling_update",
        }
    }

    fn expected_ns(self) -> u64 {
        match self {
            Self::Kill => 5 * SECOND_NS,
            Self::Many(Disturbance::NodeDrain) => 10 * SECOND_NS,
            Self::Many(Disturbance::NodeLoss) => 20 * SECOND_NS,
            Self::Many(Disturbance::RollingUpdate) => MINUTE_NS,
        }
    }

    /// How long replicas and sessions may take to be all there again.
    fn recovery_ns_max(self) -> u64 {
        match self {
            Self::Kill => MINUTE_NS,
            // Two minutes for a node that stops by its grace periods or is missed by heartbeats;
            // an update goes through all replicas, a few at a time, with pauses.
            Self::Many(Disturbance::NodeDrain | Disturbance::NodeLoss) => 2 * MINUTE_NS,
            Self::Many(Disturbance::RollingUpdate) => 10 * MINUTE_NS,
        }
    }
}

/// One stage: one run of the generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Unique in the plan, such as `stress-10k`.
    pub name: String,
    /// What it is for.
    pub kind: StageKind,
    /// Connections to hold.
    pub connections: u64,
    /// Requests a second over all of them.
    pub rate_per_s: f64,
    /// New connections a second.
    pub ramp_per_s: f64,
    /// Time after the ramp that does not count.
    pub warmup_ns: u64,
    /// What happens while the connections are held.
    pub steps: Steps,
    /// Why it will not run.
    pub skipped: Option<String>,
}

/// What happens while the connections are held.
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// Nothing but requests, for this long.
    Hold {
        /// Duration of the measured phase.
        hold_ns: u64,
    },
    /// Something befalls the cluster, then everything must come back.
    Failover {
        /// What.
        blow: Blow,
        /// Quiet time before it and after the recovery.
        steady_ns: u64,
        /// How long the replicas and the sessions may take to come back.
        recovery_ns_max: u64,
    },
    /// Replicas are added, then taken away.
    Scaling {
        /// Replicas after the first step.
        up: u32,
        /// Replicas after the second.
        down: u32,
        /// Quiet time before, between and after the steps.
        steady_ns: u64,
        /// How long the sessions may take to spread evenly, or to move away.
        move_ns_max: u64,
    },
}

/// All stages of a run in their order. Stages that cannot run are there with their reason.
pub fn plan(wanted: &Wanted) -> Vec<Stage> {
    let times = wanted.profile.times();
    let mut stages = vec![Stage {
        name: "baseline".to_owned(),
        kind: StageKind::Baseline,
        connections: BASELINE_CONNECTIONS.min(wanted.connections),
        rate_per_s: wanted.rate_per_s.map_or(BASELINE_RATE_PER_S, |r| r.min(BASELINE_RATE_PER_S)),
        ramp_per_s: times.ramp_per_s,
        warmup_ns: times.warmup_ns,
        steps: Steps::Hold { hold_ns: times.baseline_ns },
        skipped: None,
    }];
    let below = STRESS_CONNECTIONS.into_iter().filter(|&c| c < wanted.connections);
    for connections in below.chain([wanted.connections]) {
        stages.push(stress(wanted, times, connections));
    }
    if let Some(blow) = wanted.failover {
        stages.push(disturbed(wanted, times, "failover", StageKind::Failover, blow));
    }
    if wanted.rolling_update {
        let blow = Blow::Many(Disturbance::RollingUpdate);
        stages.push(disturbed(wanted, times, "rolling-update", StageKind::Update, blow));
    }
    if wanted.scaling {
        let (up, down) = scaling_counts(wanted.replicas);
        stages.push(Stage {
            name: "scaling".to_owned(),
            kind: StageKind::Scaling,
            steps: Steps::Scaling { up, down, steady_ns: times.steady_ns, move_ns_max: MINUTE_NS },
            skipped: wanted.fixed.clone(),
            ..stress(wanted, times, wanted.connections)
        });
    }
    stages
}

fn disturbed(wanted: &Wanted, times: &Times, name: &str, kind: StageKind, blow: Blow) -> Stage {
    let recovery_ns_max = blow.recovery_ns_max();
    Stage {
        name: name.to_owned(),
        kind,
        steps: Steps::Failover { blow, steady_ns: times.steady_ns, recovery_ns_max },
        skipped: wanted.fixed.clone(),
        ..stress(wanted, times, wanted.connections)
    }
}

fn stress(wanted: &Wanted, times: &Times, connections: u64) -> Stage {
    let top = connections == wanted.connections;
    let rate_per_s =
        wanted.rate_per_s.unwrap_or_else(|| rate_by_size(connections, wanted.heartbeat_ns, top));
    let hold_ns = if top {
        let turn_s = connections as f64 / rate_per_s.max(f64::MIN_POSITIVE);
        let heartbeat_s = wanted.heartbeat_ns as f64 / SECOND_NS as f64;
        // A rate too low to reach every session within the heartbeat reaches it never in time;
        // a longer hold would not help.
        let turn_ns = (turn_s.min(heartbeat_s) * 1.05 * SECOND_NS as f64) as u64;
        times.top_ns.max(turn_ns)
    } else {
        times.stress_ns
    };
    Stage {
        name: format!("stress-{}", count_label(connections)),
        kind: StageKind::Stress,
        connections,
        rate_per_s,
        ramp_per_s: times.ramp_per_s,
        warmup_ns: times.warmup_ns,
        steps: Steps::Hold { hold_ns },
        skipped: None,
    }
}

/// Requests a second for so many connections, so that each is asked within its heartbeat.
fn rate_by_size(connections: u64, heartbeat_ns: u64, top: bool) -> f64 {
    let by_size = RATE_BY_CONNECTIONS
        .iter()
        .find(|(up_to, _)| connections <= *up_to)
        .map_or(0.0, |(_, rate_per_s)| *rate_per_s);
    let wanted = if top { by_size.max(TOP_RATE_PER_S) } else { by_size };
    let heartbeat_s = heartbeat_ns.max(1) as f64 / SECOND_NS as f64;
    let alive = (connections as f64 / (heartbeat_s * HEARTBEAT_SHARE)).ceil();
    wanted.min(connections as f64 * RATE_A_CONNECTION_PER_S).max(alive)
}

/// 12 -> (16, 8): a third more, a third less, and always a change of at least one.
pub fn scaling_counts(replicas: u32) -> (u32, u32) {
    let step = replicas.div_ceil(3);
    (replicas + step, (replicas - step.min(replicas)).max(1))
}

/// What the plan will take in nanoseconds, when every step takes about as long as it should.
pub fn expected_ns(stages: &[Stage]) -> u64 {
    stages.iter().filter(|stage| stage.skipped.is_none()).map(Stage::expected_ns).sum()
}

impl Stage {
    /// Time for all connections to be made.
    pub fn ramp_ns(&self) -> u64 {
        (self.connections as f64 / self.ramp_per_s * SECOND_NS as f64) as u64
    }

    fn expected_ns(&self) -> u64 {
        let ramp_ns = self.ramp_ns();
        let held_ns = match self.steps {
            Steps::Hold { hold_ns } => hold_ns,
            Steps::Failover { blow, steady_ns, .. } => 2 * steady_ns + blow.expected_ns(),
            Steps::Scaling { steady_ns, .. } => 3 * steady_ns + ramp_ns + 5 * SECOND_NS,
        };
        // Ending the sessions takes about as long as making them.
        2 * ramp_ns + self.warmup_ns + held_ns + SECOND_NS
    }

    /// The fewest replicas that share this stage's connections at any time.
    fn fewest_replicas(&self, replicas: u32) -> u32 {
        match self.steps {
            Steps::Hold { .. } => replicas,
            Steps::Failover { .. } => (replicas - 1).max(1),
            Steps::Scaling { down, .. } => down.min(replicas),
        }
    }
}

/// Checks that each replica may open a descriptor for each of its connections in every stage.
///
/// # Errors
/// A sentence that names the stage, the limit and what to change.
pub fn check_descriptors(stages: &[Stage], replicas: u32, nofile_hard: u64) -> Result<(), String> {
    for stage in stages.iter().filter(|stage| stage.skipped.is_none()) {
        let share = u64::from(stage.fewest_replicas(replicas));
        let need = stage.connections.div_ceil(share) + NOFILE_MARGIN;
        if need > nofile_hard {
            let room = nofile_hard.saturating_sub(NOFILE_MARGIN).max(1);
            // Scaling down leaves two thirds of the replicas.
            let enough = (stage.connections.div_ceil(room) * 3).div_ceil(2) + 1;
            return Err(format!(
                "stage {}: {} connections on {share} replicas need {need} descriptors a replica, \
                 and this host's hard limit is {nofile_hard} (ulimit -Hn); raise it in \
                 /etc/security/limits.conf (nofile), or use --replicas {enough}, \
                 or a smaller --connections",
                stage.name, stage.connections
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(profile: Profile, connections: u64) -> Wanted {
        Wanted {
            profile,
            connections,
            replicas: 12,
            rate_per_s: None,
            heartbeat_ns: 30 * SECOND_NS,
            fixed: None,
            failover: Some(Blow::Kill),
            rolling_update: false,
            scaling: true,
        }
    }

    fn names(stages: &[Stage]) -> Vec<&str> {
        stages.iter().map(|stage| stage.name.as_str()).collect()
    }

    #[test]
    fn quick_walks_all_stages_within_four_minutes() {
        let stages = plan(&wanted(Profile::Quick, 100_000));
        assert_eq!(
            names(&stages),
            [
                "baseline",
                "stress-1k",
                "stress-10k",
                "stress-50k",
                "stress-100k",
                "failover",
                "scaling"
            ]
        );
        let expected_ns = expected_ns(&stages);
        assert!(expected_ns < 4 * MINUTE_NS, "{} s", expected_ns / SECOND_NS);
    }

    #[test]
    fn full_takes_about_two_hours() {
        let minutes = expected_ns(&plan(&wanted(Profile::Full, 100_000))) / MINUTE_NS;
        assert!((85..=125).contains(&minutes), "{minutes} min");
    }

    #[test]
    fn the_top_stage_is_the_number_asked_for() {
        let stages = plan(&wanted(Profile::Quick, 20_000));
        assert_eq!(names(&stages)[1..4], ["stress-1k", "stress-10k", "stress-20k"]);
        assert_eq!(
            names(&plan(&wanted(Profile::Quick, 250_000)))[4..6],
            ["stress-100k", "stress-250k"]
        );
        let few = plan(&wanted(Profile::Quick, 20));
        assert!(few.iter().all(|stage| stage.connections == 20));
    }

    #[test]
    fn every_session_at_the_top_is_asked_within_its_heartbeat() {
        for connections in [1_000, 10_000, 100_000, 1_000_000] {
            let stages = plan(&wanted(Profile::Quick, connections));
            let top = stages.iter().rfind(|stage| stage.kind == StageKind::Stress).expect("a top");
            let turn_s = connections as f64 / top.rate_per_s;
            assert!(turn_s < 30.0, "{connections}: a turn takes {turn_s} s");
            let Steps::Hold { hold_ns } = top.steps else { panic!("stress holds") };
            assert!(hold_ns as f64 / SECOND_NS as f64 >= turn_s, "{connections}");
        }
    }

    #[test]
    fn the_stages_that_are_judged_have_the_top_rate() {
        let rates = |connections| {
            let stages = plan(&wanted(Profile::Quick, connections));
            stages.iter().map(|stage| stage.rate_per_s).collect::<Vec<_>>()
        };
        assert_eq!(rates(1_000), [200.0, 3_500.0, 3_500.0, 3_500.0]);
        assert_eq!(rates(10_000), [200.0, 1_000.0, 3_500.0, 3_500.0, 3_500.0]);
        assert_eq!(rates(20), [200.0, 2_000.0, 2_000.0, 2_000.0]);
    }

    #[test]
    fn a_rate_of_the_user_is_the_rate_but_not_of_the_baseline() {
        let stages = plan(&Wanted { rate_per_s: Some(5_000.0), ..wanted(Profile::Quick, 10_000) });
        assert_eq!(stages[0].rate_per_s, BASELINE_RATE_PER_S);
        assert!(stages[1..].iter().all(|stage| stage.rate_per_s == 5_000.0));
    }

    #[test]
    fn replicas_that_cannot_be_driven_skip_failover_and_scaling_by_name() {
        let fixed = Some("the servers were started by somebody else".to_owned());
        let stages = plan(&Wanted { fixed: fixed.clone(), ..wanted(Profile::Quick, 1_000) });
        for stage in &stages {
            let driven = matches!(stage.kind, StageKind::Failover | StageKind::Scaling);
            assert_eq!(stage.skipped.is_some(), driven, "{}", stage.name);
        }
    }

    #[test]
    fn stages_that_disturb_are_those_that_were_asked_for() {
        let base = wanted(Profile::Quick, 1_000);
        let bare = plan(&Wanted { failover: None, scaling: false, ..base.clone() });
        assert_eq!(names(&bare), ["baseline", "stress-1k"]);
        let failover = Some(Blow::Many(Disturbance::NodeLoss));
        let all = plan(&Wanted { failover, rolling_update: true, ..base });
        assert_eq!(names(&all)[2..], ["failover", "rolling-update", "scaling"]);
        let Steps::Failover { blow, recovery_ns_max, .. } = all[3].steps else {
            panic!("an update")
        };
        assert_eq!((blow.name(), recovery_ns_max), ("rolling_update", 10 * MINUTE_NS));
        assert!(all[2..].iter().all(|stage| stage.kind.is_disturbed()));
    }

    #[test]
    fn scaling_goes_a_third_up_and_a_third_down() {
        assert_eq!(scaling_counts(12), (16, 8));
        assert_eq!(scaling_counts(3), (4, 2));
        assert_eq!(scaling_counts(2), (3, 1));
        assert_eq!(scaling_counts(1), (2, 1));
    }

    #[test]
    fn a_descriptor_limit_that_scaling_down_would_break_is_named() {
        let stages = plan(&wanted(Profile::Quick, 200_000));
        let message = check_descriptors(&stages, 12, 20_000).expect_err("25,000 on each of 8");
        assert!(message.contains("scaling") && message.contains("25512"), "{message}");
        let enough = plan(&Wanted { replicas: 18, ..wanted(Profile::Quick, 200_000) });
        assert!(message.contains("--replicas 18"), "{message}");
        assert_eq!(check_descriptors(&enough, 18, 20_000), Ok(()));
        assert_eq!(check_descriptors(&plan(&wanted(Profile::Quick, 100_000)), 12, 20_000), Ok(()));
    }
}
