//! A results folder made up from a seed: 12 replicas, a baseline, two stress stages, a failover
//! and a scaling, with real log files. The same seed gives the same bytes.
#![allow(dead_code, missing_docs)]

use std::fs;
use std::path::Path;

use latlog::{
    Anchor, BlockBuilder, BlockKind, End, Event, EventKind, FileHeader, LogWriter, Outcome,
    RUN_WORKER, Request, WorkerTotals,
};
use reporter::run::record::{GENERATOR_HEADER, HOST_HEADER, REPLICAS_HEADER, RunRecord};
use serde_json::{Value, json};

pub const S: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;
pub const RUN_START_NS: u64 = 5_000 * S;
pub const REAL_START_NS: u64 = 1_764_000_000 * S;
const WORKERS: u16 = 2;

pub const FIELDS: [&str; 27] = [
    "tcp_open",
    "session_established",
    "session_alive",
    "stream_open",
    "queued",
    "in_flight",
    "sent",
    "ok",
    "failed",
    "dropped",
    "bytes_in",
    "bytes_out",
    "connects",
    "losses",
    "cpu_ns",
    "wait_ns",
    "turns",
    "turn_ns_max",
    "reap_lag_ns_max",
    "completions",
    "enobufs",
    "cq_overflow",
    "send_buffer_waits",
    "log_lost_records",
    "rss_bytes",
    "retired",
    "spare",
];

/// What is made up.
#[derive(Clone)]
pub struct Recipe {
    pub seed: u64,
    /// Scales every rate.
    pub rate: f64,
    pub replicas: usize,
    pub stages: Vec<StageRecipe>,
    /// Bytes a second that each replica grows by.
    pub leak_bytes_per_s: f64,
    pub thresholds: Vec<&'static str>,
    pub interrupted: bool,
}

#[derive(Clone)]
pub struct StageRecipe {
    pub name: &'static str,
    pub kind: &'static str,
    pub connections: u32,
    pub rate_per_s: f64,
    pub ramp_s: u64,
    pub hold_s: u64,
    pub skipped: Option<&'static str>,
}

pub fn stage(
    name: &'static str,
    kind: &'static str,
    connections: u32,
    rate_per_s: f64,
    hold_s: u64,
) -> StageRecipe {
    let ramp_s = u64::from(connections / 250).clamp(2, 40);
    StageRecipe { name, kind, connections, rate_per_s, ramp_s, hold_s, skipped: None }
}

/// A small run that tests can afford.
pub fn small() -> Recipe {
    Recipe {
        seed: 7,
        rate: 1.0,
        replicas: 12,
        stages: vec![
            stage("baseline", "baseline", 12, 50.0, 8),
            stage("stress-100", "stress", 100, 200.0, 12),
            stage("stress-500", "stress", 500, 400.0, 20),
            stage("failover", "failover", 240, 300.0, 30),
            stage("scaling", "scaling", 240, 200.0, 40),
        ],
        leak_bytes_per_s: 0.0,
        thresholds: vec![],
        interrupted: false,
    }
}

/// A run of the size that people look at.
pub fn large() -> Recipe {
    Recipe {
        stages: vec![
            stage("baseline", "baseline", 12, 120.0, 30),
            stage("stress-1k", "stress", 1_000, 1_000.0, 60),
            stage("stress-10k", "stress", 10_000, 3_600.0, 330),
            stage("failover", "failover", 5_000, 2_400.0, 60),
            stage("scaling", "scaling", 5_000, 1_500.0, 90),
        ],
        ..small()
    }
}

pub struct Rng(pub u64);

impl Rng {
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Log-normal around `median`.
    fn latency(&mut self, median_ns: f64, sigma: f64) -> u64 {
        let (u, v) = (self.unit().max(1e-12), self.unit());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        (median_ns * (sigma * normal).exp()) as u64
    }
}

pub fn address(replica: usize) -> String {
    format!("127.0.0.{}", 11 + replica)
}

/// Everything that was put into one stage's log, for an independent computation.
pub struct Made {
    pub name: &'static str,
    pub hold: (u64, u64),
    pub requests: Vec<Request>,
    pub events: Vec<(u16, Event)>,
    pub kill: Option<(u64, u16, u64)>,
}

