//! Each rule with facts that trigger it and facts that do not.

use super::*;
use crate::run::record::StageKind;

/// A stage in which nothing is wrong.
fn sound() -> StageFacts {
    StageFacts {
        name: "stress-10k".to_owned(),
        judged: true,
        exit_code: Some(0),
        held: true,
        response_p99_ns: Some(20_000_000),
        slip_p99_ns: Some(200_000),
        p99_limit_ns: 5e8,
        worker_cpu_share: Some(0.6),
        reap_lag_ns_max: Some(3_000_000),
        turn_ns_max: Some(4_000_000),
        debt_ns_max: Some(0),
        sent: 120_000,
        offered: 100_000,
        records: 120_000,
        logs: vec![log()],
        completions: 1_000_000,
        planned: 10_000,
        tcp_open_peak: Some(10_000),
        connects: 10_000,
        syn_retransmits: Some(0.0),
        listen_overflows: Some(0.0),
        host_busy_share: Some(0.7),
        host_steal_share: Some(0.0),
        shared_host: true,
        ..StageFacts::default()
    }
}

fn log() -> LogResult {
    LogResult {
        path: "logs/x.latlog".to_owned(),
        stage: "stress-10k".to_owned(),
        host: "h".to_owned(),
        requests: 120_000,
        events: 20_000,
        clock_offset_ns: 0,
        clock_error_ns: Some(0),
        clock_wrong_ns: 0,
        clock_drift_ns: Some(1_000),
        torn_tail_bytes: 0,
        skipped_bytes: 0,
        bad_blocks: 0,
        missing_blocks: 0,
        missing_requests: Some(0),
        ended: true,
        error: None,
    }
}

/// The rules that speak, with their weight.
fn spoken(change: impl FnOnce(&mut StageFacts)) -> Vec<(String, Severity)> {
    let mut facts = sound();
    change(&mut facts);
    stage(&facts).into_iter().map(|finding| (finding.rule, finding.severity)).collect()
}

fn only(rule: &str, severity: Severity) -> Vec<(String, Severity)> {
    vec![(rule.to_owned(), severity)]
}

#[test]
fn nothing_is_said_of_a_sound_stage() {
    assert_eq!(spoken(|_| {}), []);
}

#[test]
fn slip_counts_if_it_is_comparable_and_material() {
    let late = |facts: &mut StageFacts| {
        facts.slip_p99_ns = Some(80_000_000);
        facts.response_p99_ns = Some(100_000_000);
    };
    assert_eq!(spoken(late), only("slip", Severity::Invalid));
    let elsewhere = |facts: &mut StageFacts| {
        late(facts);
        facts.judged = false;
    };
    assert_eq!(spoken(elsewhere), only("slip", Severity::Suspect));
    let small = |facts: &mut StageFacts| {
        facts.slip_p99_ns = Some(3_000_000);
        facts.response_p99_ns = Some(4_000_000);
    };
    assert_eq!(spoken(small), only("slip", Severity::Note));
    let tiny = |facts: &mut StageFacts| {
        facts.slip_p99_ns = Some(300_000);
        facts.response_p99_ns = Some(400_000);
    };
    assert_eq!(spoken(tiny), []);
    let beside_a_slow_server = |facts: &mut StageFacts| {
        facts.slip_p99_ns = Some(80_000_000);
        facts.response_p99_ns = Some(400_000_000);
    };
    assert_eq!(spoken(beside_a_slow_server), []);
}

/// Requests that are 80 ms late, of a response of 100 ms, because no session was free for 200 ms.
fn short_of_sessions(facts: &mut StageFacts) {
    facts.slip_p99_ns = Some(80_000_000);
    facts.response_p99_ns = Some(100_000_000);
    facts.debt_ns_max = Some(200_000_000);
}

#[test]
fn waiting_for_a_free_session_is_the_servers_doing() {
    assert_eq!(spoken(short_of_sessions), only("sessions_busy", Severity::Suspect));
    let overloaded = |facts: &mut StageFacts| {
        short_of_sessions(facts);
        facts.dropped = 5_000;
    };
    let both = [
        ("sessions_busy".to_owned(), Severity::Suspect),
        only("drops", Severity::Suspect).remove(0),
    ];
    assert_eq!(spoken(overloaded), both);
}

