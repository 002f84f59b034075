//! `schema/results.schema.json` against what the reporter really writes.

mod report_support;

use report_support::{Recipe, small};
use serde_json::Value;

fn schema() -> jsonschema::Validator {
    let text = include_str!("../schema/results.schema.json");
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
}

fn written(recipe: &Recipe) -> Value {
    let dir = tempfile::tempdir().expect("a folder");
    report_support::write(dir.path(), recipe);
    reporter::report::write(dir.path()).expect("reports");
    let text = std::fs::read_to_string(dir.path().join("results.json")).expect("is there");
    serde_json::from_str(&text).expect("is JSON")
}

fn check(results: &Value) {
    let errors: Vec<String> = schema()
        .iter_errors(results)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[test]
fn what_is_written_is_valid() {
    check(&written(&small()));
}

#[test]
fn a_run_whose_stages_did_not_all_run_is_valid_too() {
    let mut recipe = Recipe { interrupted: true, ..small() };
    recipe.stages[1].skipped = Some("no memory for it");
    recipe.stages[4].skipped = Some("interrupted");
    check(&written(&recipe));
}

#[test]
fn the_schema_refuses_what_the_types_do_not_have() {
    let mut results = written(&small());
    results["surprise"] = Value::Bool(true);
    assert!(!schema().is_valid(&results));
    results.as_object_mut().expect("an object").remove("surprise");
    results["stages"][0].as_object_mut().expect("an object").remove("slip_ns");
    assert!(!schema().is_valid(&results));
    let mut other = written(&small());
    other["version"] = 2.into();
    assert!(!schema().is_valid(&other));
}
