//! What the stack's Prometheus saw: `metrics/prometheus/NAME.json`, one answer of its range query
//! API each. A file that is none, or is not there, gives nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// One series of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its labels but for the metric's name.
    pub labels: BTreeMap<String, String>,
    /// Seconds since the start of the run, and value.
    pub points: Vec<(f64, f64)>,
}

/// All queries by name.
pub type Scraped = BTreeMap<String, Vec<Curve>>;

/// Reads all files of the folder.
pub fn read(dir: &Path, started_real_ns: u64) -> Scraped {
    let mut scraped = Scraped::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(text) = fs::read_to_string(&path)
        {
            let curves = parse(&text, started_real_ns as f64 / 1e9);
            if !curves.is_empty() {
                scraped.insert(name, curves);
            }
        }
    }
    scraped
}

fn parse(text: &str, started_s: f64) -> Vec<Curve> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(result) = value["data"]["result"].as_array() else { return Vec::new() };
    result.iter().map(|series| curve(series, started_s)).collect()
}

fn curve(series: &Value, started_s: f64) -> Curve {
    let labels = series["metric"].as_object().into_iter().flatten();
    let labels = labels
        .filter(|(name, _)| *name != "__name__")
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let points = series["values"].as_array().into_iter().flatten().filter_map(|pair| {
        let value: f64 = pair[1].as_str()?.parse().ok()?;
        value.is_finite().then_some((pair[0].as_f64()? - started_s, value))
    });
    Curve { labels, points: points.collect() }
}

/// Increase a second between neighbouring points of a counter; one that began anew counts from zero.
pub fn rate(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let between = |pair: &[(f64, f64)]| {
        let ((from_s, before), (to_s, after)) = (pair[0], pair[1]);
        let increase = if after >= before { after - before } else { after };
        (to_s > from_s).then(|| (to_s, increase / (to_s - from_s)))
    };
    points.windows(2).filter_map(between).collect()
}

/// The sum of curves at each time that any of them has.
pub fn sum<'c>(curves: impl Iterator<Item = &'c [(f64, f64)]>) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (at_s, value) in curves.flatten() {
        let entry = sums.entry((at_s * 1_000.0).round() as i64).or_insert((*at_s, 0.0));
        entry.1 += value;
    }
    sums.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
        {"metric":{"__name__":"up","instance":"10.0.1.3:9100"},
         "values":[[1000,"1"],[1002,"NaN"],[1004.5,"3"]]}]}}"#;

    #[test]
    fn a_matrix_becomes_curves_on_the_runs_own_axis() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("up.json"), ANSWER).expect("writes");
        fs::write(dir.path().join("broken.json"), "{").expect("writes");
        fs::write(dir.path().join("up.txt"), ANSWER).expect("writes");
        let scraped = read(dir.path(), 998_000_000_000);
        assert_eq!(scraped.keys().collect::<Vec<_>>(), ["up"]);
        let curve = &scraped["up"][0];
        assert_eq!(curve.labels["instance"], "10.0.1.3:9100");
        assert_eq!(curve.points, [(2.0, 1.0), (6.5, 3.0)]);
        assert!(read(&dir.path().join("absent"), 0).is_empty());
    }

    #[test]
    fn a_counter_that_begins_anew_counts_from_zero_and_sums_meet_at_equal_times() {
        let points = [(0.0, 10.0), (2.0, 14.0), (4.0, 6.0)];
        assert_eq!(rate(&points), [(2.0, 2.0), (4.0, 3.0)]);
        let other = [(2.0, 5.0)];
        let both = [&points[..], &other[..]];
        assert_eq!(sum(both.into_iter()), [(0.0, 10.0), (2.0, 19.0), (4.0, 6.0)]);
    }
}
