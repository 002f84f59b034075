//! A latency log as text for other programs: CSV, JSON, JSON lines, or an HdrHistogram interval
//! log. It writes as it reads; only the interval log holds something (one small histogram for each
//! of at most 1,800 intervals).

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use latlog::{Block, LogReader, Request};
use serde_json::json;

use crate::analysis::frame::{Buckets, Span};
use crate::analysis::logs::PlanFacts;

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Requests, one a line, with a header line.
    Csv,
    /// One array of request objects.
    Json,
    /// One object a line: requests, events, samples and notes, in the order of the file.
    Ndjson,
    /// Response latency of answered load requests in microseconds, one interval a line.
    Hlog,
}

/// Writes the content of a log; what is damaged is left out, and the count of it is returned.
///
/// # Errors
/// It is no log, or reading or writing fails.
pub fn dump(path: &Path, format: Format, out: &mut dyn Write) -> anyhow::Result<latlog::Damage> {
    let mut reader = LogReader::open(path).with_context(|| format!("{}", path.display()))?;
    let plan = PlanFacts::read(&reader.header().plan);
    let mut out = BufWriter::new(out);
    match format {
        Format::Csv => csv(&mut reader, &plan, &mut out)?,
        Format::Json => json_array(&mut reader, &plan, &mut out)?,
        Format::Ndjson => ndjson(&mut reader, &plan, &mut out)?,
        Format::Hlog => interval_log(&mut reader, &plan, &mut out)?,
    }
    out.flush()?;
    Ok(reader.damage().clone())
}

fn op_name(plan: &PlanFacts, op: u8) -> String {
    plan.ops.get(usize::from(op)).map_or_else(|| op.to_string(), |(name, _)| name.clone())
}

fn target_name(plan: &PlanFacts, target: u16) -> String {
    plan.targets.get(usize::from(target)).map_or_else(|| target.to_string(), Clone::clone)
}

fn csv(reader: &mut LogReader, plan: &PlanFacts, out: &mut impl Write) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record([
        "worker",
        "intended_ns",
        "sent_ns",
        "first_byte_ns",
        "done_ns",
        "outcome",
        "detail",
        "target",
        "op",
    ])?;
    for block in reader.blocks() {
        let block = block?;
        for request in block.requests().map_while(Result::ok) {
            writer.write_record([
                block.worker().to_string(),
                request.intended_ns.to_string(),
                request.sent_ns.to_string(),
                request.first_byte_ns.to_string(),
                request.done_ns.to_string(),
                request.outcome.name().to_owned(),
                request.detail.to_string(),
                target_name(plan, request.target),
                op_name(plan, request.op),
            ])?;
        }
    }
    writer.flush()?;
    Ok(())
}

fn request_object(plan: &PlanFacts, worker: u16, request: &Request) -> serde_json::Value {
    json!({
        "worker": worker, "intended_ns": request.intended_ns, "sent_ns": request.sent_ns,
        "first_byte_ns": request.first_byte_ns, "done_ns": request.done_ns,
        "outcome": request.outcome.name(), "detail": request.detail,
        "target": target_name(plan, request.target), "op": op_name(plan, request.op),
    })
}

fn json_array(
    reader: &mut LogReader,
    plan: &PlanFacts,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut before = "[\n";
    for block in reader.blocks() {
        let block = block?;
        for request in block.requests().map_while(Result::ok) {
            write!(out, "{before}{}", request_object(plan, block.worker(), &request))?;
            before = ",\n";
        }
    }
    let empty = before == "[\n";
    writeln!(out, "{}", if empty { "[]" } else { "\n]" })?;
    Ok(())
}

fn ndjson(reader: &mut LogReader, plan: &PlanFacts, out: &mut impl Write) -> anyhow::Result<()> {
    for block in reader.blocks() {
        ndjson_block(&block?, plan, out)?;
    }
    Ok(())
}

fn ndjson_block(block: &Block<'_>, plan: &PlanFacts, out: &mut impl Write) -> anyhow::Result<()> {
    let worker = block.worker();
    for request in block.requests().map_while(Result::ok) {
        let mut object = request_object(plan, worker, &request);
        object["type"] = json!("request");
        writeln!(out, "{object}")?;
    }
    for event in block.events().map_while(Result::ok) {
        let object = json!({
            "type": "event", "worker": worker, "at_ns": event.at_ns, "kind": event.kind.name(),
            "session": event.session, "target": target_name(plan, event.target),
            "outcome": event.outcome.name(), "detail": event.detail, "value": event.value,
        });
        writeln!(out, "{object}")?;
    }
    for sample in block.samples().map_while(Result::ok) {
        let values: serde_json::Map<String, serde_json::Value> = plan
            .sample_fields
            .iter()
            .zip(&sample.values)
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let object =
            json!({"type": "sample", "worker": worker, "at_ns": sample.at_ns, "values": values});
        writeln!(out, "{object}")?;
    }
    for note in block.notes().map_while(Result::ok) {
        let object =
            json!({"type": "note", "at_ns": note.at_ns, "name": note.name, "text": note.text});
        writeln!(out, "{object}")?;
    }
    Ok(())
}

/// Two significant digits of microseconds: about 13 kB an interval.
fn interval_log(
    reader: &mut LogReader,
    plan: &PlanFacts,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let index = reader.index()?;
    let start = reader.header().start;
    let last = index.iter().map(|block| block.base_ns).max().unwrap_or(start.mono_ns);
    let last = reader.end().map_or(last + 1_000_000_000, |end| end.anchor.mono_ns);
    let span = Span { start_ns: start.mono_ns, end_ns: last.max(start.mono_ns + 1) };
    let buckets = Buckets::cover(span);
    let mut histograms: Vec<Option<Histogram<u32>>> = vec![None; buckets.count];
    for block in reader.blocks() {
        for request in block?.requests().map_while(Result::ok) {
            let load = plan.ops.get(usize::from(request.op)).is_some_and(|(_, load)| *load);
            if load && request.outcome.is_ok() {
                let histogram =
                    histograms[buckets.nearest(request.done_ns)].get_or_insert_with(|| {
                        Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("constant bounds")
                    });
                histogram.saturating_record(request.response_ns() / 1_000);
            }
        }
    }
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    let started = UNIX_EPOCH + Duration::from_nanos(start.real_ns);
    builder
        .add_comment("response latency of answered load requests, microseconds")
        .with_start_time(started)
        .with_base_time(started);
    let mut writer = builder.begin_log_with(out, &mut serializer)?;
    for (bucket, histogram) in histograms.iter().enumerate() {
        let Some(histogram) = histogram else { continue };
        let at = Duration::from_nanos(buckets.start_of(bucket) - buckets.start_ns);
        let width = Duration::from_nanos(buckets.width_ns);
        writer
            .write_histogram(histogram, at, width, None)
            .map_err(|error| anyhow!("cannot write an interval: {error}"))?;
    }
    Ok(())
}
