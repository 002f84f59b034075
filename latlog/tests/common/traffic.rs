//! Made-up traffic as one worker would record it; for tests and examples. It knows no bytes.

use latlog::{Outcome, Request};

/// Requests of one worker in the order of completion: an open loop at `rate_per_s`, 12 targets,
/// slip log-uniform in 1 us..1 ms, service log-uniform in 100 us..100 ms, one in a thousand fails.
/// One answer in four comes in several parts, so that its first byte is seen before its end.
pub struct Traffic {
    random: u64,
    done_ns: u64,
    gap_ns: f64,
}

impl Traffic {
    pub fn new(seed: u64, rate_per_s: f64) -> Self {
        // A day of uptime: absolute times are large, as on a real host.
        Self { random: seed, done_ns: 86_400_000_000_000, gap_ns: 1e9 / rate_per_s }
    }

    /// splitmix64 (Steele, Lea, Flood 2014).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In 0..1.
    fn unit(&mut self) -> f64 {
        (self.next_random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn log_uniform(&mut self, from: f64, to: f64) -> u64 {
        (from * (to / from).powf(self.unit())) as u64
    }
}

impl Iterator for Traffic {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.done_ns += (-self.gap_ns * (1.0 - self.unit()).ln()) as u64;
        let service_ns = self.log_uniform(1e5, 1e8);
        let slip_ns = self.log_uniform(1e3, 1e6);
        let parts = self.next_random().is_multiple_of(4);
        let tail_ns = if parts { self.log_uniform(1e3, 1e5) } else { 0 };
        let failed = self.next_random().is_multiple_of(1000);
        let sent_ns = self.done_ns - service_ns;
        Some(Request {
            intended_ns: sent_ns - slip_ns,
            sent_ns,
            first_byte_ns: self.done_ns - tail_ns,
            done_ns: self.done_ns,
            outcome: if failed { Outcome::HttpStatus } else { Outcome::Ok },
            detail: if failed { 503 } else { 0 },
            target: (self.next_random() % 12) as u16,
            op: (self.next_random() % 4) as u8,
        })
    }
}
