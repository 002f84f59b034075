//! The comparison as a Markdown table: medians, with the least and the most beside them.

use std::fmt::Write;

use anyhow::Result;

/// One run of one tool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Requests a second between the first and the last arrival at the target.
    pub requests_per_s: f64,
    /// CPU of the tool for each request (us), its start and its connecting included.
    pub tool_us_per_request: f64,
    /// CPU of the target for each request (us).
    pub server_us_per_request: f64,
    /// Most connections open at once.
    pub open_peak: u64,
    /// Bytes of the tool's log for each request; 0 where it keeps none.
    pub log_bytes_per_request: f64,
}

/// Renders one row a tool; `ours` names the tool that ratios are taken to.
pub fn render(rows: &[(&str, Vec<Result<Measured>>)], ours: &str) -> String {
    let own_us = rows
        .iter()
        .find(|(name, _)| *name == ours)
        .and_then(|(_, runs)| spread(runs, |run| run.tool_us_per_request))
        .map(|(median, ..)| median);
    let mut text = String::from(
        "| generator | requests/s | generator CPU us/request | ratio to ours | target CPU \
         us/request | connections held | log bytes/request | runs |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (name, runs) in rows {
        let failed = runs.iter().filter(|run| run.is_err()).count();
        let counted = format!("{} of {}", runs.len() - failed, runs.len());
        let (Some(rate), Some(tool), Some(server), Some(held), Some(log)) = (
            spread(runs, |run| run.requests_per_s),
            spread(runs, |run| run.tool_us_per_request),
            spread(runs, |run| run.server_us_per_request),
            spread(runs, |run| run.open_peak as f64),
            spread(runs, |run| run.log_bytes_per_request),
        ) else {
            row(&mut text, &[name, "failed", "-", "-", "-", "-", "-", &counted]);
            continue;
        };
        let ratio = own_us.map_or_else(|| "-".into(), |own| format!("{:.2}", tool.0 / own));
        let log = if log.0 > 0.0 { format!("{:.1}", log.0) } else { "-".into() };
        let cells: [&str; 8] = [
            *name,
            &format!("{:.0} ({:.0}..{:.0})", rate.0, rate.1, rate.2),
            &format!("{:.2} ({:.2}..{:.2})", tool.0, tool.1, tool.2),
            &ratio,
            &format!("{:.2}", server.0),
            &format!("{:.0}", held.1),
            &log,
            &counted,
        ];
        row(&mut text, &cells);
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    writeln!(text, "| {} |", cells.join(" | ")).expect("a String takes every write");
}

/// Median, least and most of the runs that succeeded.
fn spread(runs: &[Result<Measured>], of: fn(&Measured) -> f64) -> Option<(f64, f64, f64)> {
    let mut values: Vec<f64> = runs.iter().flatten().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = match values.len() {
        0 => return None,
        count if count % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    };
    Some((median, values[0], values[values.len() - 1]))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn run(us: f64) -> Result<Measured> {
        Ok(Measured {
            requests_per_s: 1000.0 * us,
            tool_us_per_request: us,
            server_us_per_request: 7.0,
            open_peak: 512,
            log_bytes_per_request: if us == 4.0 { 12.0 } else { 0.0 },
        })
    }

    #[test]
    fn medians_ratios_and_failures_are_shown() {
        let rows = vec![
            ("ours", vec![run(5.0), run(4.0), run(9.0)]),
            ("peer", vec![run(10.0), Err(anyhow!("died"))]),
            ("none", vec![Err(anyhow!("died"))]),
        ];
        let text = render(&rows, "ours");
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines[0],
            "| ours | 5000 (4000..9000) | 5.00 (4.00..9.00) | 1.00 | 7.00 | 512 | - | 3 of 3 |"
        );
        assert!(lines[1].contains("| 2.00 |") && lines[1].ends_with("| 1 of 2 |"));
        assert_eq!(lines[2], "| none | failed | - | - | - | - | - | 0 of 1 |");
    }

    #[test]
    fn an_even_number_of_runs_has_the_mean_of_the_middle_two() {
        let runs = [run(1.0), run(2.0), run(4.0), run(100.0)];
        assert_eq!(spread(&runs, |run| run.tool_us_per_request), Some((3.0, 1.0, 100.0)));
    }
}
