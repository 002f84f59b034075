//! The command line and the scenario file beside it: what is typed goes before what the file says.
//! The file has the options' names; what they mean is `plan`'s.

use std::ffi::OsString;
use std::fs;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, ValueEnum};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use crate::cli::{Cli, End, Protocol};
use crate::curve::Stage;
use crate::schedule::Arrivals;
use crate::search::Threshold;

/// Reads the command line of this process, with the scenario that it names.
///
/// # Errors
/// What is wrong with the scenario. Wrong usage ends the process, as `--help` does.
pub fn command_line() -> Result<Cli, String> {
    read(std::env::args_os())
}

fn read(words: impl IntoIterator<Item = OsString>) -> Result<Cli, String> {
    let matches = Cli::command().get_matches_from(words);
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    let Some(path) = cli.scenario.clone() else { return Ok(cli) };
    let within = |cause: String| format!("--scenario {}: {cause}", path.display());
    let text = fs::read_to_string(&path).map_err(|e| within(e.to_string()))?;
    let scenario: Scenario = toml::from_str(&text).map_err(|e| within(e.to_string()))?;
    let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    scenario.fill(&mut cli, typed).map_err(within)?;
    Ok(cli)
}

/// A scenario file. Every key is optional and has the name of an option.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    targets: Option<Vec<String>>,
    connections: Option<NonZeroU32>,
    sessions: Option<NonZeroU32>,
    in_flight: Option<NonZeroU32>,
    workers: Option<NonZeroU16>,
    ramp: Option<Rate>,
    ramp_steps: Option<NonZeroU32>,
    ramp_pause: Option<Time>,
    opening: Option<NonZeroU32>,
    rate: Option<Rate>,
    duration: Option<Time>,
    #[serde(default)]
    stage: Vec<StageRow>,
    warmup: Option<Time>,
    closed: Option<bool>,
    find_limit: Option<Parsed<Threshold>>,
    step: Option<Time>,
    arrivals: Option<Named<Arrivals>>,
    seed: Option<u64>,
    protocol: Option<Named<Protocol>>,
    mcp_revision: Option<String>,
    #[serde(default)]
    call: Vec<Call>,
    #[serde(default)]
    headers: Vec<String>,
    heartbeat: Option<Time>,
    timeout: Option<Time>,
    end: Option<Named<End>>,
    spin: Option<bool>,
}

/// One tool of the mix.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    tool: String,
    weight: Option<NonZeroU32>,
    arguments: Option<serde_json::Map<String, serde_json::Value>>,
}

/// One stage of the load.
#[derive(Debug, Deserialize)]
#[serde(try_from = "StageText")]
struct StageRow(Stage);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StageText {
    duration: Time,
    rate: Rates,
    steps: Option<u32>,
}

impl TryFrom<StageText> for StageRow {
    type Error = String;

    fn try_from(text: StageText) -> Result<Self, String> {
        let steps = text.steps.unwrap_or(0);
        if text.steps == Some(0) {
            return Err("a stage has from 2 steps on, or none for a line".into());
        }
        Stage::new(text.duration.0, text.rate.0, steps).map(Self)
    }
}

/// `"10s"`
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Time(Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        crate::cli::duration(&text).map(Self)
    }
}

/// More than 0 a second.
#[derive(Debug, Deserialize)]
#[serde(try_from = "f64")]
struct Rate(f64);

impl TryFrom<f64> for Rate {
    type Error = String;

    fn try_from(rate: f64) -> Result<Self, String> {
        crate::cli::positive(&rate.to_string()).map(Self)
    }
}

/// `1000`, or `[1000, 5000]`
#[derive(Debug)]
struct Rates((f64, f64));

impl<'de> Deserialize<'de> for Rates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Rates;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a rate such as 1000, or the first and the last, such as [1000, 5000]")
            }

            fn visit_i64<E>(self, rate: i64) -> Result<Rates, E> {
                Ok(Rates((rate as f64, rate as f64)))
            }

            fn visit_f64<E>(self, rate: f64) -> Result<Rates, E> {
                Ok(Rates((rate, rate)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rates: A) -> Result<Rates, A::Error> {
                let first = rates.next_element()?.ok_or_else(|| A::Error::custom("no rate"))?;
                let last = rates.next_element()?.unwrap_or(first);
                match rates.next_element::<f64>()? {
                    Some(_) => Err(A::Error::custom("more than a first and a last rate")),
                    None => Ok(Rates((first, last))),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// One of the names that an option has.
#[derive(Debug)]
struct Named<T>(T);

impl<'de, T: ValueEnum> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_str(&text, false).map(Named).map_err(|_| {
            let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
            D::Error::custom(format!("'{text}' is none of {}", names.join(", ")))
        })
    }
}

