//! How fast this machine writes and reads a log, on one core.
//!
//!     cargo run --release -p latlog --example decode_speed [records]
//!
//! It writes a log of made-up traffic to the temporary directory and prints, for each step, the
//! best of five passes. Each pass reads the file anew, so it comes from the page cache.

#[path = "../tests/common/traffic.rs"]
mod traffic;

use std::error::Error;
use std::time::Instant;

use hdrhistogram::Histogram;
use latlog::{
    Anchor, BlockBuilder, BlockKind, End, FileHeader, LogReader, LogWriter, Request, WorkerTotals,
};

const PASSES: u32 = 5;
const BLOCK_BYTES: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(4_000_000), |count| count.parse::<usize>())?;
    let requests: Vec<Request> = traffic::Traffic::new(1, 25_000.0).take(count).collect();
    let path = std::env::temp_dir().join(format!("decode-speed-{}.latlog", std::process::id()));
    let result = measure(&requests, &path);
    std::fs::remove_file(&path)?;
    result
}

fn measure(requests: &[Request], path: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let mut builder = BlockBuilder::new(0, BlockKind::Requests, BLOCK_BYTES);
    best("push_request and seal", requests.len(), || {
        let mut seq = 0;
        let mut bytes = 0;
        for request in requests {
            if builder.is_full() {
                bytes += builder.seal(seq).len();
                builder.clear();
                seq += 1;
            }
            builder.push_request(request).expect("room was checked");
        }
        builder.clear();
        Ok(bytes as u64)
    })?;

    let bytes = write(requests, path)?;
    println!("{:32} {:8.2} bytes a record", "file", bytes as f64 / requests.len() as f64);

    let mut payload = Vec::new();
    let mut decoded = Vec::new();
    let mut reader = LogReader::open(path)?;
    let index = reader.index()?;
    best("read and check blocks", requests.len(), || {
        let mut sum = 0;
        for block in &index {
            sum += u64::from(reader.read_block(block, &mut payload)?.count());
        }
        Ok(sum)
    })?;
    best("read, check, decode", requests.len(), || {
        let mut sum = 0_u64;
        for block in &index {
            decoded.clear();
            reader.read_block(block, &mut payload)?.read_requests(&mut decoded)?;
            sum = decoded.iter().fold(sum, |sum, r| sum.wrapping_add(r.response_ns()));
        }
        Ok(sum)
    })?;
    best("the same by the iterator", requests.len(), || {
        let mut sum = 0_u64;
        for block in LogReader::open(path)?.blocks() {
            for request in block?.requests() {
                sum = sum.wrapping_add(request?.response_ns());
            }
        }
        Ok(sum)
    })?;

    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3);
    let [mut slip, mut service, mut response] = [histogram()?, histogram()?, histogram()?];
    best("decode and record 3 histograms", requests.len(), || {
        for block in &index {
            decoded.clear();
            reader.read_block(block, &mut payload)?.read_requests(&mut decoded)?;
            for request in &decoded {
                slip.saturating_record(request.slip_ns());
                service.saturating_record(request.service_ns());
                response.saturating_record(request.response_ns());
            }
        }
        Ok(response.len())
    })
}

fn write(requests: &[Request], path: &std::path::Path) -> Result<u64, Box<dyn Error>> {
    let start = Anchor { mono_ns: 0, real_ns: 0 };
    let header = FileHeader { host: "host".into(), pid: 1, start, plan: serde_json::json!({}) };
    let mut writer = LogWriter::create(path, &header)?;
    let mut builder = BlockBuilder::new(0, BlockKind::Requests, BLOCK_BYTES);
    let mut blocks = 0;
    for request in requests {
        if builder.is_full() {
            writer.append(builder.seal(blocks))?;
            builder.clear();
            blocks += 1;
        }
        builder.push_request(request)?;
    }
    writer.append(builder.seal(blocks))?;
    let requests = requests.len() as u64;
    let totals = vec![WorkerTotals { worker: 0, blocks: blocks + 1, requests, events: 0 }];
    writer.finish(&End { anchor: start, totals })?;
    Ok(writer.len_bytes())
}

#[expect(
    clippy::disallowed_methods,
    reason = "an example measures itself; nothing shares its time"
)]
fn best(
    what: &str,
    records: usize,
    mut pass: impl FnMut() -> Result<u64, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut best_s = f64::INFINITY;
    for _ in 0..PASSES {
        let start = Instant::now();
        std::hint::black_box(pass()?);
        best_s = best_s.min(start.elapsed().as_secs_f64());
    }
    let (rate, each_ns) = (records as f64 / best_s / 1e6, best_s * 1e9 / records as f64);
    println!("{what:32} {rate:8.1} M records/s {each_ns:8.1} ns each");
    Ok(())
}