/// Writes the folder and gives what is in its logs.
pub fn write(dir: &Path, recipe: &Recipe) -> Vec<Made> {
    let mut rng = Rng(recipe.seed);
    let mut at = RUN_START_NS + 4 * S;
    let (mut stages, mut events, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for replica in 0..recipe.replicas {
        let start = RUN_START_NS + replica as u64 * 50 * MS;
        events.push(event(start, "replica_start", "", &address(replica), 1));
        events.push(event(start + 700 * MS, "replica_healthy", "", &address(replica), 1));
    }
    for (number, stage) in recipe.stages.iter().enumerate() {
        let log_dir = format!("logs/{:02}-{}", number + 1, stage.name);
        let skipped = stage.skipped.is_some();
        let length = (stage.ramp_s + 3 + stage.hold_s + 2) * S;
        let end = at + length;
        if !skipped {
            fs::create_dir_all(dir.join(&log_dir)).expect("creates");
            let mut writer = StageWriter::new(recipe, stage, at, &mut rng);
            writer.make(&mut events);
            writer.finish(&dir.join(&log_dir).join("gen-1.latlog"), &mut made);
        }
        stages.push(json!({
            "name": stage.name, "kind": stage.kind, "connections": stage.connections,
            "rate_per_s": stage.rate_per_s * recipe.rate, "log_dir": log_dir,
            "json": format!("{log_dir}/loadgen.json"),
            "start_ns": if skipped { 0 } else { at }, "end_ns": if skipped { 0 } else { end },
            "exit_code": if skipped { Value::Null } else { json!(0) }, "stderr_tail": "",
            "skipped": stage.skipped,
        }));
        if !skipped {
            at = end + S;
        }
    }
    metrics(dir, recipe, at, &made, &mut rng);
    let run = run_json(recipe, stages, events, at);
    let _: RunRecord = serde_json::from_value(run.clone()).expect("is a run record");
    fs::write(dir.join("run.json"), serde_json::to_vec_pretty(&run).expect("json"))
        .expect("writes");
    made
}

fn event(at_ns: u64, kind: &str, stage: &str, replica: &str, incarnation: u32) -> Value {
    json!({"at_ns": at_ns, "until_ns": at_ns, "kind": kind, "stage": stage, "replica": replica,
           "incarnation": incarnation})
}

fn run_json(recipe: &Recipe, stages: Vec<Value>, mut events: Vec<Value>, end: u64) -> Value {
    events.sort_by_key(|event| event["at_ns"].as_u64());
    json!({
        "version": 1,
        "command": "reporter run --backend local --profile quick --replicas 12",
        "args": ["run", "--backend", "local", "--profile", "quick", "--replicas", "12"],
        "backend": "local", "profile": "quick",
        "started_real_ns": REAL_START_NS, "started_mono_ns": RUN_START_NS, "ended_mono_ns": end,
        "interrupted": recipe.interrupted, "broken": null,
        "server": {"program": "erlmcp-server --bind {ip} --port 8080", "version": "erlmcp-server 0.1.0"},
        "thresholds": recipe.thresholds, "replicas_planned": recipe.replicas,
        "connections_planned": 10_000, "heartbeat_ns": 15 * S, "restart_delay_ns": 5 * S,
        "stages": stages, "events": events,
        "replicas_csv": "metrics/replicas.csv", "generator_csv": "metrics/generator.csv",
        "host_csv": "metrics/host.csv", "preflight": null,
        "host": {"name": "bench-1", "kernel": "6.1.0-18-amd64", "arch": "x86_64", "cores": 8,
                 "cpu_model": "AMD EPYC 7543", "mem_bytes": 33_554_432_000u64,
                 "mem_available_bytes": 31_000_000_000u64, "nofile_soft": 1_048_576,
                 "nofile_hard": 1_048_576, "clocksource": "tsc", "load_1min": 0.2},
        "versions": {"reporter": "reporter 0.1.0", "loadgen": "loadgen 0.1.0"},
    })
}

fn metrics(dir: &Path, recipe: &Recipe, end: u64, made: &[Made], rng: &mut Rng) {
    fs::create_dir_all(dir.join("metrics")).expect("creates");
    let kill = made.iter().find_map(|stage| stage.kill);
    let mut replicas = format!("{REPLICAS_HEADER}\n");
    let mut host = format!("{HOST_HEADER}\n");
    let mut generator = format!("{GENERATOR_HEADER}\n");
    let mut cpu = vec![0u64; recipe.replicas];
    let mut busy = 0u64;
    let seconds = (end - RUN_START_NS) / S;
    for second in 1..seconds {
        let at = RUN_START_NS + second * S;
        let load = made
            .iter()
            .find(|stage| stage.hold.0 <= at && at < stage.hold.1)
            .map_or(0.02, |stage| (stage.requests.len() as f64 / 2_000_000.0).clamp(0.05, 0.7));
        for (replica, cpu) in cpu.iter_mut().enumerate() {
            let mut incarnation = 1;
            let mut age = second;
            if let Some((killed, target, healthy)) = kill
                && usize::from(target) == replica
                && at >= killed
            {
                if at < healthy - 700 * MS {
                    continue;
                }
                if at < healthy + S {
                    *cpu = 0;
                }
                incarnation = 2;
                age = (at + S - healthy) / S;
            }
            *cpu += ((load + rng.unit() * 0.04) * S as f64) as u64;
            let rss = 48_000_000.0
                + 9_000_000.0 * (1.0 - (-(age as f64) / 30.0).exp())
                + age as f64 * recipe.leak_bytes_per_s
                + (rng.unit() * 40.0).floor() * 4_096.0;
            replicas.push_str(&format!(
                "{at},{},{},{incarnation},{},{},{},9\n",
                address(replica),
                4_000 + replica as u32 + 100 * incarnation,
                rss as u64,
                cpu,
                20 + age / 10
            ));
        }
        busy += (load * 6.0 * S as f64) as u64;
        host.push_str(&format!(
            "{at},30000000000,1.5,{busy},{},0,1000,10,500,0,0,0,0,0,0,\n",
            second * 8 * S - busy
        ));
        generator.push_str(&format!("{at},stress,77,90000000,{},20,4\n", second * S / 3));
    }
    fs::write(dir.join("metrics/replicas.csv"), replicas).expect("writes");
    fs::write(dir.join("metrics/host.csv"), host).expect("writes");
    fs::write(dir.join("metrics/generator.csv"), generator).expect("writes");
}

struct Session {
    target: u16,
    /// Away in this interval, because its replica was killed or scaled away.
    away: Option<(u64, u64)>,
}

struct StageWriter<'a> {
    recipe: &'a Recipe,
    stage: &'a StageRecipe,
    start: u64,
    hold: (u64, u64),
    rng: &'a mut Rng,
    sessions: Vec<Session>,
    requests: Vec<Request>,
    events: Vec<(u16, Event)>,
    kill: Option<(u64, u16, u64)>,
}

