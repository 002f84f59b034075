//! The worker threads: each pinned, with an engine of its own, started together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam::channel::Sender;

use crate::clock::Monotonic;
use crate::orders::Orders;
use crate::plan::Plan;
use crate::plan::engine::Engine;
use crate::ring::{EpollRing, KernelRing, Ring, RingConfig};
use crate::setup::SetupError;
use crate::worker::sample::Sample;
use crate::worker::{LogLink, Remains, Window, Worker};

/// The worker threads.
pub struct Fleet {
    /// What each worker shows.
    pub windows: Vec<Arc<Window>>,
    /// Their threads.
    pub threads: Vec<JoinHandle<Result<Remains, String>>>,
}

impl Fleet {
    /// Starts all workers, each with its share of the links.
    ///
    /// # Errors
    /// A thread or an engine that cannot be had.
    pub fn start(
        plan: &Arc<Plan>,
        orders: &Arc<Orders>,
        links: Vec<LogLink>,
    ) -> Result<Self, SetupError> {
        let mut links: Vec<Option<LogLink>> = links.into_iter().map(Some).collect();
        links.resize_with(plan.workers as usize, || None);
        let (ready, waiting) = crossbeam::channel::unbounded();
        let mut fleet = Self { windows: Vec::new(), threads: Vec::new() };
        for (index, link) in links.into_iter().enumerate() {
            let window = Arc::new(Window::default());
            let seat = Seat {
                plan: plan.clone(),
                orders: orders.clone(),
                window: window.clone(),
                index: index as u32,
                link,
            };
            let ready = ready.clone();
            let body = move || match seat.plan.engine.engine {
                Engine::IoUring => serve(KernelRing::new, seat, &ready),
                Engine::Epoll => serve(EpollRing::new, seat, &ready),
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(body)
                .map_err(|e| SetupError::Host(format!("cannot start a worker thread: {e}")))?;
            fleet.windows.push(window);
            fleet.threads.push(thread);
        }
        for _ in 0..plan.workers {
            if let Ok(Some(cause)) = waiting.recv() {
                orders.abandon();
                return Err(SetupError::Host(cause));
            }
        }
        Ok(fleet)
    }

    /// All workers' latest samples, added up.
    pub fn sum(&self) -> Sample {
        let mut sum = Sample::default();
        self.windows.iter().for_each(|w| sum.add(&w.sample.read()));
        sum
    }

    /// Whether all that was due has come to its end.
    pub fn all_drained(&self) -> bool {
        let drained = |w: &Arc<Window>| w.drained.load(Ordering::Acquire);
        self.windows.iter().zip(&self.threads).all(|(w, t)| drained(w) || t.is_finished())
    }

    /// Whether all threads have ended.
    pub fn all_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

/// What a worker thread is given.
struct Seat {
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    window: Arc<Window>,
    index: u32,
    link: Option<LogLink>,
}

/// The body of a worker thread: builds a worker on its engine, says whether that worked, runs it.
fn serve<R: Ring>(
    engine: fn(&RingConfig) -> std::io::Result<R>,
    seat: Seat,
    ready: &Sender<Option<String>>,
) -> Result<Remains, String> {
    let built = build_worker(engine, seat);
    let _ = ready.send(built.as_ref().err().cloned());
    built?.run().map_err(|e| e.to_string())
}

fn build_worker<R: Ring>(
    engine: fn(&RingConfig) -> std::io::Result<R>,
    seat: Seat,
) -> Result<Worker<R, Monotonic>, String> {
    let Seat { plan, orders, window, index, link } = seat;
    pin(plan.cores[index as usize % plan.cores.len()]);
    // The default slack of 50 us would delay every wait; see prctl(2).
    let _ = nix::sys::prctl::set_timerslack(1);
    let ring = engine(&plan.limits.ring()).map_err(|e| e.to_string())?;
    Worker::new(plan.clone(), orders, window, index, ring, Monotonic, link)
        .map_err(|e| e.to_string())
}

fn pin(core: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(core).is_ok() {
        // Not pinned is slower, not wrong.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}
