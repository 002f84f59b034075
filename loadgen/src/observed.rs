//! What the coordinator saw of the workers while the run lasted: peaks, and what the counted part
//! took. It looks and adds up; `summary` says it.

use std::sync::Arc;

use crate::worker::Window;
use crate::worker::sample::Sample;

/// Highest values and the counted part, as the coordinator saw them.
#[derive(Debug, Default)]
pub struct Observed {
    /// Most connections that stood at one time.
    pub tcp_open_peak: u64,
    /// Most sessions that were alive at one time.
    pub session_alive_peak: u64,
    /// Most event streams that were open at one time.
    pub stream_open_peak: u64,
    /// Most resident memory, bytes.
    pub rss_bytes_max: u64,
    /// Of the fields that are a maximum: the greatest since the start.
    pub most: Sample,
    first: Option<Look>,
    last: Option<Look>,
}

/// What had been used at one moment.
#[derive(Debug)]
struct Look {
    at_ns: u64,
    /// Of the whole process.
    cpu_ns: u64,
    bytes: u64,
    worker_cpu_ns: Vec<u64>,
}

impl Look {
    fn of(at_ns: u64, cpu_ns: u64, windows: &[Arc<Window>]) -> Self {
        let samples = || windows.iter().map(|window| window.sample.read());
        let bytes = samples().map(|sample| sample.bytes_in + sample.bytes_out).sum();
        Self { at_ns, cpu_ns, bytes, worker_cpu_ns: samples().map(|s| s.cpu_ns).collect() }
    }
}

/// What the counted part took.
#[derive(Debug)]
pub struct Hold {
    /// CPU of the process, in cores.
    pub cpu_share: f64,
    /// CPU of each worker, in cores.
    pub worker_cpu_shares: Vec<f64>,
    /// Bytes received and sent.
    pub bytes_per_s: f64,
}

impl Hold {
    /// CPU of the worker that took the most of it, in cores.
    pub fn busiest_worker(&self) -> f64 {
        self.worker_cpu_shares.iter().copied().fold(0.0, f64::max)
    }
}

impl Observed {
    /// Takes a look at the sums.
    pub fn see(&mut self, sum: &Sample) {
        self.tcp_open_peak = self.tcp_open_peak.max(sum.tcp_open);
        self.session_alive_peak = self.session_alive_peak.max(sum.session_alive);
        self.stream_open_peak = self.stream_open_peak.max(sum.stream_open);
        self.rss_bytes_max = self.rss_bytes_max.max(sum.rss_bytes);
        self.most.keep_maxima(sum);
    }

    /// The counted part begins; the process has used `cpu_ns` so far.
    pub fn hold_begins(&mut self, now_ns: u64, cpu_ns: u64, windows: &[Arc<Window>]) {
        self.first = Some(Look::of(now_ns, cpu_ns, windows));
    }

    /// The counted part lasts until at least now.
    pub fn hold_goes_on(&mut self, now_ns: u64, cpu_ns: u64, windows: &[Arc<Window>]) {
        self.last = Some(Look::of(now_ns, cpu_ns, windows));
    }

    /// What the counted part took; `None` before it has lasted for any time.
    pub fn hold(&self) -> Option<Hold> {
        let (first, last) = (self.first.as_ref()?, self.last.as_ref()?);
        let ns = last.at_ns.checked_sub(first.at_ns).filter(|ns| *ns > 0)? as f64;
        let share = |from: u64, to: u64| to.saturating_sub(from) as f64 / ns;
        let workers = first.worker_cpu_ns.iter().zip(&last.worker_cpu_ns);
        Some(Hold {
            cpu_share: share(first.cpu_ns, last.cpu_ns),
            worker_cpu_shares: workers.map(|(from, to)| share(*from, *to)).collect(),
            bytes_per_s: share(first.bytes, last.bytes) * 1e9,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_counted_part_alone() {
        let windows = [Arc::new(Window::default()), Arc::new(Window::default())];
        let show = |cpu_ns: [u64; 2]| {
            for (window, cpu_ns) in windows.iter().zip(cpu_ns) {
                let bytes = cpu_ns / 1_000;
                window.sample.publish(&Sample { cpu_ns, bytes_in: bytes, ..Sample::default() });
            }
        };
        let mut observed = Observed::default();
        show([7_000_000, 9_000_000]);
        observed.hold_begins(1_000_000_000, 20_000_000, &windows);
        assert!(observed.hold().is_none(), "nothing is known of no time");
        show([507_000_000, 259_000_000]);
        observed.hold_goes_on(2_000_000_000, 820_000_000, &windows);
        let hold = observed.hold().expect("a second");
        assert_eq!((hold.cpu_share, hold.busiest_worker()), (0.8, 0.5));
        assert_eq!(hold.worker_cpu_shares, [0.5, 0.25]);
        assert_eq!(hold.bytes_per_s, 750_000.0);
    }
}
