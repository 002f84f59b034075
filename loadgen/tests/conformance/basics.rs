//! What has to hold before anything else is worth a look: a real server's sessions are held, and
//! every request on them is answered.

use crate::checks::ASKING;
use crate::harness::{Sdk, insist, place};
use crate::run::Run;

const SESSIONS: usize = 500;
/// Each session has a request every 12.5 s, so that the server, which closes a connection that was
/// idle for 5 s, closes every one of them.
const RATE_PER_S: usize = 40;
const SECONDS: usize = 13;

#[test]
fn five_hundred_sessions_outlive_their_idle_connections() {
    let _place = place();
    let Some(server) = Sdk::Two.serve(&[]) else { return };
    let run = Run::load(&format!(
        "-c {SESSIONS} -r {RATE_PER_S} -d {SECONDS}s --ramp 200 --heartbeat 60s --mcp-revision \
         sessions {}",
        server.url("http")
    ));
    let count = server.count();
    let expected = format!(
        "{SESSIONS} sessions opened, 0 lost; {} ok; the server gave {} and keeps 0",
        RATE_PER_S * SECONDS,
        SESSIONS + ASKING
    );
    let found = format!(
        "{}; the server gave {} and keeps {}",
        run.held(),
        count["sessions_given"],
        count["sessions_open"],
    );
    insist(&Sdk::Two.name(), "500 sessions, idle closes", &expected, &found, &run.context());
    assert_eq!(run.code, Some(0), "{}", run.context());
    assert_eq!(run.ended("initialize"), format!("{SESSIONS} ok"), "{}", run.context());
    assert!(run.losses() >= SESSIONS / 2, "connections closed: {}", run.context());
}