#[test]
fn a_generator_that_was_busy_itself_has_no_excuse_in_busy_sessions() {
    let excuses: [fn(&mut StageFacts); 7] = [
        |facts| facts.debt_ns_max = Some(70_000_000),
        |facts| facts.debt_ns_max = None,
        |facts| facts.worker_cpu_share = Some(0.96),
        |facts| facts.reap_lag_ns_max = Some(60_000_000),
        |facts| facts.turn_ns_max = Some(60_000_000),
        |facts| facts.host_busy_share = Some(0.97),
        |facts| facts.host_busy_share = None,
    ];
    for (number, excuse) in excuses.into_iter().enumerate() {
        let found = spoken(|facts| {
            short_of_sessions(facts);
            facts.dropped = 5_000;
            excuse(facts);
        });
        let has = |rule: &str, severity| found.contains(&(rule.to_owned(), severity));
        assert!(has("slip", Severity::Invalid), "{number}: {found:?}");
        assert!(!has("sessions_busy", Severity::Suspect), "{number}: {found:?}");
        // Without slip's measure, any material debt tells that sessions were busy.
        assert!(number == 0 || has("drops", Severity::Invalid), "{number}: {found:?}");
    }
}

#[test]
fn a_long_turn_counts_together_with_slip() {
    let long = |facts: &mut StageFacts| facts.turn_ns_max = Some(60_000_000);
    assert_eq!(spoken(long), only("turn", Severity::Note));
    let late = |facts: &mut StageFacts| {
        long(facts);
        facts.slip_p99_ns = Some(60_000_000);
        facts.response_p99_ns = Some(400_000_000);
    };
    assert_eq!(spoken(late), only("turn", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.turn_ns_max = Some(49_000_000)), []);
}

#[test]
fn limits_of_the_generator_count_in_a_storm_only() {
    let found = spoken(|facts| facts.send_buffer_waits = 2_000);
    assert_eq!(found, only("send_buffers", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.send_buffer_waits = 1_000), []);
    let found = spoken(|facts| facts.cq_overflow = 20_000);
    assert_eq!(found, only("cq_overflow", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.cq_overflow = 5_000), []);
    let few = |facts: &mut StageFacts| {
        (facts.sent, facts.completions) = (50, 50);
        (facts.send_buffer_waits, facts.cq_overflow, facts.enobufs) = (50, 50, 50);
    };
    assert_eq!(spoken(few), []);
}

#[test]
fn a_full_core_counts_together_with_slip() {
    assert_eq!(
        spoken(|facts| facts.worker_cpu_share = Some(0.99)),
        only("generator_cpu", Severity::Note)
    );
    let late = |facts: &mut StageFacts| {
        facts.worker_cpu_share = Some(0.99);
        facts.slip_p99_ns = Some(60_000_000);
        facts.response_p99_ns = Some(600_000_000);
    };
    assert_eq!(spoken(late), only("generator_cpu", Severity::Invalid));
    assert_eq!(spoken(|facts| facts.worker_cpu_share = Some(0.94)), []);
}

#[test]
fn drops_weigh_by_their_share_and_not_in_a_failover() {
    assert_eq!(spoken(|facts| facts.dropped = 10), only("drops", Severity::Note));
    assert_eq!(spoken(|facts| facts.dropped = 500), only("drops", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.dropped = 5_000), only("drops", Severity::Invalid));
    let killed = |facts: &mut StageFacts| {
        facts.dropped = 5_000;
        facts.disturbed = true;
    };
    assert_eq!(spoken(killed), []);
}

