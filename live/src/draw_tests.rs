//! What boards look like, as approved pictures, and that no size of a terminal breaks them.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::reading::Reading;

fn reading(second: u64) -> Reading {
    let latency = |count| {
        let (p50_ns, p90_ns, p99_ns) = (250_000, 908_000, 3_750_000);
        Some(Latency { count, p50_ns, p90_ns, p99_ns, max_ns: 94_300_000 })
    };
    let worker = |n: u64| WorkerLoad {
        cpu_share: 0.19 * n as f64,
        reap_lag_ns_max: 13_300 * (n + 1),
        queued: n,
        in_flight: 1,
    };
    Reading {
        t_ns: second * 1_000_000_000,
        phase: "hold".to_owned(),
        phase_share: Some(second as f64 / 60.0),
        planned: 100_000,
        planned_per_s: Some(3_508.7),
        tcp_open: 100_000,
        session_established: 100_000,
        session_alive: 99_998,
        stream_open: 12_000,
        sent: 3_500 * second,
        ok: 3_500 * second - second * second,
        failed: second * second,
        in_flight: 7,
        queued: 15,
        last: latency(3_400 + second * 17 % 130),
        run: latency(3_500 * second),
        failures: [("reset".to_owned(), 58), ("timeout".to_owned(), 3)].into(),
        losses: [("eof".to_owned(), 8_275)].into(),
        workers: (0..6).map(worker).collect(),
        ..Reading::default()
    }
}

fn generator() -> Board {
    let mut board = Board::new("loadgen · 100,000 connections · 12 targets", 1_000_000_000);
    (1..=45).for_each(|second| board.read(reading(second)));
    board
}

fn run() -> Board {
    let mut board = Board { title: "reporter · erlmcp-server 0.1.0".to_owned(), ..generator() };
    let names =
        ["baseline", "stress-1k", "stress-10k", "stress-50k", "stress-100k", "failover", "scaling"];
    for (at, name) in names.into_iter().enumerate() {
        let state = match at {
            0..5 => StageState::Done,
            5 => StageState::Running,
            _ => StageState::Waiting,
        };
        board.stage(name, state);
    }
    for number in 11..23 {
        let name = format!("127.0.0.{number}");
        board.replica(&name, ReplicaState::Healthy);
        board.sampled(&name, 340 << 20, Some(0.04));
    }
    board.replica("127.0.0.12", ReplicaState::Gone);
    board.event(20_000_000_000, "deployed 12 replicas", false);
    board.event(40_000_000_000, "kill 127.0.0.12", true);
    board
}

fn picture(board: &Board, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("no I/O");
    terminal
        .draw(|frame| draw(board, Paint::new(true), frame.area(), frame.buffer_mut()))
        .expect("no I/O");
    terminal.backend().to_string()
}

#[test]
fn a_generator_looks_as_approved() {
    insta::assert_snapshot!("generator_120x40", picture(&generator(), 120, 40));
    insta::assert_snapshot!("generator_80x24", picture(&generator(), 80, 24));
}

#[test]
fn a_run_looks_as_approved() {
    insta::assert_snapshot!("run_120x40", picture(&run(), 120, 40));
    insta::assert_snapshot!("run_80x24", picture(&run(), 80, 24));
}

#[test]
fn every_size_of_a_terminal_has_its_picture() {
    let empty = Board::new("nothing yet", 0);
    for width in [1, 2, 10, 59, 60, 61, 79, 80, 200, 500] {
        for height in [1, 2, 10, 19, 20, 21, 24, 31, 32, 100] {
            picture(&run(), width, height);
            picture(&empty, width, height);
        }
    }
}

#[test]
fn the_counts_stand_in_every_size() {
    for (width, height) in [(120, 40), (80, 24), (72, 20), (60, 20), (40, 12)] {
        let seen = picture(&run(), width, height);
        assert!(seen.contains("99,998") && seen.contains("12,000"), "{seen}");
    }
}

#[test]
fn without_colours_there_are_none() {
    let board = run();
    let area = Rect::new(0, 0, 100, 40);
    let colours = |paint: Paint| {
        let mut buffer = Buffer::empty(area);
        draw(&board, paint, area, &mut buffer);
        buffer.content().iter().filter(|cell| cell.fg != Color::Reset).count()
    };
    assert_eq!(colours(Paint::new(false)), 0);
    assert!(colours(Paint::new(true)) > 0);
}

#[test]
fn a_long_event_is_broken_between_words() {
    assert_eq!(wrapped("all sessions alive  again", 12), ["all sessions", "alive again"]);
    assert_eq!(wrapped("", 5), [""]);
    assert_eq!(wrapped("unbreakable", 5), ["unbreakable"]);
}

#[test]
fn a_worker_at_its_ceiling_is_listed_first_where_there_is_no_room_for_all() {
    let mut board = generator();
    board.reading.workers = vec![WorkerLoad::default(); 64];
    board.reading.workers[63].cpu_share = 0.99;
    let seen = picture(&board, 120, 24);
    assert!(seen.contains(" 63 ") && seen.contains("64 workers, busiest first"), "{seen}");
}