impl<'a> StageWriter<'a> {
    fn new(recipe: &'a Recipe, stage: &'a StageRecipe, start: u64, rng: &'a mut Rng) -> Self {
        let hold_start = start + (stage.ramp_s + 3) * S;
        Self {
            recipe,
            stage,
            start,
            hold: (hold_start, hold_start + stage.hold_s * S),
            rng,
            sessions: Vec::new(),
            requests: Vec::new(),
            events: Vec::new(),
            kill: None,
        }
    }

    fn make(&mut self, events: &mut Vec<Value>) {
        if self.stage.kind == "failover" {
            self.plan_kill(events);
        }
        if self.stage.kind == "scaling" {
            self.plan_scaling(events);
        }
        self.make_sessions();
        self.make_requests();
    }

    fn plan_kill(&mut self, events: &mut Vec<Value>) {
        let at = self.hold.0 + self.stage.hold_s * S / 4 + 130 * MS;
        let target = 4u16;
        let healthy = at + 5 * S + 740 * MS;
        let replica = address(usize::from(target));
        let name = self.stage.name;
        events.push(event(at, "kill", name, &replica, 1));
        events.push(event(at + 3 * MS, "replica_exit", name, &replica, 1));
        events.push(event(at + 5 * S + 2 * MS, "replica_start", name, &replica, 2));
        events.push(event(healthy, "replica_healthy", name, &replica, 2));
        self.kill = Some((at, target, healthy));
    }

