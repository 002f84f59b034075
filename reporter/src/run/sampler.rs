//! Samples replicas, the generator and the host once a second into CSV files, from its own thread.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::dashboard::Dashboard;
use super::procfs::{self, Units};
use super::record::{BALANCER_HEADER, GENERATOR_HEADER, HOST_HEADER, REPLICAS_HEADER};
use crate::clock::{self, SECOND_NS};
use crate::cluster::{BalancerSample, Sampler};
use crate::folder::Folder;

/// The files, relative to the results folder.
pub const REPLICAS_CSV: &str = "metrics/replicas.csv";
/// See [`REPLICAS_CSV`].
pub const GENERATOR_CSV: &str = "metrics/generator.csv";
/// See [`REPLICAS_CSV`].
pub const HOST_CSV: &str = "metrics/host.csv";
/// See [`REPLICAS_CSV`].
pub const BALANCER_CSV: &str = "metrics/balancer.csv";

const EVERY_NS: u64 = SECOND_NS;
/// Longest delay between [`Sampling::stop`] and the thread's end.
const NAP_NS: u64 = SECOND_NS / 20;

/// The generator that runs at this moment: its stage and its process.
pub type GeneratorNow = Arc<Mutex<Option<(String, u32)>>>;

/// The sampling thread.
pub struct Sampling {
    generator: GeneratorNow,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sampling {
    /// Creates the files and starts; the balancer's only if the load goes through one.
    ///
    /// # Errors
    /// If a file cannot be created.
    pub fn start(
        folder: &Folder,
        replicas: Box<dyn Sampler>,
        through_balancer: bool,
        dashboard: Dashboard,
    ) -> io::Result<Self> {
        let generator = GeneratorNow::default();
        let stop = Arc::new(AtomicBool::new(false));
        let mut files = Files {
            replicas: create(folder, REPLICAS_CSV, REPLICAS_HEADER)?,
            generator: create(folder, GENERATOR_CSV, GENERATOR_HEADER)?,
            host: create(folder, HOST_CSV, HOST_HEADER)?,
            balancer: match through_balancer {
                true => Some(create(folder, BALANCER_CSV, BALANCER_HEADER)?),
                false => None,
            },
            units: Units::of_this_host(),
            dashboard,
        };
        let (now, stopped, mut source) = (Arc::clone(&generator), Arc::clone(&stop), replicas);
        let thread = std::thread::Builder::new().name("sampler".to_owned()).spawn(move || {
            let mut due_ns = clock::mono_ns();
            while !stopped.load(Ordering::Acquire) {
                if clock::mono_ns() >= due_ns {
                    files.sample(source.as_mut(), &now)?;
                    // A sample that came late does not make the later ones come in a burst.
                    due_ns = (due_ns + EVERY_NS).max(clock::mono_ns());
                }
                clock::sleep_ns(NAP_NS.min(due_ns.saturating_sub(clock::mono_ns()).max(1)));
            }
            Ok(())
        })?;
        Ok(Self { generator, stop, thread: Some(thread) })
    }

    /// Names the generator to sample, or none between stages.
    pub fn watch_generator(&self, now: Option<(String, u32)>) {
        *self.generator.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// The first write that failed; there are no samples after it.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the sampling thread panicked")))
    }
}

impl Drop for Sampling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn create(folder: &Folder, name: &str, header: &str) -> io::Result<File> {
    let mut file = File::create(folder.join(name))?;
    writeln!(file, "{header}")?;
    Ok(file)
}

struct Files {
    replicas: File,
    generator: File,
    host: File,
    balancer: Option<File>,
    units: Units,
    dashboard: Dashboard,
}

impl Files {
    fn sample(&mut self, source: &mut dyn Sampler, now: &GeneratorNow) -> io::Result<()> {
        let at_ns = clock::mono_ns();
        let mut lines = String::new();
        let samples = source.sample();
        self.dashboard.sampled(at_ns, &samples);
        for sample in samples {
            let process = sample.process;
            lines += &format!(
                "{at_ns},{},{},{},{},{},{},{}\n",
                sample.replica,
                sample.pid,
                sample.incarnation,
                process.rss_bytes,
                process.cpu_ns,
                process.fds,
                process.threads
            );
        }
        // One write a sample: a reader never finds half a line but the last.
        self.replicas.write_all(lines.as_bytes())?;
        if let Some(file) = &mut self.balancer
            && let Some(sample) = source.balancer()
        {
            file.write_all(balancer_line(at_ns, &sample).as_bytes())?;
        }
        let generator = now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((stage, pid)) = generator
            && let Some(process) = procfs::process(pid, self.units)
        {
            let line = format!(
                "{at_ns},{stage},{pid},{},{},{},{}\n",
                process.rss_bytes, process.cpu_ns, process.fds, process.threads
            );
            self.generator.write_all(line.as_bytes())?;
        }
        self.host.write_all(host_line(at_ns, self.units).as_bytes())
    }
}

/// One line under [`BALANCER_HEADER`].
fn balancer_line(at_ns: u64, sample: &BalancerSample) -> String {
    let own = |figure: Option<u64>| figure.map_or_else(String::new, |figure| figure.to_string());
    let process = &sample.process;
    format!(
        "{at_ns},{},{},{},{},{},{},{}\n",
        sample.address,
        process.rss_bytes,
        process.cpu_ns,
        process.fds,
        sample.fds_max,
        own(sample.connections),
        own(sample.connections_max)
    )
}

/// One line under [`HOST_HEADER`]; what this host does not tell stays empty.
fn host_line(at_ns: u64, units: Units) -> String {
    let text = |path: &str| procfs::text(path).unwrap_or_default();
    let (netstat, snmp) = (text("/proc/net/netstat"), text("/proc/net/snmp"));
    let sockstat = text("/proc/net/sockstat");
    let extended = |name| procfs::net_counter(&netstat, "TcpExt", name);
    let cpu = procfs::host_cpu(&text("/proc/stat"), units);
    let conntrack = text("/proc/sys/net/netfilter/nf_conntrack_count").trim().parse().ok();
    let numbers = [
        cpu.map(|cpu| cpu.busy_ns),
        cpu.map(|cpu| cpu.idle_ns),
        cpu.map(|cpu| cpu.steal_ns),
        procfs::sockstat(&sockstat, "TCP", "inuse"),
        procfs::sockstat(&sockstat, "TCP", "tw"),
        procfs::sockstat(&sockstat, "TCP", "mem"),
        extended("ListenOverflows"),
        extended("ListenDrops"),
        extended("TCPTimeouts"),
        procfs::net_counter(&snmp, "Tcp", "RetransSegs"),
        extended("TCPSynRetrans"),
        procfs::softnet_dropped(&text("/proc/net/softnet_stat")),
        conntrack,
    ];
    let available = procfs::meminfo_bytes(&text("/proc/meminfo"), "MemAvailable");
    let mut line = format!(
        "{at_ns},{},{}",
        available.map_or_else(String::new, |bytes| bytes.to_string()),
        procfs::load_1min(&text("/proc/loadavg")).map_or_else(String::new, |load| load.to_string())
    );
    for number in numbers {
        line.push(',');
        line += &number.map_or_else(String::new, |number| number.to_string());
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ReplicaSample;

    struct One;

    impl Sampler for One {
        fn sample(&mut self) -> Vec<ReplicaSample> {
            let pid = std::process::id();
            let process = procfs::process(pid, Units::of_this_host()).expect("this process");
            vec![ReplicaSample { replica: "127.0.0.11".to_owned(), pid, incarnation: 1, process }]
        }
    }

    fn columns(line: &str) -> usize {
        line.split(',').count()
    }

    #[test]
    fn each_line_has_its_headers_columns() {
        let out = tempfile::tempdir().expect("a folder");
        let folder = Folder::create(out.path(), 1_000, 0).expect("a folder");
        let mut files = Files {
            balancer: None,
            replicas: create(&folder, REPLICAS_CSV, REPLICAS_HEADER).expect("creates"),
            generator: create(&folder, GENERATOR_CSV, GENERATOR_HEADER).expect("creates"),
            host: create(&folder, HOST_CSV, HOST_HEADER).expect("creates"),
            units: Units::of_this_host(),
            dashboard: Dashboard::default(),
        };
        let now: GeneratorNow =
            Arc::new(Mutex::new(Some(("stress-1k".to_owned(), std::process::id()))));
        files.sample(&mut One, &now).expect("samples");
        files.sample(&mut One, &now).expect("samples");
        for name in [REPLICAS_CSV, GENERATOR_CSV, HOST_CSV] {
            let text = std::fs::read_to_string(folder.join(name)).expect("reads");
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 3, "{name}: {text}");
            assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{name}: {text}");
        }
    }

    #[test]
    fn the_thread_samples_until_it_is_stopped() {
        let out = tempfile::tempdir().expect("a folder");
        let folder = Folder::create(out.path(), 1_000, 0).expect("a folder");
        let sampling =
            Sampling::start(&folder, Box::new(One), false, Dashboard::default()).expect("starts");
        sampling.watch_generator(None);
        let has_sample = || {
            let text = std::fs::read_to_string(folder.join(HOST_CSV)).expect("reads");
            text.lines().count() > 1
        };
        while !has_sample() {
            clock::sleep_ns(NAP_NS / 10);
        }
        sampling.stop().expect("no write failed");
    }
}