#[test]
fn each_kind_of_damage_to_a_log_counts() {
    let damages: [fn(&mut LogResult); 6] = [
        |log| log.torn_tail_bytes = 1,
        |log| log.bad_blocks = 1,
        |log| log.missing_blocks = 1,
        |log| log.missing_requests = Some(1),
        |log| log.ended = false,
        |log| log.error = Some("not a latency log".to_owned()),
    ];
    for damage in damages {
        let found = spoken(|facts| damage(&mut facts.logs[0]));
        assert_eq!(found, only("log_damage", Severity::Invalid));
    }
    assert_eq!(spoken(|facts| facts.log_lost_records = 1), only("log_lost", Severity::Invalid));
}

#[test]
fn an_exit_code_counts_unless_the_user_interrupted() {
    for code in [Some(1), Some(2), Some(3), Some(4), Some(130), None] {
        let found = spoken(|facts| facts.exit_code = code);
        assert_eq!(found, only("exit_code", Severity::Invalid), "{code:?}");
    }
    let interrupted = |facts: &mut StageFacts| {
        facts.exit_code = Some(130);
        facts.interrupted = true;
    };
    assert_eq!(spoken(interrupted), []);
}

#[test]
fn the_generators_last_words_are_quoted() {
    let mut facts = sound();
    facts.exit_code = Some(4);
    facts.stderr_tail = "warming up\nio_uring is disabled\n\n".to_owned();
    let finding = exit_code(&facts).expect("it ended badly");
    assert!(finding.because.ends_with("it said: io_uring is disabled"), "{}", finding.because);
}

#[test]
fn buffers_count_in_a_storm_only() {
    assert_eq!(spoken(|facts| facts.enobufs = 20_000), only("enobufs", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.enobufs = 5_000), []);
}

#[test]
fn lost_syns_and_full_queues_make_connect_times_suspect() {
    let found = spoken(|facts| facts.syn_retransmits = Some(50.0));
    assert_eq!(found, only("tcp_queues", Severity::Suspect));
    let found = spoken(|facts| facts.listen_overflows = Some(1.0));
    assert_eq!(found, only("tcp_queues", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.syn_retransmits = Some(9.0)), []);
    assert_eq!(spoken(|facts| facts.syn_retransmits = None), []);
}

#[test]
fn times_out_of_order_and_steps_of_the_clock_count() {
    assert_eq!(spoken(|facts| facts.disordered = 1), only("clock", Severity::Invalid));
    let step = |facts: &mut StageFacts| facts.logs[0].clock_drift_ns = Some(-60_000_000);
    assert_eq!(spoken(step), only("clock_step", Severity::Note));
    let merged = |facts: &mut StageFacts| {
        step(facts);
        facts.logs[0].clock_offset_ns = 5;
    };
    assert_eq!(spoken(merged), only("clock_step", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.logs[0].clock_drift_ns = Some(40_000_000)), []);
}

#[test]
fn a_clock_that_contradicts_the_drivers_is_suspect() {
    let wrong = |ns| spoken(|facts| facts.logs = vec![LogResult { clock_wrong_ns: ns, ..log() }]);
    assert_eq!(wrong(CLOCK_WRONG_NS), only("clock_offset", Severity::Suspect));
    assert!(wrong(CLOCK_WRONG_NS - 1).is_empty());
}

#[test]
fn missing_connections_weigh_by_whose_fault_they_are() {
    let short = |reason: &'static str| {
        move |facts: &mut StageFacts| {
            facts.tcp_open_peak = Some(9_000);
            facts.connect_failures.insert(reason.to_owned(), 1_000);
        }
    };
    let own = [
        ("no_address".to_owned(), Severity::Invalid),
        ("connections".to_owned(), Severity::Invalid),
    ];
    assert_eq!(spoken(short("no_address")), own);
    assert_eq!(spoken(short("refused")), only("connections", Severity::Suspect));
    assert_eq!(spoken(|facts| facts.tcp_open_peak = Some(9_950)), []);
}

