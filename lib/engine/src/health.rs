//! The health of instances: joining, leaving, ejection, probes.

use crate::arena::InstanceId;
use crate::config::Ejection;
use crate::engine::Engine;
use crate::state::{Instance, Role, Roles, Status};
use crate::timers::Timer;
use crate::{Action, Time};

/// The weight of the last call in the running mean of an instance's slowness.
const LAST_CALL: f64 = 0.25;

/// The least median that counts: shorter times are within the delays of schedulers and networks.
const GRAIN: Time = 100_000;

/// The most doublings of the time to a probe.
const MAX_DOUBLINGS: u32 = 6;

/// Concurrent calls that fail within this time have one cause, such as a lost connection, which counts once.
const TOGETHER: Time = 5_000_000;

impl Engine {
    /// An instance joined, with its roles and its capacity for concurrent calls; with capacity 0 it gets no
    /// work.
    pub fn join(&mut self, now: Time, roles: Roles, capacity: usize) -> InstanceId {
        self.begin(now);
        let parities = (0..self.pools.len() - 2).filter(|parity| roles.parity >> parity & 1 == 1);
        let mut pools: Vec<usize> = parities.map(|parity| Role::Parity(parity).pool()).collect();
        if roles.cheap {
            pools.insert(0, Role::Cheap.pool());
        }
        if roles.deployed {
            pools.insert(0, Role::Deployed.pool());
        }
        for &pool in &pools {
            self.pools[pool].members += 1;
        }
        let instance = self.instances.insert(Instance {
            pools,
            capacity,
            running: Vec::new(),
            status: Status::In,
            ready: None,
            last_sent: 0,
            failures: 0,
            ejections: 0,
            heal_at: 0,
            slowness: 1.0,
            slow_at: 0,
            failed_at: 0,
        });
        self.has_room(instance);
        instance
    }

    /// An instance leaves: it gets no new work, and finishes its calls.
    pub fn leave(&mut self, now: Time, instance: InstanceId) {
        self.begin(now);
        match self.instances.get(instance) {
            Some(held) if held.status != Status::Leaving => {}
            _ => {
                self.counters.ignored += 1;
                return;
            }
        }
        self.withdraw(instance);
        if self.instances[instance].running.is_empty() {
            self.instances.remove(instance);
        }
    }

    /// An instance is lost: its work is sent to others.
    pub fn lost(&mut self, now: Time, instance: InstanceId) {
        self.begin(now);
        if !self.instances.contains(instance) {
            self.counters.ignored += 1;
            return;
        }
        self.withdraw(instance);
        let Some(held) = self.instances.remove(instance) else { return };
        for call in held.running {
            // Settling a call of the same group may have removed this one.
            if self.works.contains(call) {
                let work = self.unlink(call);
                self.retry(work);
                self.settle(work.owner);
            }
        }
    }

    /// The driver found an instance to be slow or failing. It is ejected, unless too many are.
    pub fn slow(&mut self, now: Time, instance: InstanceId) {
        self.begin(now);
        match self.instances.get(instance) {
            Some(_) => self.eject(instance),
            None => self.counters.ignored += 1,
        }
    }

    /// The result of a probe.
    pub fn probed(&mut self, now: Time, instance: InstanceId, works: bool) {
        self.begin(now);
        match self.instances.get(instance) {
            Some(held) if held.status == Status::Probing => {}
            _ => {
                self.counters.ignored += 1;
                return;
            }
        }
        if works {
            self.heal(instance);
        } else {
            self.instances[instance].status = Status::Ejected;
            self.wait_for_probe(instance);
        }
    }

    /// Removes an instance from its pools, and gives its work to others.
    fn withdraw(&mut self, instance: InstanceId) {
        let held = &mut self.instances[instance];
        let out = matches!(held.status, Status::Ejected | Status::Probing);
        let gone = std::mem::replace(&mut held.status, Status::Leaving) == Status::Leaving;
        let pools = held.pools.clone();
        self.list(instance);
        if gone {
            return;
        }
        for pool in pools {
            self.pools[pool].members -= 1;
            self.pools[pool].ejected -= usize::from(out);
            // With fewer instances, too many may be ejected now, and work may go to instances that it
            // avoided.
            if self.pools[pool].ejected > self.may_be_out(pool) {
                self.heal_pool(pool);
            }
            self.offer(pool);
        }
    }

    /// Offers the work of a pool to all of its instances with free capacity.
    fn offer(&mut self, pool: usize) {
        if !self.pools[pool].queue.is_empty() {
            let ready: Vec<InstanceId> =
                self.pools[pool].ready.iter().map(|&(_, instance)| instance).collect();
            for instance in ready {
                self.has_room(instance);
            }
        }
    }

