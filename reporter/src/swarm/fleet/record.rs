//! The results folder of a fleet's run: `run.json` with one stage, whose logs are one folder for each
//! generator.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::clocks::Offset;
use super::plan::Seat;
use crate::clock;
use crate::cluster::launch::own_binary;
use crate::cluster::local::program_version;
use crate::exit::Failure;
use crate::folder::{Folder, count_label};
use crate::run::procfs;
use crate::run::record::{
    ClockRecord, GENERATOR_HEADER, HOST_HEADER, REPLICAS_HEADER, RunRecord, ServerRecord,
    StageKind, StageRecord,
};
use crate::run::sampler::{GENERATOR_CSV, HOST_CSV, REPLICAS_CSV};
use crate::swarm::cli::LoadgenArgs;
use crate::swarm::model::Node;
use crate::swarm::ops::Engine;
use crate::swarm::stack::{NETWORK, SERVICE_FULL};

/// A run from its folder to its record.
pub struct Run {
    folder: Folder,
    record: RunRecord,
    docker: Value,
}

impl Run {
    /// Makes the folder.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn begin(
        args: &LoadgenArgs,
        typed: &[String],
        seats: &[Seat],
        engine: &Engine,
        replicas: u32,
    ) -> Result<Self, Failure> {
        let folder = Folder::create(&args.out, args.connections, clock::real_ns())?;
        let headers = [
            (REPLICAS_CSV, REPLICAS_HEADER),
            (GENERATOR_CSV, GENERATOR_HEADER),
            (HOST_CSV, HOST_HEADER),
        ];
        for (name, header) in headers {
            write(&folder.join(name), &format!("{header}\n"))?;
        }
        let name = format!("stress-{}", count_label(args.connections));
        let rate_per_s = seats.iter().map(|seat| seat.rate_per_s).sum();
        let stage = StageRecord::planned(1, name, StageKind::Stress, args.connections, rate_per_s);
        let loadgen = own_binary("loadgen", "LOADGEN").map(|path| program_version(&path));
        let mut record = RunRecord::new("swarm", procfs::host()).typed_now(typed);
        record.add_version("reporter", concat!("reporter ", env!("CARGO_PKG_VERSION")));
        record.add_version("loadgen", loadgen.unwrap_or_default());
        let record = RunRecord {
            profile: "fleet".to_owned(),
            server: ServerRecord {
                program: format!("service {SERVICE_FULL}"),
                version: String::new(),
            },
            thresholds: args.thresholds.clone(),
            replicas_planned: replicas,
            connections_planned: args.connections,
            heartbeat_ns: args.heartbeat,
            stages: vec![stage],
            ..record
        };
        Ok(Self { folder, record, docker: engine.record() })
    }

    /// Where a generator's files go.
    pub fn log_dir(&self, seat: &Seat) -> PathBuf {
        self.folder.join(&self.record.stages[0].log_dir).join(&seat.name)
    }

    /// The load is about to begin, on clocks that are known.
    pub fn starts(&mut self, offsets: &[Option<Offset>], seats: &[Seat]) {
        self.record.stages[0].start_ns = clock::mono_ns();
        let clocks = seats.iter().zip(offsets).filter_map(|(seat, offset)| {
            let Offset { offset_ns, error_ns } = (*offset)?;
            Some(ClockRecord { host: seat.host.clone(), offset_ns, error_ns })
        });
        self.record.clocks = clocks.collect();
    }

    /// Keeps a generator's own summary.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_summary(&self, seat: &Seat, summary: &Value) -> Result<(), Failure> {
        write(&self.log_dir(seat).join("loadgen.json"), &format!("{summary:#}\n"))
    }

    /// Closes the record; gives the folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(
        mut self,
        generators: &[Value],
        failure: Option<&Failure>,
        interrupted: bool,
        nodes: &[Node],
        image: &str,
    ) -> Result<PathBuf, Failure> {
        let now_ns = clock::mono_ns();
        let stage = &mut self.record.stages[0];
        stage.end_ns = now_ns;
        stage.exit_code = failure.is_none().then_some(0);
        stage.skipped = failure.map(|failure| format!("cut short: {failure}"));
        self.record.ended_mono_ns = now_ns;
        self.record.interrupted = interrupted;
        self.record.broken =
            failure.filter(|_| !interrupted).map(|failure| failure.message.clone());
        let nodes: Vec<Value> = nodes
            .iter()
            .map(|node| {
                json!({"name": node.name, "role": node.role, "engine": node.engine,
                       "state": node.state, "availability": node.availability})
            })
            .collect();
        self.record.cluster = Some(json!({
            "docker": self.docker,
            "nodes": nodes,
            "image": image,
            "network": NETWORK,
            "path": {
                "kind": "tasks",
                "text": "from generators that are services of the swarm, in the overlay network \
                         straight to the tasks' own addresses, which the name gives",
            },
            "generators": generators,
        }));
        self.folder
            .write_record(&self.record)
            .map_err(|error| Failure::invalid(format!("cannot write run.json: {error}")))?;
        Ok(self.folder.path().to_owned())
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}