/// A value as it is typed.
#[derive(Debug)]
struct Parsed<T>(T);

impl<'de, T: std::str::FromStr<Err = String>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Parsed).map_err(D::Error::custom)
    }
}

impl Scenario {
    /// Puts into `cli` what was not typed. The kinds of load exclude each other: whoever types one
    /// gets none of the file's.
    fn fill(self, cli: &mut Cli, typed: impl Fn(&str) -> bool) -> Result<(), String> {
        macro_rules! take {
            ($($name:ident => $value:expr),* $(,)?) => {
                $(if let Some(value) = self.$name.filter(|_| !typed(stringify!($name))) {
                    cli.$name = $value(value);
                })*
            };
        }
        let kinds = ["rate", "closed", "find_limit"];
        let loaded = kinds.iter().chain(&["stage"]).any(|kind| typed(kind));
        if !self.stage.is_empty() && (self.rate.is_some() || self.duration.is_some()) {
            return Err("[[stage]] goes with neither rate nor duration: it has its own".into());
        }
        if !loaded && !typed("duration") {
            cli.stage = self.stage.into_iter().map(|row| row.0).collect();
        }
        if !loaded {
            take!(rate => |rate: Rate| Some(rate.0), closed => |closed| closed,
                find_limit => |limit: Parsed<Threshold>| Some(limit.0));
        }
        if cli.stage.is_empty() {
            take!(duration => |time: Time| time.0);
        }
        take!(
            targets => |targets| targets,
            connections => NonZeroU32::get,
            sessions => |sessions: NonZeroU32| Some(sessions.get()),
            in_flight => NonZeroU32::get,
            workers => |workers: NonZeroU16| Some(workers.get()),
            ramp => |rate: Rate| rate.0,
            ramp_steps => NonZeroU32::get,
            ramp_pause => |time: Time| time.0,
            opening => NonZeroU32::get,
            warmup => |time: Time| time.0,
            step => |time: Time| time.0,
            arrivals => |named: Named<Arrivals>| named.0,
            seed => Some,
            protocol => |named: Named<Protocol>| named.0,
            mcp_revision => |revision| revision,
            heartbeat => |time: Time| time.0,
            timeout => |time: Time| time.0,
            end => |named: Named<End>| named.0,
            spin => |spin| spin,
        );
        if !typed("headers") {
            cli.scenario_headers = self.headers;
        }
        if !typed("call") && !self.call.is_empty() {
            fill_calls(self.call, cli, typed("tool_args"))?;
        }
        check(cli)
    }
}

fn fill_calls(calls: Vec<Call>, cli: &mut Cli, arguments_typed: bool) -> Result<(), String> {
    for Call { tool, weight, arguments } in calls {
        if let Some(arguments) = arguments.filter(|_| !arguments_typed) {
            let json = serde_json::to_string(&arguments).map_err(|e| e.to_string())?;
            cli.tool_args.push(format!("{tool}={json}"));
        }
        cli.call.push(format!("{tool}={}", weight.map_or(1, NonZeroU32::get)));
    }
    Ok(())
}

