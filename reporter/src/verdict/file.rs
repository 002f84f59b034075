//! Thresholds from a TOML file: a line a figure, and a table for each stage with its own.
//!
//! ```toml
//! p99 = "< 500ms"
//! success = ">= 95%"
//! rss_growth = "< 5%/h"
//!
//! [stage.failover]
//! p99 = "< 2s"
//! max = ["< 10s", "> 1us"]
//! ```

use std::path::Path;

use toml::{Table, Value};

use super::threshold::Threshold;

/// Reads a file; each threshold as it would be typed after `--threshold`.
///
/// # Errors
/// A sentence that names the file, the line's key, and what is wrong with it.
pub fn read(path: &Path) -> Result<Vec<String>, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    parse(&text).map_err(|problem| format!("{name}: {problem}"))
}

/// Reads the text of such a file.
///
/// # Errors
/// As [`read`], without the file's name.
pub fn parse(text: &str) -> Result<Vec<String>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut found = Vec::new();
    for (key, value) in &table {
        if key != "stage" {
            conditions("", key, value, &mut found)?;
            continue;
        }
        let stages = value
            .as_table()
            .ok_or("`stage` must be a table, as in [stage.failover] and p99 = \"< 2s\"")?;
        for (stage, own) in stages {
            let own = own.as_table().ok_or_else(|| {
                format!("`stage.{stage}` must be a table, as in [stage.{stage}] and p99 = \"< 2s\"")
            })?;
            for (key, value) in own {
                conditions(&format!("stage:{stage}:"), key, value, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// `p99 = "< 500ms"`, or a list of such conditions.
fn conditions(
    scope: &str,
    metric: &str,
    value: &Value,
    found: &mut Vec<String>,
) -> Result<(), String> {
    let several = match value {
        Value::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    for value in several {
        let Some(condition) = value.as_str() else {
            let kind = value.type_str();
            return Err(format!(
                "`{metric}` has type {kind}: a condition is a text with a comparison and a unit, such as \
                 {metric} = \"< 500ms\""
            ));
        };
        let text = format!("{scope}{metric}{condition}");
        text.parse::<Threshold>().map_err(|error| error.to_string())?;
        found.push(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::threshold::resolve;

    #[test]
    fn a_file_says_what_options_would() {
        let text = "p99 = '< 250ms'\nsuccess = '>= 99%'\n[stage.failover]\np99 = '< 2s'\n\
                    max = ['< 10s', '> 1us']";
        let found = parse(text).expect("parses");
        let all = resolve(&found).expect("resolves");
        let limit = |name: &str| all.iter().find(|it| it.name() == name).map(|it| it.limit);
        assert_eq!(limit("p99"), Some(2.5e8));
        assert_eq!(limit("success"), Some(99.0));
        assert_eq!(limit("stage:failover:p99"), Some(2e9));
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_wrong_unit_or_shape_is_named_with_its_key() {
        let refused = |text: &str| parse(text).expect_err(text);
        assert!(refused("p99 = '< 500'").contains("a duration"));
        assert!(refused("success = '>= 0.95'").contains("such as 95%"));
        assert!(refused("[stage.failover]\nthroughput = '> 5ms'").contains("stage:failover:"));
        assert!(refused("p99 = 500").contains("`p99` has type integer"));
        assert!(refused("speed = '< 5ms'").contains("no metric `speed`"));
        assert!(refused("stage = 5").contains("must be a table"));
        assert!(refused("[stage]\nfailover = 5").contains("stage.failover"));
        assert!(refused("p99 < 5ms").contains("line 1"), "{}", refused("p99 < 5ms"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/limits.toml")).expect_err("is not there");
        assert!(error.starts_with("/nowhere/limits.toml: "), "{error}");
    }
}
