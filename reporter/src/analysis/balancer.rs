//! The balancer that the load went through: what it held in each stage, and whether that was all that
//! it can hold.

use super::frame::Span;
use super::table::Table;
use crate::results::BalancerResult;

/// Share of a limit from which it is the limit that holds things up: connections that wait to be let
/// in come and go, and are sampled once a second.
pub const FULL_SHARE: f64 = 0.97;

/// What the samples of a stage say; none without a sample.
pub fn in_stage(
    table: &Table,
    stage: &str,
    span: Span,
    hold: Option<Span>,
) -> Option<BalancerResult> {
    let rows: Vec<usize> =
        (0..table.len()).filter(|&row| span.contains(table.at_ns(row))).collect();
    let most = |column: &str| {
        let known = rows.iter().map(|&row| table.number(row, column)).filter(|n| n.is_finite());
        known.reduce(f64::max).map(|most| most as u64)
    };
    let cpu_cores = hold.and_then(|hold| {
        let inside: Vec<usize> =
            rows.iter().copied().filter(|&row| hold.contains(table.at_ns(row))).collect();
        let (first, last) = (*inside.first()?, *inside.last()?);
        let wall_ns = table.at_ns(last).checked_sub(table.at_ns(first)).filter(|&wall| wall > 0)?;
        let used_ns = table.number(last, "cpu_ns") - table.number(first, "cpu_ns");
        (used_ns >= 0.0).then_some(used_ns / wall_ns as f64)
    });
    Some(BalancerResult {
        stage: stage.to_owned(),
        connections: most("connections"),
        connections_max: most("connections_max"),
        fds: most("fds")?,
        fds_max: most("fds_max")?,
        rss_bytes: most("rss_bytes")?,
        cpu_cores,
    })
}

/// Which limit the balancer has reached, as a sentence; none if it has reached none.
pub fn full(balancer: &BalancerResult) -> Option<String> {
    let reached = |used: u64, max: u64| max > 0 && used as f64 >= max as f64 * FULL_SHARE;
    if let (Some(held), Some(max)) = (balancer.connections, balancer.connections_max)
        && reached(held, max)
    {
        return Some(format!("{held} of the {max} connections that it accepts"));
    }
    reached(balancer.fds, balancer.fds_max)
        .then(|| format!("{} of its {} descriptors", balancer.fds, balancer.fds_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(connections: Option<u64>, fds: u64) -> BalancerResult {
        BalancerResult {
            stage: "stress".to_owned(),
            connections,
            connections_max: connections.map(|_| 9_900),
            fds,
            fds_max: 20_000,
            rss_bytes: 1,
            cpu_cores: None,
        }
    }

    #[test]
    fn the_limit_that_is_reached_first_is_named() {
        assert_eq!(full(&held(Some(9_000), 18_100)), None);
        assert!(full(&held(Some(9_900), 12_000)).expect("is full").contains("9900 connections"));
        assert!(full(&held(None, 19_990)).expect("is full").contains("20000 descriptors"));
        assert!(full(&held(Some(9_000), 19_700)).expect("is full").contains("descriptors"));
    }

    #[test]
    fn a_stage_has_the_most_of_its_own_samples_and_cores_of_its_hold_phase() {
        let text = "at_ns,address,rss_bytes,cpu_ns,fds,fds_max,connections,connections_max\n\
                    10,lb,5,0,100,20000,40,9900\n20,lb,7,5,900,20000,,9900\n99,lb,9,9,9999,20000,9,9900\n";
        let table = Table::parse(text).expect("parses");
        let span = Span { start_ns: 0, end_ns: 50 };
        let result = in_stage(&table, "a", span, Some(span)).expect("has samples");
        assert_eq!((result.connections, result.fds, result.rss_bytes), (Some(40), 900, 7));
        assert_eq!(result.cpu_cores, Some(0.5));
        assert_eq!(in_stage(&table, "b", Span { start_ns: 60, end_ns: 70 }, None), None);
    }
}
