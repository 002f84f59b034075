//! Other targets while the load lasts: by order, or because their names have other addresses.

use super::Coordinator;
use crate::names::Names;
use crate::orders::TargetOrder;
use crate::plan::Target;
use crate::plan::target::TargetUrl;
use crate::setup::{self, ask_all};

impl Coordinator<'_> {
    /// Takes over what the targets' names have, where that has changed.
    pub(super) fn follow_names(&mut self, now_ns: u64) {
        let Some(found) = self.setup.names.as_ref().and_then(Names::latest) else { return };
        for cause in found.left_out {
            if self.left_out.insert(cause.clone()) {
                self.say(&format!("left out for the time being: {cause}"));
            }
        }
        if let Err(cause) = self.take_found(found.targets, now_ns) {
            self.say(&cause);
        }
    }

    fn take_found(&mut self, targets: Vec<Target>, now_ns: u64) -> Result<(), String> {
        let mut order = self.known.clone();
        (order.wanted, order.rebalance) = (Vec::new(), true);
        for target in targets {
            let same = |t: &Target| t.url == target.url && t.address == target.address;
            let index = match order.known.iter().position(same) {
                Some(index) => index as u16,
                None => self.add_target(&mut order, target, now_ns)?,
            };
            order.wanted.push(index);
        }
        order.wanted.sort_unstable();
        // Without any target there would be no load, and no sign of why.
        if order.wanted.is_empty() || order.wanted == self.found {
            return Ok(());
        }
        let joined = order.wanted.iter().filter(|index| !self.found.contains(index)).count();
        let left = self.found.iter().filter(|index| !order.wanted.contains(index)).count();
        let count = order.wanted.len();
        self.say(&format!(
            "the targets' names have {count} addresses: {joined} joined, {left} left"
        ));
        self.found = order.wanted.clone();
        self.known = order.clone();
        self.orders.set_targets(order);
        Ok(())
    }

    /// Makes a target known; its index in the log.
    fn add_target(
        &mut self,
        order: &mut TargetOrder,
        target: Target,
        now_ns: u64,
    ) -> Result<u16, String> {
        if target.dialect.answers_on_stream() && self.plan.limits.streams == 0 {
            return Err(format!(
                "{} speaks HTTP+SSE, where each session takes a second connection: begin the run \
                 with such a target, or with --streams",
                target.url
            ));
        }
        setup::suits(self.cli, std::slice::from_ref(&target)).map_err(|e| e.to_string())?;
        let index = order.known.len() as u16;
        if let Some(log) = &mut self.log {
            log.note(now_ns, "target_added", &format!("{index} {}", target.name()));
        }
        order.known.push(target);
        Ok(index)
    }

    pub(super) fn change_targets(
        &mut self,
        urls: &[String],
        rebalance: bool,
        now_ns: u64,
    ) -> Result<(), String> {
        let mut order = self.known.clone();
        order.wanted.clear();
        order.rebalance = rebalance;
        for text in urls {
            let url: TargetUrl = text.parse().map_err(|e| format!("{e}"))?;
            let of_url = |order: &TargetOrder| -> Vec<u16> {
                let same = order.known.iter().enumerate().filter(|(_, t)| t.url == url);
                same.map(|(index, _)| index as u16).collect()
            };
            if of_url(&order).is_empty() {
                let mut work = self.plan.work.clone();
                let targets = ask_all(self.cli, &url, self.setup.wanted, &mut work)
                    .map_err(|e| e.to_string())?;
                for target in targets {
                    self.add_target(&mut order, target, now_ns)?;
                }
            }
            order.wanted.extend(of_url(&order));
        }
        self.known = order.clone();
        self.orders.set_targets(order);
        Ok(())
    }
}