#[test]
fn sessions_that_this_host_could_not_make_again_are_not_the_servers() {
    let failed = |count: u64, disturbed: bool| {
        move |facts: &mut StageFacts| {
            facts.connect_failures.insert("no_address".to_owned(), count);
            facts.disturbed = disturbed;
            facts.judged = false;
        }
    };
    assert_eq!(spoken(failed(17_000, true)), only("no_address", Severity::Invalid));
    assert_eq!(spoken(failed(17_000, false)), only("no_address", Severity::Suspect));
    assert_eq!(spoken(failed(9, true)), []);
}

#[test]
fn a_busy_host_names_whose_work_it_is() {
    let mut facts = StageFacts { host_busy_share: Some(0.99), ..sound() };
    facts.own_cpu_share = Some(0.2);
    let finding = host_cpu(&facts).expect("it is busy");
    assert!(finding.because.contains("20 % of that by servers and generator"));
    assert!(finding.next.contains("other programs"));
}

#[test]
fn a_replica_that_ends_where_nobody_ended_one_is_told() {
    let exit = |stage: &str, at_s: u64, replica: &str| EventRecord {
        stage: stage.to_owned(),
        replica: replica.to_owned(),
        text: "ended by SIGKILL".to_owned(),
        ..EventRecord::at(at_s * 1_000_000_000, EventRecordKind::ReplicaExit)
    };
    let stage = |kind| StageRecord {
        start_ns: 1_000_000_000,
        ..StageRecord::planned(1, "stress-1k", kind, 1_000, 100.0)
    };
    let stress = stage(StageKind::Stress);
    let elsewhere = [exit("failover", 3, "10.0.0.1"), exit("", 4, "10.0.0.1")];
    assert_eq!(replica_died(&stress, &elsewhere), None);
    let exits = [exit("stress-1k", 13, "10.0.0.1"), exit("stress-1k", 14, "10.0.0.2")];
    assert_eq!(replica_died(&stage(StageKind::Scaling), &exits), None);
    let one = replica_died(&stress, &exits[..1]).expect("one died");
    assert_eq!((one.rule.as_str(), one.severity), ("replica_died", Severity::Suspect));
    let told = "replica 10.0.0.1 ended by itself, 12.0 s into the stage (ended by SIGKILL): the \
                figures are not of all replicas";
    assert_eq!(one.because, told);
    let two = replica_died(&stress, &exits).expect("two died").because;
    assert!(two.starts_with("replicas ended by themselves 2 times, first 10.0.0.1, "), "{two}");
}

#[test]
fn a_stage_without_a_hold_phase_cannot_be_judged() {
    assert_eq!(spoken(|facts| facts.held = false), only("no_hold", Severity::Invalid));
    let interrupted = |facts: &mut StageFacts| {
        facts.held = false;
        facts.interrupted = true;
    };
    assert_eq!(spoken(interrupted), []);
}

#[test]
fn a_shared_and_busy_or_stolen_host_is_suspect() {
    let busy = |facts: &mut StageFacts| facts.host_busy_share = Some(0.99);
    assert_eq!(spoken(busy), only("host_cpu", Severity::Suspect));
    let alone = |facts: &mut StageFacts| {
        busy(facts);
        facts.shared_host = false;
    };
    assert_eq!(spoken(alone), []);
    let stolen = |facts: &mut StageFacts| facts.host_steal_share = Some(0.05);
    assert_eq!(spoken(stolen), only("host_steal", Severity::Suspect));
    let lag = |facts: &mut StageFacts| facts.reap_lag_ns_max = Some(60_000_000);
    assert_eq!(spoken(lag), only("reap_lag", Severity::Suspect));
}

#[test]
fn a_scale_command_without_its_sessions_is_a_note_whatever_the_replicas_did() {
    let change = |sessions_converged_ns| ScalingResult {
        stage: "scaling".to_owned(),
        from: 16,
        to: 8,
        commanded_at_ns: 1,
        converged_ns: Some(7),
        sessions_converged_ns,
        failed_requests: 0,
    };
    assert_eq!(sessions_converged(&change(Some(8))), None);
    let finding = sessions_converged(&change(None)).expect("they did not");
    assert_eq!(finding.severity, Severity::Note);
    assert!(finding.because.contains("16 -> 8"), "{}", finding.because);
}
