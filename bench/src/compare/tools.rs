//! The command lines of the generators: one closed-loop HTTP run each, on one thread.
//!
//! Sources are each tool's own manual. Nothing is parsed from what a tool prints.

use std::path::Path;
use std::time::Duration;

/// Our own generator's name.
pub const OURS: &str = "loadgen";

/// One generator.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// What its row is called.
    pub name: &'static str,
    /// The program's name.
    pub program: &'static str,
    /// Arguments that make it print its version.
    pub version_arguments: &'static [&'static str],
    arguments: fn(&Asked<'_>) -> Vec<String>,
}

/// What a run is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The target.
    pub url: &'a str,
    /// Connections.
    pub connections: u32,
    /// Length of the run.
    pub duration: Duration,
    /// A folder for logs.
    pub log: &'a Path,
}

impl Tool {
    /// The arguments of one run.
    pub fn arguments(&self, asked: &Asked<'_>) -> Vec<String> {
        (self.arguments)(asked)
    }
}

/// All that are known, ours first.
pub const TOOLS: [Tool; 9] = [
    Tool { name: OURS, program: OURS, version_arguments: &["--version"], arguments: loadgen },
    Tool {
        name: "loadgen --log",
        program: OURS,
        version_arguments: &["--version"],
        arguments: logged,
    },
    Tool { name: "wrk", program: "wrk", version_arguments: &["-v"], arguments: wrk },
    Tool {
        name: "h2load",
        program: "h2load",
        version_arguments: &["--version"],
        arguments: h2load,
    },
    Tool { name: "oha", program: "oha", version_arguments: &["--version"], arguments: oha },
    Tool { name: "hey", program: "hey", version_arguments: &["-h"], arguments: hey },
    Tool {
        name: "gcannon",
        program: "gcannon",
        version_arguments: &["--version"],
        arguments: gcannon,
    },
    Tool { name: "wrk2", program: "wrk2", version_arguments: &["-v"], arguments: wrk2 },
    Tool { name: "zrk", program: "zrk", version_arguments: &["--version"], arguments: zrk },
];

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn loadgen(asked: &Asked<'_>) -> Vec<String> {
    let connections = asked.connections.to_string();
    let time = time(asked);
    words([
        "--closed",
        "--protocol",
        "http",
        "--workers",
        "1",
        // All at once, as the others connect.
        "--ramp",
        "1000000",
        "--opening",
        &connections,
        "-c",
        &connections,
        "-d",
        &time,
        asked.url,
    ])
}

fn logged(asked: &Asked<'_>) -> Vec<String> {
    let mut words = loadgen(asked);
    words.extend(["--log".into(), asked.log.display().to_string()]);
    words
}

fn wrk(asked: &Asked<'_>) -> Vec<String> {
    words(["-t1", "-c", &asked.connections.to_string(), "-d", &time(asked), asked.url])
}

fn h2load(asked: &Asked<'_>) -> Vec<String> {
    let connections = asked.connections.to_string();
    // It takes whole seconds without a unit.
    let seconds = asked.duration.as_secs().max(1).to_string();
    words(["--h1", "-t1", "-c", &connections, "-D", &seconds, asked.url])
}

fn oha(asked: &Asked<'_>) -> Vec<String> {
    words(["--no-tui", "-c", &asked.connections.to_string(), "-z", &time(asked), asked.url])
}

fn hey(asked: &Asked<'_>) -> Vec<String> {
    let connections = asked.connections.to_string();
    words(["-cpus", "1", "-c", &connections, "-z", &time(asked), asked.url])
}

fn gcannon(asked: &Asked<'_>) -> Vec<String> {
    words([asked.url, "-t", "1", "-c", &asked.connections.to_string(), "-d", &time(asked)])
}

fn wrk2(asked: &Asked<'_>) -> Vec<String> {
    // It has no closed loop: a rate beyond reach keeps every connection busy.
    let connections = asked.connections.to_string();
    words(["-t1", "-c", &connections, "-d", &time(asked), "-R", "10000000", asked.url])
}

fn zrk(asked: &Asked<'_>) -> Vec<String> {
    let connections = asked.connections.to_string();
    // No closed loop either.
    words(["--plain", "-t1", "-c", &connections, "-d", &time(asked), "-R", "10000000", asked.url])
}

fn time(asked: &Asked<'_>) -> String {
    format!("{}s", asked.duration.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_told_where_how_many_and_how_long() {
        let (url, log) = ("http://127.0.0.1:1/", Path::new("logs"));
        let asked = Asked { url, connections: 77, duration: Duration::from_secs(5), log };
        for tool in TOOLS {
            let line = tool.arguments(&asked).join(" ");
            assert!(line.contains(asked.url), "{}: {line}", tool.name);
            assert!(line.contains("77"), "{}: {line}", tool.name);
            assert!(line.contains(" 5s") || line.contains("-D 5"), "{}: {line}", tool.name);
        }
    }
}
