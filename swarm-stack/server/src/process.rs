//! The process as the kernel accounts it: memory, CPU, descriptors, start.
//!
//! Owns /proc/self and the names of Prometheus' own process metrics. It must not know MCP.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::clock;

/// Reads the process's figures at each scrape.
#[derive(Debug)]
pub struct ProcessMetrics {
    start_time_s: f64,
}

impl ProcessMetrics {
    /// Takes the present moment as the process's start.
    pub fn starting_now() -> Self {
        Self { start_time_s: clock::unix_time_s() }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        if let Some(bytes) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Resident memory", bytes as f64)?;
        }
        if let Some(count) = open_fds() {
            gauge("process_open_fds", "Descriptors open", count as f64)?;
        }
        if let Some(limit) = max_fds() {
            gauge("process_max_fds", "Descriptors allowed", limit as f64)?;
        }
        gauge("process_start_time_seconds", "Start, Unix time", self.start_time_s)?;
        if let Some(seconds) = cpu_s() {
            let metric = ConstCounter::new(seconds);
            let help = "User and system CPU time";
            metric.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                MetricType::Counter,
            )?)?;
        }
        Ok(())
    }
}

/// Resident memory in bytes, from /proc/self/statm (proc(5)).
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page_bytes).ok()?)
}

/// Descriptors open. Linux 6.2 and newer give the count as the size of /proc/self/fd; older
/// kernels say 0 there and the entries are counted.
pub fn open_fds() -> Option<u64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

fn max_fds() -> Option<u64> {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}

/// User and system CPU time of all threads, in seconds (getrusage(2)).
fn cpu_s() -> Option<f64> {
    use nix::sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike,
    };
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let total = usage.user_time() + usage.system_time();
    Some(total.num_microseconds() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(open_fds().unwrap() >= 3);
        assert!(max_fds().unwrap() >= open_fds().unwrap());
        assert!(cpu_s().is_some());
    }
}