/// What the parser of the command line checks between options, once more for all together.
fn check(cli: &Cli) -> Result<(), String> {
    let wrong = |text: &str| Err(text.to_owned());
    let staged = !cli.stage.is_empty();
    let kinds = [cli.rate.is_some() && cli.find_limit.is_none(), cli.closed, staged];
    if kinds.iter().filter(|kind| **kind).count() > 1
        || (cli.find_limit.is_some() && (staged || cli.closed))
    {
        return wrong("rate, closed, find_limit and [[stage]] exclude each other");
    }
    if cli.closed && cli.arrivals != Arrivals::Constant {
        return wrong("arrivals are of an open loop, and closed is set");
    }
    if cli.ramp_steps > 1 && cli.ramp_pause.is_zero() {
        return wrong("ramp_steps needs ramp_pause, such as ramp_pause = \"5s\"");
    }
    if cli.targets.is_empty() && !cli.probe {
        return wrong("no target: write targets = [\"http://...\"], or type one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command line of a file with this text and these words.
    fn with(text: &str, words: &str) -> Result<Cli, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s.toml");
        fs::write(&path, text).expect("is written");
        let path = path.to_str().expect("a path");
        read(format!("loadgen --scenario {path} {words}").split_whitespace().map(OsString::from))
    }

    const STAGES: &str = r#"
        targets = ["http://a/mcp"]
        connections = 40
        warmup = "2s"
        arrivals = "poisson"
        [[stage]]
        duration = "10s"
        rate = 100
        [[stage]]
        duration = "20s"
        rate = [100, 400.5]
        steps = 4
        [[call]]
        tool = "echo"
        weight = 8
        arguments = { text = "a b", n = 3 }
        [[call]]
        tool = "add"
    "#;

    #[test]
    fn a_file_fills_what_is_not_typed() {
        let cli = with(STAGES, "-c 7 --warmup 1s").expect("a scenario");
        assert_eq!((cli.connections, cli.warmup), (7, Duration::from_secs(1)));
        assert_eq!((cli.targets.len(), cli.arrivals), (1, Arrivals::Poisson));
        let stages: Vec<String> = cli.stage.iter().map(Stage::to_string).collect();
        assert_eq!(stages, ["10s@100", "20s@100..400.5/4"]);
        assert_eq!(cli.call, ["echo=8", "add=1"]);
        assert_eq!(cli.tool_args, [r#"echo={"n":3,"text":"a b"}"#]);
    }

    #[test]
    fn headers_of_a_file_are_secret_and_give_way_to_typed_ones() {
        let text = "targets = ['http://a']\nheaders = ['Authorization: Bearer S3CRET']";
        let read = |words: &str| crate::headers::read(&with(text, words).expect("a scenario"));
        let (fields, secrets) = read("").expect("no secret stands on the command line");
        assert_eq!(fields, [("Authorization".to_owned(), "Bearer S3CRET".to_owned())]);
        assert_eq!(secrets, ["Bearer S3CRET", "S3CRET"]);
        let (fields, secrets) = read("-HX-Tenant:7").expect("no secret");
        assert_eq!((fields.len(), &fields[0].0[..], secrets.len()), (1, "X-Tenant", 0));
    }

    #[test]
    fn a_typed_load_replaces_that_of_the_file() {
        let cli = with(STAGES, "-r 50 -d 5s http://b/mcp").expect("a scenario");
        assert!(cli.stage.is_empty() && cli.rate == Some(50.0));
        assert_eq!((cli.duration, &cli.targets[0][..]), (Duration::from_secs(5), "http://b/mcp"));
        let cli = with(STAGES, "--stage 1s@5 --call sum").expect("a scenario");
        assert_eq!((cli.stage.len(), &cli.call[..]), (1, &["sum".to_owned()][..]));
        let closed = "targets = ['http://a']\nclosed = true\nduration = '3s'";
        assert!(with(closed, "").expect("a scenario").closed);
        assert!(!with(closed, "-r 5").expect("a scenario").closed);
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_line() {
        for (text, line, words) in [
            ("targets = ['http://a']\nconections = 5", "line 2", "conections"),
            ("targets = ['http://a']\n\nduration = '5 parsecs'", "line 3", "parsecs"),
            ("rate = -5", "line 1", "more than 0"),
            ("end = 'later'", "line 1", "abandon"),
            ("\n[[stage]]\nduration = '5s'\nrate = 'fast'", "line 4", "such as 1000"),
            ("find_limit = 'p99'", "line 1", "p99<500ms"),
            ("connections = 0", "line 1", "nonzero"),
        ] {
            let error = with(text, "").expect_err("is refused");
            assert!(error.contains(line) && error.contains(words), "{text}: {error}");
        }
        for text in [
            "targets = ['http://a']\nrate = 5\nclosed = true",
            "targets = ['http://a']\nrate = 5\n[[stage]]\nduration = '1s'\nrate = 5",
            "targets = ['http://a']\nramp_steps = 3",
            "rate = 5",
        ] {
            assert!(with(text, "").is_err(), "{text}");
        }
    }
}