    fn plan_scaling(&mut self, events: &mut Vec<Value>) {
        let n = self.recipe.replicas as u32;
        let quarter = self.stage.hold_s * S / 4;
        for (at, from, to, took) in [
            (self.hold.0 + quarter / 2, n, n + 6, 1_900 * MS),
            (self.hold.0 + 2 * quarter, n + 6, n, 4_200 * MS),
        ] {
            let mut command = event(at, "scale_command", self.stage.name, "", 0);
            command["from"] = json!(from);
            command["to"] = json!(to);
            let mut converged = event(at + took, "scale_converged", self.stage.name, "", 0);
            converged["from"] = json!(from);
            converged["to"] = json!(to);
            let mut spread = event(at + 2 * took, "sessions_converged", self.stage.name, "", 0);
            spread["text"] = json!("spread evenly");
            events.extend([command, converged, spread]);
        }
    }

    fn push_event(&mut self, session: u32, at: u64, kind: EventKind, outcome: Outcome, value: u64) {
        let target = self.sessions[session as usize].target;
        let worker = (session % u32::from(WORKERS)) as u16;
        let event = Event {
            at_ns: at,
            kind,
            session: session / u32::from(WORKERS),
            target,
            outcome,
            detail: if outcome == Outcome::Reset { 104 } else { 0 },
            value,
        };
        self.events.push((worker, event));
    }

    fn make_sessions(&mut self) {
        let count = self.stage.connections;
        for session in 0..count {
            let target = (session as usize % self.recipe.replicas) as u16;
            self.sessions.push(Session { target, away: None });
            let connected = self.start
                + 200 * MS
                + u64::from(session) * self.stage.ramp_s * S / u64::from(count);
            let took = self.rng.latency(180_000.0, 0.4);
            let established = took + self.rng.latency(1_500_000.0, 0.5);
            self.push_event(session, connected + took, EventKind::Connected, Outcome::Ok, took);
            let alive = connected + established;
            self.push_event(session, alive, EventKind::Alive, Outcome::Ok, established);
            if let Some((killed, target, _)) = self.kill
                && self.sessions[session as usize].target == target
            {
                let lost = killed + 200_000 + (self.rng.unit() * 4e6) as u64;
                self.push_event(session, lost, EventKind::Lost, Outcome::Reset, 0);
                self.push_event(session, lost, EventKind::SessionLost, Outcome::Reset, 0);
                let wait = 100 * MS + (self.rng.unit() * 1.9e9) as u64;
                self.sessions[session as usize].away = Some((lost, lost + wait));
                self.sessions[session as usize].target = (target + 1 + (session % 11) as u16) % 12;
                self.push_event(session, lost + wait - MS, EventKind::Connected, Outcome::Ok, took);
                self.push_event(session, lost + wait, EventKind::Alive, Outcome::Ok, wait);
                self.sessions[session as usize].target = target;
            }
        }
    }

    fn make_requests(&mut self) {
        let rate = self.stage.rate_per_s * self.recipe.rate;
        let first = self.start + self.stage.ramp_s * S;
        let count = ((self.hold.1 - first) as f64 / S as f64 * rate) as u64;
        let load = f64::from(self.stage.connections) / 10_000.0;
        for number in 0..count {
            let intended = first + (number as f64 * S as f64 / rate) as u64;
            let session = (self.rng.unit() * self.sessions.len() as f64) as usize;
            let Session { target, away } = self.sessions[session];
            let slip = self.rng.latency(22_000.0, 0.8);
            let slow = 1.0 + 0.25 * f64::from(target % 3);
            let mut service = self.rng.latency((700_000.0 + 4e6 * load) * slow, 0.45);
            if self.rng.unit() < 0.004 {
                service += self.rng.latency(25e6, 0.5);
            }
            // A stall of the server every now and then.
            if (intended / S).is_multiple_of(47) {
                service += (self.rng.unit() * 60e6 * load) as u64;
            }
            let mut request = Request {
                intended_ns: intended,
                sent_ns: intended + slip,
                first_byte_ns: intended + slip + service - 4_000.min(service),
                done_ns: intended + slip + service,
                outcome: Outcome::Ok,
                detail: 0,
                target,
                op: (2 + number % 2) as u8,
            };
            if let Some((lost, back)) = away {
                spoil(&mut request, lost, back);
            } else if self.rng.unit() < 0.000_4 {
                request.outcome = Outcome::RpcError;
                request.detail = -32_603;
            }
            self.requests.push(request);
        }
    }

