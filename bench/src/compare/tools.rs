//! The command lines of the generators: one closed-loop HTTP run each, on one thread.
//!
//! Sources are each tool's own manual. Nothing is parsed from what a tool prints.

use std::time::Duration;

/// Our own generator's name.
pub const OURS: &str = "loadgen";

/// One generator.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's name.
    pub name: &'static str,
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
}

impl Tool {
    /// The arguments of one run.
    pub fn arguments(&self, asked: &Asked<'_>) -> Vec<String> {
        (self.arguments)(asked)
    }
}

/// All that are known, ours first.
pub const TOOLS: [Tool; 8] = [
    Tool { name: OURS, version_arguments: &["--version"], arguments: loadgen },
    Tool { name: "wrk", version_arguments: &["-v"], arguments: wrk },
    Tool { name: "h2load", version_arguments: &["--version"], arguments: h2load },
    Tool { name: "oha", version_arguments: &["--version"], arguments: oha },
    Tool { name: "hey", version_arguments: &["-h"], arguments: hey },
    Tool { name: "gcannon", version_arguments: &["--version"], arguments: gcannon },
    Tool { name: "wrk2", version_arguments: &["-v"], arguments: wrk2 },
    Tool { name: "zrk", version_arguments: &["--version"], arguments: zrk },
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
        "--ramp",
        "20000",
        "-c",
        &connections,
        "-d",
        &time,
        asked.url,
    ])
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
    words(["--closed", "--plain", "-t1", "-c", &connections, "-d", &time(asked), asked.url])
}

fn time(asked: &Asked<'_>) -> String {
    format!("{}s", asked.duration.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_told_where_how_many_and_how_long() {
        let asked =
            Asked { url: "http://127.0.0.1:1/", connections: 77, duration: Duration::from_secs(5) };
        for tool in TOOLS {
            let line = tool.arguments(&asked).join(" ");
            assert!(line.contains(asked.url), "{}: {line}", tool.name);
            assert!(line.contains("77"), "{}: {line}", tool.name);
            assert!(line.contains(" 5s") || line.contains("-D 5"), "{}: {line}", tool.name);
        }
    }
}
