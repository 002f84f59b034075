//! preflight.json and the table, as the program prints them on this very host.

use std::process::{Command, Output};

use serde_json::Value;

fn preflight(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reporter"))
        .arg("preflight")
        .args(arguments)
        .env_remove("COLUMNS")
        .output()
        .expect("reporter")
}

fn schema() -> jsonschema::Validator {
    let text = include_str!("../schema/preflight.schema.json");
    let schema: Value = serde_json::from_str(text).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

fn complaints(json: &Value) -> Vec<String> {
    schema().iter_errors(json).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn json_follows_its_schema_for_every_role() {
    let own = std::process::id().to_string();
    for role in ["generator", "server", "both"] {
        let arguments = ["-c", "300", "--role", role, "--pid", &own, "--closes", "5", "--json"];
        let done = preflight(&arguments);
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(complaints(&json), Vec::<String>::new());
        let code = match json["verdict"].as_str().unwrap() {
            "ok" => 0,
            "does_not_fit" => 1,
            _ => 4,
        };
        assert_eq!(done.status.code(), Some(code));
        assert_eq!(json["plan"]["connections"], 300);
    }
}

#[test]
fn json_with_errors_in_it_follows_the_schema_too() {
    let done = preflight(&["-c", "50", "--role", "server", "--pid", "4194304", "--json"]);
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(complaints(&json), Vec::<String>::new());
    assert!(json["host"]["servers"][0]["error"].as_str().unwrap().contains("4194304"));
    assert_eq!(done.status.code(), Some(4));
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let done = preflight(&["-c", "50", "--json"]);
    let good: Value = serde_json::from_slice(&done.stdout).unwrap();
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        !complaints(&json).is_empty()
    };
    assert!(!broken(&|_| {}));
    assert!(broken(&|j| j["version"] = 2.into()));
    assert!(broken(&|j| j["verdict"] = "PASS".into()));
    assert!(broken(&|j| j["items"] = Value::Array(Vec::new())));
    assert!(broken(&|j| j["items"][0]["holds"] = (-1).into()));
    assert!(broken(&|j| j["capacity"]["as_is"] = Value::Null));
}

#[test]
fn every_wanted_setting_is_recorded_beside_the_hosts_value() {
    let done = preflight(&["-c", "50", "--json"]);
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    let tuning = json["tuning"].as_array().unwrap();
    assert!(tuning.len() > 12);
    let range = tuning.iter().find(|t| t["key"] == "net.ipv4.ip_local_port_range").unwrap();
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(range["actual"], words.join(" "));
}

#[test]
fn the_table_fits_a_terminal_and_a_file_gets_no_colour() {
    let done = preflight(&["-c", "1M", "--sources", "127.0.0.1", "--targets", "127.0.0.1:8080"]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(!text.contains('\x1b'));
    let commands = ["sysctl", "reporter", "prlimit", "ulimit", "#", "run", "ramp"];
    for line in text.lines() {
        let command = commands.iter().any(|c| line.trim_start().starts_with(c));
        assert!(command || line.chars().count() < 100, "{line}");
    }
    assert!(text.contains("1,000,000 connections"), "{text}");
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for arguments in [
        &["-c", "many"][..],
        &["--targets", "127.0.0.1"],
        &["--sources", "10.0.0.0/99"],
        &["--apply", "--revert"],
    ] {
        let done = preflight(arguments);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        assert!(!done.stderr.is_empty());
    }
}