    fn finish(self, path: &Path, made: &mut Vec<Made>) {
        write_log(path, &self);
        made.push(Made {
            name: self.stage.name,
            hold: self.hold,
            requests: self.requests,
            events: self.events,
            kill: self.kill,
        });
    }
}

/// A request on a session that is away fails as the generator would see it.
fn spoil(request: &mut Request, lost: u64, back: u64) {
    if request.done_ns < lost || request.intended_ns >= back {
        return;
    }
    let at = if request.intended_ns < lost {
        request.outcome = Outcome::Reset;
        request.detail = 104;
        lost.max(request.sent_ns)
    } else {
        request.outcome = Outcome::Dropped;
        request.sent_ns = back.min(request.intended_ns + 500 * MS);
        request.sent_ns
    };
    request.first_byte_ns = at;
    request.done_ns = at;
}

fn write_log(path: &Path, stage: &StageWriter<'_>) {
    let plan = json!({
        "version": 1, "command": "loadgen", "protocol": "http", "model": "open", "seed": 7,
        "targets": (0..stage.recipe.replicas).map(|r| format!("http://{}:8080/mcp", address(r)))
            .collect::<Vec<_>>(),
        "ops": [{"name": "initialize", "kind": "session"}, {"name": "initialized", "kind": "session"},
                {"name": "ping", "kind": "load"}, {"name": "tools/call echo", "kind": "load"}],
        "sample_fields": FIELDS, "connections": stage.stage.connections,
        "rate_per_s": stage.stage.rate_per_s, "ramp_per_s": 250,
        "duration_ns": stage.stage.hold_s * S, "warmup_ns": 3 * S, "heartbeat_ns": 15 * S,
        "timeout_ns": 10 * S, "workers": WORKERS,
    });
    let real = |mono_ns: u64| Anchor { mono_ns, real_ns: mono_ns - RUN_START_NS + REAL_START_NS };
    let header = FileHeader { host: "bench-1".to_owned(), pid: 77, start: real(stage.start), plan };
    let mut writer = LogWriter::create(path, &header).expect("creates");
    let mut totals = Vec::new();
    let mut requests = stage.requests.clone();
    requests.sort_by_key(|request| request.done_ns);
    let end = stage.hold.1 + 2 * S;
    for worker in 0..WORKERS {
        let mut seq = 0;
        let mut out = Blocks { writer: &mut writer, worker, seq: &mut seq };
        let own = |index: &usize| index % usize::from(WORKERS) == usize::from(worker);
        let mine: Vec<&Request> =
            requests.iter().enumerate().filter(|(i, _)| own(i)).map(|(_, r)| r).collect();
        out.fill(BlockKind::Requests, &mine, |builder, request| builder.push_request(request));
        let mut events: Vec<&Event> =
            stage.events.iter().filter(|(w, _)| *w == worker).map(|(_, event)| event).collect();
        events.sort_by_key(|event| event.at_ns);
        out.fill(BlockKind::Events, &events, |builder, event| builder.push_event(event));
        let samples = samples(stage, worker, end, &requests, &events);
        out.fill(BlockKind::Samples, &samples, |builder, (at, values)| {
            builder.push_values(*at, values)
        });
        totals.push(WorkerTotals {
            worker,
            blocks: seq,
            requests: mine.len() as u64,
            events: events.len() as u64,
        });
    }
    let mut seq = 0;
    let mut out = Blocks { writer: &mut writer, worker: RUN_WORKER, seq: &mut seq };
    out.fill(BlockKind::Notes, &notes(stage), |builder, (at, name, text)| {
        builder.push_text(*at, name, text)
    });
    totals.push(WorkerTotals { worker: RUN_WORKER, blocks: seq, requests: 0, events: 0 });
    writer.finish(&End { anchor: real(end), totals }).expect("finishes");
}

