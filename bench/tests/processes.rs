//! Many processes, and what an idle connection costs one of them.

mod common;

use common::{Client, Target};

/// A port that is free on the whole loopback network at present.
fn free_port() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn each_process_has_its_address_and_the_counters_are_one() {
    need_io_uring!();
    let listen = format!("--listen=127.0.41.1:{}", free_port());
    let target = Target::start(&[&listen, "--processes=3"]);
    let ips: Vec<String> = target.addresses.iter().map(|addr| addr.ip().to_string()).collect();
    assert_eq!(ips, ["127.0.41.1", "127.0.41.2", "127.0.41.3"]);
    let mut clients: Vec<Client> =
        target.addresses.iter().map(|&addr| Client::connect(addr)).collect();
    for client in &mut clients {
        assert_eq!(client.initialize().status, 200);
    }
    // Processes share nothing: a session of one is unknown to another.
    let (first, rest) = clients.split_at_mut(1);
    rest[0].session = first[0].session.clone();
    assert_eq!(rest[0].call("1", "ping").status, 404);
    let stats = target.stop();
    assert_eq!(stats["sessions_created"], 3);
    assert_eq!(stats["connections_accepted"], 3);
}

#[test]
fn children_do_not_outlive_their_parent() {
    need_io_uring!();
    let listen = format!("--listen=127.0.42.1:{}", free_port());
    let target = Target::start(&[&listen, "--processes=2"]);
    let addresses = target.addresses.clone();
    let mut clients: Vec<Client> = addresses.iter().map(|&addr| Client::connect(addr)).collect();
    // Dropping kills the parent outright: it has no chance to tell its children.
    drop(target);
    for client in &mut clients {
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client.socket, &mut rest);
        assert_eq!(rest, b"");
    }
}

#[test]
fn an_idle_connection_costs_less_than_a_kibibyte() {
    need_io_uring!();
    for buffer in ["--read-bytes=64", "--read-bytes=384"] {
        let target = Target::http(&[buffer]);
        let mut clients = Vec::new();
        let mut open = |count: usize| {
            while clients.len() < count {
                let mut client = target.connect();
                assert_eq!(client.initialize().status, 200);
                clients.push(client);
            }
            anonymous_bytes(target.pid())
        };
        // The first connections pay for what all of them share; 512 to 4,608 doubles each of the
        // tables that grow a whole number of times.
        let few = open(512);
        let many = open(512 + 4096);
        let each = (many - few) / 4096;
        assert!(each <= 1024, "{each} bytes a connection with {buffer}");
        println!("{each} bytes a connection with {buffer}");
    }
}

fn anonymous_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
