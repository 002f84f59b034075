//! Which engine carries the connections, and how many workers that makes. Decides; what the host
//! allows has been tried by `ring`.

use std::io;

use super::{DESCRIPTOR_MARGIN, PlanError, WORKERS_MAX, table_max, workers_for};
use crate::cli::EngineWish;

/// Descriptors of an epoll worker beside its connections: the epoll instance and its timer.
const EPOLL_DESCRIPTORS: u64 = 2;

/// What carries the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring with direct descriptors: a connection takes no descriptor of the process.
    IoUring,
    /// epoll: a connection takes a descriptor, and a request costs more system calls.
    Epoll,
}

impl Engine {
    /// The name in files: `io_uring` or `epoll`.
    pub fn name(self) -> &'static str {
        match self {
            Engine::IoUring => "io_uring",
            Engine::Epoll => "epoll",
        }
    }
}

/// The engine of a run.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What is used.
    pub engine: Engine,
    /// Why it is not io_uring, where that was wished for.
    pub refusal: Option<String>,
}

/// Decides on an engine; `try_io_uring` builds a small ring as the workers build theirs.
///
/// # Errors
/// [`PlanError::NoRing`] if io_uring is insisted on and does not work.
pub fn choose(
    wish: EngineWish,
    try_io_uring: impl FnOnce() -> io::Result<()>,
) -> Result<Choice, PlanError> {
    let epoll = |refusal| Choice { engine: Engine::Epoll, refusal };
    if wish == EngineWish::Epoll {
        return Ok(epoll(None));
    }
    match try_io_uring() {
        Ok(()) => Ok(Choice { engine: Engine::IoUring, refusal: None }),
        Err(cause) if wish == EngineWish::Uring => Err(PlanError::NoRing(cause.to_string())),
        Err(cause) => Ok(epoll(Some(cause.to_string()))),
    }
}

/// The sockets of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Sessions.
    pub sessions: u32,
    /// Connections of each session: its own, and that of its event stream.
    pub each: u32,
    /// Further connections of each worker.
    pub helpers: u32,
}

impl Choice {
    /// Worker threads for `sockets`: `wanted`, or as many as there are cores; more where one ring's
    /// table is too small.
    ///
    /// # Errors
    /// [`PlanError`] names the limit that is in the way.
    pub fn workers(
        &self,
        sockets: Sockets,
        wanted: Option<u32>,
        cores: u32,
        descriptors: u64,
    ) -> Result<u32, PlanError> {
        let Sockets { sessions: connections, each, helpers } = sockets;
        // Sessions that one ring's table holds.
        let table = table_max(descriptors).saturating_sub(helpers) / each;
        if table == 0 {
            return Err(PlanError::Descriptors(descriptors));
        }
        match self.engine {
            Engine::IoUring => {
                let workers = wanted.unwrap_or_else(|| workers_for(connections, cores, table));
                let needed = connections.div_ceil(table);
                if needed > workers.min(WORKERS_MAX) {
                    return Err(PlanError::Workers { connections, needed, table, workers });
                }
                Ok(workers.min(connections))
            }
            Engine::Epoll => {
                let workers = wanted.unwrap_or(cores).min(connections).max(1);
                let own = EPOLL_DESCRIPTORS + u64::from(helpers);
                let own = DESCRIPTOR_MARGIN + own * u64::from(workers);
                let most = descriptors.saturating_sub(own) / u64::from(each);
                if u64::from(connections) > most {
                    let advice = self.advice();
                    return Err(PlanError::Epoll { connections, most, descriptors, advice });
                }
                Ok(workers)
            }
        }
    }

    fn advice(&self) -> String {
        match &self.refusal {
            None => "leave out --engine epoll".into(),
            Some(cause) => format!("enable it ({cause})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(sessions: u32) -> Sockets {
        Sockets { sessions, each: 1, helpers: 0 }
    }

    fn refused() -> io::Result<()> {
        Err(io::Error::other("io_uring_setup: EPERM"))
    }

    fn epoll() -> Choice {
        choose(EngineWish::Auto, refused).expect("epoll is always there")
    }

    #[test]
    fn auto_takes_io_uring_where_it_works_and_epoll_where_it_does_not() {
        let ring = choose(EngineWish::Auto, || Ok(())).expect("works");
        assert_eq!((ring.engine, ring.refusal), (Engine::IoUring, None));
        assert_eq!(epoll().engine, Engine::Epoll);
        assert_eq!(epoll().refusal.as_deref(), Some("io_uring_setup: EPERM"));
    }

    #[test]
    fn a_wish_is_followed_or_refused_with_the_cause() {
        let ring = choose(EngineWish::Epoll, || panic!("epoll needs no trial")).expect("epoll");
        assert_eq!((ring.engine, ring.refusal), (Engine::Epoll, None));
        let error = choose(EngineWish::Uring, refused).expect_err("insisted on io_uring");
        assert!(error.to_string().contains("io_uring_setup: EPERM"), "{error}");
    }

    #[test]
    fn the_limit_of_epoll_is_exact_and_says_what_to_do() {
        let most = 20_000 - 64 - 2 * 2;
        assert_eq!(epoll().workers(plain(most), None, 2, 20_000).ok(), Some(2));
        let error = epoll().workers(plain(most + 1), None, 2, 20_000).expect_err("one too many");
        let text = error.to_string();
        for part in ["19933 > 19932", "ulimit -n", "several processes", "io_uring_setup: EPERM"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(epoll().workers(plain(1), None, 2, 64).is_err());
    }

    #[test]
    fn io_uring_gets_more_workers_instead() {
        let ring = Choice { engine: Engine::IoUring, refusal: None };
        assert_eq!(ring.workers(plain(100_000), None, 2, 20_000).ok(), Some(6));
        assert_eq!(ring.workers(plain(1), Some(8), 2, 20_000).ok(), Some(1));
        assert!(ring.workers(plain(100_000), Some(5), 2, 20_000).is_err());
    }

    #[test]
    fn streams_and_helpers_take_their_part_of_the_table() {
        let ring = Choice { engine: Engine::IoUring, refusal: None };
        let sockets = Sockets { sessions: 100_000, each: 2, helpers: 8 };
        assert_eq!(ring.workers(sockets, None, 2, 20_000).ok(), Some(11));
        let most = (20_000 - 64 - 2 * (2 + 8)) / 2;
        let sockets = |sessions| Sockets { sessions, each: 2, helpers: 8 };
        assert_eq!(epoll().workers(sockets(most), None, 2, 20_000).ok(), Some(2));
        assert!(epoll().workers(sockets(most + 1), None, 2, 20_000).is_err());
    }
}