    pub(crate) fn succeeded(&mut self, instance: InstanceId, pool: usize, time: Time) {
        let now = self.now;
        let median = &mut self.pools[pool].median;
        median.record(time);
        let median = median.value().unwrap_or(time).max(GRAIN);
        let ratio = time as f64 / median as f64;
        let Some(held) = self.instances.get_mut(instance) else { return };
        held.failures = 0;
        let Some(Ejection { slowness: bound, .. }) = self.config.ejection else { return };
        if ratio > bound {
            // Concurrent slow calls have one cause, which counts once.
            if now - time < held.slow_at {
                return;
            }
            held.slow_at = now;
        }
        // The weight of a single slow call is bounded.
        held.slowness += (ratio.min(2.0 * bound) - held.slowness) * LAST_CALL;
        if held.slowness > bound {
            self.eject(instance);
        } else if held.status == Status::In && held.slowness < 1.5 {
            held.ejections = 0;
        }
    }

    /// Counts the failure of a call that was sent at a time.
    pub(crate) fn call_went_wrong(&mut self, instance: InstanceId, sent: Time) {
        let now = self.now;
        let Some(held) = self.instances.get_mut(instance) else { return };
        if held.failures > 0 && sent < held.failed_at && now - held.failed_at < TOGETHER {
            return;
        }
        held.failed_at = now;
        held.failures = held.failures.saturating_add(1);
        if self.config.ejection.is_some_and(|ejection| held.failures >= ejection.failures) {
            self.eject(instance);
        }
    }

    fn may_be_out(&self, pool: usize) -> usize {
        let share = self.config.ejection.map_or(0.0, |ejection| ejection.max_share);
        (self.pools[pool].members as f64 * share) as usize
    }

    fn eject(&mut self, instance: InstanceId) {
        let held = &self.instances[instance];
        let allowed = held.pools.iter().all(|&pool| self.pools[pool].ejected < self.may_be_out(pool));
        if held.status != Status::In || !allowed {
            return;
        }
        for &pool in &held.pools {
            self.pools[pool].ejected += 1;
        }
        self.instances[instance].status = Status::Ejected;
        self.counters.ejections += 1;
        self.actions.push_back(Action::Ejected { instance });
        self.list(instance);
        self.wait_for_probe(instance);
        // The remaining instances may get even work that they failed.
        for pool in self.instances[instance].pools.clone() {
            self.offer(pool);
        }
    }

    fn wait_for_probe(&mut self, instance: InstanceId) {
        let Some(ejection) = self.config.ejection else { return };
        let held = &mut self.instances[instance];
        let wait = ejection.base.saturating_mul(1 << held.ejections.min(MAX_DOUBLINGS));
        held.ejections = held.ejections.saturating_add(1);
        held.heal_at = self.now.saturating_add(wait);
        let at = held.heal_at;
        self.alarm(at, Timer::Heal(instance));
    }

    /// An ejected instance is due for a probe, or its probe timed out.
    pub(crate) fn heal_due(&mut self, instance: InstanceId, at: Time) {
        let held = &mut self.instances[instance];
        match held.status {
            Status::Ejected if held.heal_at == at => {
                held.status = Status::Probing;
                held.heal_at = self.now.saturating_add(self.config.call_timeout);
                let at = held.heal_at;
                self.actions.push_back(Action::Probe { instance });
                self.alarm(at, Timer::Heal(instance));
            }
            Status::Probing if held.heal_at == at => {
                held.status = Status::Ejected;
                self.wait_for_probe(instance);
            }
            _ => {}
        }
    }

    /// Gives work to an ejected instance again.
    fn heal(&mut self, instance: InstanceId) {
        let held = &mut self.instances[instance];
        held.status = Status::In;
        held.failures = 0;
        held.slowness = 1.0;
        for &pool in &held.pools {
            self.pools[pool].ejected -= 1;
        }
        self.counters.healed += 1;
        self.actions.push_back(Action::Healed { instance });
        self.has_room(instance);
    }

    /// Heals instances of a pool if too many are ejected: a bad instance is better than none.
    fn heal_pool(&mut self, pool: usize) {
        let out = |held: &Instance| matches!(held.status, Status::Ejected | Status::Probing);
        let ids = self.instances.ids().filter(|&id| {
            let held = &self.instances[id];
            out(held) && held.pools.contains(&pool)
        });
        for instance in ids.collect::<Vec<_>>() {
            self.heal(instance);
        }
    }
}