fn notes(stage: &StageWriter<'_>) -> Vec<(u64, String, String)> {
    let phase = |at: u64, name: &str| (at, "phase".to_owned(), name.to_owned());
    let mut notes = vec![
        phase(stage.start + 200 * MS, "ramp"),
        phase(stage.hold.0 - 3 * S, "warmup"),
        phase(stage.hold.0, "hold"),
        phase(stage.hold.1, "cooldown"),
        phase(stage.hold.1 + S, "done"),
    ];
    if let Some(failed) = stage.requests.iter().find(|r| r.outcome == Outcome::RpcError) {
        let example = json!({"reason": "rpc_error", "op": "tools/call echo",
            "target": format!("http://{}:8080/mcp", address(usize::from(failed.target))),
            "detail": failed.detail, "message": "Internal error: backend unavailable"});
        notes.push((failed.done_ns, "example".to_owned(), example.to_string()));
    }
    notes
}

/// One row a second, from what really happened in the made-up stage.
fn samples(
    stage: &StageWriter<'_>,
    worker: u16,
    end: u64,
    requests: &[Request],
    events: &[&Event],
) -> Vec<(u64, Vec<u64>)> {
    let (mut rows, mut open, mut next_event, mut next_request) = (Vec::new(), 0i64, 0, 0);
    let (mut sent, mut ok, mut cpu) = (0u64, 0u64, 0u64);
    let mut at = stage.start + S;
    while at <= end {
        while next_event < events.len() && events[next_event].at_ns <= at {
            open += match events[next_event].kind {
                EventKind::Alive => 1,
                EventKind::Lost => -1,
                _ => 0,
            };
            next_event += 1;
        }
        let before = next_request;
        while next_request < requests.len() && requests[next_request].done_ns <= at {
            ok += u64::from(requests[next_request].outcome.is_ok());
            next_request += 1;
        }
        sent += (next_request - before) as u64 / 2;
        cpu += ((next_request - before) as u64 * 40_000).min(S * 97 / 100)
            + 20 * MS * u64::from(worker + 1);
        let mut row = vec![0u64; FIELDS.len()];
        let gauge = open.max(0) as u64;
        row[..3].fill(gauge);
        row[2] = gauge.saturating_sub(u64::from(gauge > 50 && (at / S).is_multiple_of(13)));
        row[3] = gauge / 2;
        row[6] = sent;
        row[7] = ok / 2;
        row[14] = cpu;
        row[15] = at - stage.start - cpu.min(at - stage.start);
        row[17] = 900_000 + 300_000 * u64::from(worker);
        row[18] = 700_000;
        row[19] = sent * 3;
        row[24] =
            if worker == 0 { 62_000_000 + 3_000 * u64::from(stage.stage.connections) } else { 0 };
        rows.push((at, row));
        at += S;
    }
    rows
}

struct Blocks<'a> {
    writer: &'a mut LogWriter,
    worker: u16,
    seq: &'a mut u32,
}

impl Blocks<'_> {
    fn fill<T>(
        &mut self,
        kind: BlockKind,
        records: &[T],
        push: impl Fn(&mut BlockBuilder, &T) -> Result<(), latlog::Full>,
    ) {
        let mut builder = BlockBuilder::new(self.worker, kind, 64 << 10);
        for record in records {
            if push(&mut builder, record).is_err() {
                self.seal(&mut builder);
                push(&mut builder, record).expect("fits into an empty block");
            }
        }
        if builder.count() > 0 {
            self.seal(&mut builder);
        }
    }

    fn seal(&mut self, builder: &mut BlockBuilder) {
        self.writer.append(builder.seal(*self.seq)).expect("appends");
        builder.clear();
        *self.seq += 1;
    }
}
