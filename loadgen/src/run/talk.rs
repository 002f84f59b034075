//! What the coordinator shows and says: lines, the dashboard, status messages, metrics.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use super::Coordinator;
use crate::clock::{Clock, Monotonic};
use crate::fleet::Fleet;
use crate::metrics::Facts;
use crate::summary;
use crate::worker::sample::Sample;

impl Coordinator<'_> {
    pub(super) fn serve_metrics(&mut self, now_ns: u64, fleet: &Fleet) {
        let Some(metrics) = &mut self.metrics else { return };
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION"),
            engine: self.plan.engine.engine.name(),
            phase: self.orders.stage(now_ns).name(),
            planned: self.plan.connections,
            sessions: self.plan.sessions,
            rate_per_s: self.plan.rate_per_s,
        };
        metrics.look(&facts, &fleet.windows);
    }

    /// One line a second.
    pub(super) fn show(&mut self, now_ns: u64, sum: &Sample, fleet: &Fleet) {
        if self.link.is_some() || self.screen.is_some() {
            let reading = self.watch.reading(now_ns, &self.plan, &self.orders, sum, &fleet.windows);
            if let Some(screen) = &self.screen {
                screen.update(|board| board.read(reading));
            } else if let Some(link) = &self.link {
                let mut status = summary::status(&reading);
                status["ramped"] = self.ramped.into();
                link.say(&status);
            }
        }
        // Beside a dashboard on standard error, standard output may be a file.
        if self.link.is_none() && (self.screen.is_none() || !std::io::stdout().is_terminal()) {
            let interval = summary::merge_intervals(&fleet.windows);
            let elapsed_s = now_ns.saturating_sub(self.orders.start_ns()) / 1_000_000_000;
            println!("{}", summary::line(elapsed_s, &self.plan, sum, &interval));
        }
    }

    /// Shows the dashboard if it is asked for and there is a terminal for it.
    pub(super) fn take_screen(&mut self) {
        if !self.cli.tui {
            return;
        }
        let (plan, now_ns) = (&self.plan, Monotonic.now_ns());
        let title = format!(
            "loadgen · {} connections · {}",
            live::units::count(u64::from(plan.connections)),
            match plan.targets.as_slice() {
                [one] => one.url.to_string(),
                several => format!("{} targets", several.len()),
            }
        );
        match live::Screen::take(live::Board::new(title, now_ns)) {
            Ok(screen) => self.screen = Some(screen),
            Err(why) => self.say(&format!("no dashboard, plain lines instead: {why}")),
        }
    }

    /// Gives the terminal back, and says there what was said on the dashboard.
    pub(super) fn leave_screen(&mut self) {
        self.screen = None;
        self.said.drain(..).for_each(|text| eprintln!("loadgen: {text}"));
    }

    pub(super) fn say(&mut self, text: &str) {
        match &self.screen {
            Some(screen) => {
                let now_ns = Monotonic.now_ns();
                screen.update(|board| board.event(now_ns, text, false));
                self.said.push(text.to_owned());
            }
            None => eprintln!("loadgen: {text}"),
        }
    }

    pub(super) fn say_plan(&mut self) {
        let plan = self.plan.clone();
        if let Some(cause) = &plan.engine.refusal {
            self.say(&format!(
                "going on with epoll, where each connection takes a descriptor of the process, \
                 because io_uring does not work here: {cause}"
            ));
        }
        let insecure = plan.work.transport.options.insecure;
        if insecure && plan.targets.iter().any(|t| t.url.scheme.tls) {
            self.say(
                "WARNING: --insecure believes any certificate: whoever answers, this run cannot tell",
            );
        }
        if plan.spin && plan.workers as usize > plan.cores.len() {
            self.say(&format!(
                "WARNING: --spin: {} workers share {} core(s) and take turns at spinning, so that \
                 requests leave late; a higher limit of open files needs fewer workers",
                plan.workers,
                plan.cores.len()
            ));
        }
        let revisions: BTreeMap<&str, usize> =
            plan.targets.iter().fold(BTreeMap::new(), |mut map, target| {
                *map.entry(target.dialect.name()).or_default() += 1;
                map
            });
        let model = match plan.closed {
            true => "closed loop".to_owned(),
            false => {
                let stages = plan.stages.iter().map(|stage| format!("{stage}, "));
                let stages: String = stages.collect();
                let most = if stages.is_empty() { "" } else { "at most " };
                let (rate, arrivals) = (plan.rate_per_s, plan.arrivals.name());
                format!("{stages}{most}{rate:.0} req/s open loop ({arrivals} arrivals)")
            }
        };
        self.say(&format!(
            "{} at {:.0}/s to {} target(s) {revisions:?}, {model}, {} worker(s) on {}, seed {}",
            plan.held(),
            plan.ramp_per_s,
            plan.targets.len(),
            plan.workers,
            plan.engine.engine.name(),
            plan.seed,
        ));
    }
}
