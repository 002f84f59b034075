//! A verdict in the formats of CI systems: JUnit XML and a GitHub job summary. Pure.

use std::fmt::Write;

use crate::report::units;
use crate::results::{Results, ThresholdResult};

/// JUnit XML: one test case a threshold, and one for the run's validity.
pub fn junit(results: &Results) -> String {
    let failed = results.thresholds.iter().filter(|it| it.pass == Some(false)).count()
        + usize::from(!results.valid);
    let skipped = results.thresholds.iter().filter(|it| it.pass.is_none()).count();
    let seconds = results.duration_ns as f64 / 1e9;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites>\n<testsuite name=\"load test\" tests=\"{}\" failures=\"{failed}\" \
         skipped=\"{skipped}\" time=\"{seconds:.3}\">",
        results.thresholds.len() + 1
    );
    let validity = (!results.valid).then(|| ("failure", results.invalid_because.join("; ")));
    case(&mut out, "run", "the run is valid", validity);
    for threshold in &results.thresholds {
        let class = threshold.stage.as_deref().unwrap_or("run");
        let name = format!("{} {}", threshold.name, threshold.limit);
        let outcome = match threshold.pass {
            Some(true) => None,
            Some(false) => Some(("failure", why(threshold))),
            None => Some(("skipped", why(threshold))),
        };
        case(&mut out, class, &name, outcome);
    }
    out.push_str("</testsuite>\n</testsuites>\n");
    out
}

fn case(out: &mut String, class: &str, name: &str, outcome: Option<(&str, String)>) {
    let _ = write!(out, "<testcase classname=\"{}\" name=\"{}\"", xml(class), xml(name));
    let _ = match outcome {
        None => writeln!(out, "/>"),
        Some((element, message)) => {
            writeln!(out, "><{element} message=\"{}\"/></testcase>", xml(&message))
        }
    };
}

fn why(threshold: &ThresholdResult) -> String {
    let mut parts = Vec::new();
    parts.extend(threshold.value.map(|value| units::in_unit(value, &threshold.unit)));
    parts.extend(threshold.because.clone());
    parts.extend(threshold.next.clone());
    parts.join("; ")
}

/// Escapes for attributes; characters that XML 1.0 cannot hold become `?`.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' | '\r' => out.push(' '),
            control if control.is_control() => out.push('?'),
            other => out.push(other),
        }
    }
    out
}

/// Markdown for `$GITHUB_STEP_SUMMARY`: the verdict, the thresholds, what to doubt.
pub fn github_summary(results: &Results) -> String {
    let validity = if results.valid { "run valid" } else { "**run not valid**" };
    let mut out = format!("## Load test: {} ({validity})\n\n", results.verdict.name());
    if results.interrupted {
        out.push_str("Interrupted: the run did not reach its end.\n\n");
    }
    for reason in &results.invalid_because {
        let _ = writeln!(out, "- not valid: {}", one_line(reason));
    }
    out.push_str("\n| | Threshold | Limit | Measured | Stage |\n|:---:|:---|---:|---:|:---|\n");
    for threshold in &results.thresholds {
        let sign = match threshold.pass {
            Some(true) => "pass",
            Some(false) => "**FAIL**",
            None => "—",
        };
        let value =
            threshold.value.map_or("—".to_owned(), |v| units::in_unit(v, &threshold.unit));
        let _ = writeln!(
            out,
            "| {sign} | {} | {} | {value} | {} |",
            one_line(&threshold.name),
            one_line(&threshold.limit),
            one_line(threshold.stage.as_deref().unwrap_or("—"))
        );
    }
    out
}

fn one_line(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_is_escaped_and_has_no_forbidden_character() {
        assert_eq!(xml("a<b & \"c\"\u{1}\n"), "a&lt;b &amp; &quot;c&quot;? ");
    }
}
