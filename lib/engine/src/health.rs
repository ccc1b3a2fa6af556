//! Instances: how they come and go, and which are in rotation.

use crate::arena::InstanceId;
use crate::config::Ejection;
use crate::engine::Engine;
use crate::state::{Instance, Role, Roles, Status};
use crate::timers::Timer;
use crate::{Action, Time};

/// The weight of the last call in the running mean of an instance's slowness.
const LAST_CALL: f64 = 0.25;

/// What a scheduler or a network adds in passing: medians below it count as it.
const GRAIN: Time = 100_000;

/// The longest time to a probe is 2 to this times the first.
const MAX_DOUBLINGS: u32 = 6;

/// Calls that were under way together and fail within this time fail for one reason, say a connection that
/// broke off, which counts once.
const TOGETHER: Time = 5_000_000;

impl Engine {
    /// An instance joined, with roles of its own and room for so many calls at once; with room for
    /// none it gets no work.
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

    /// An instance is to get no more work; what it runs, it finishes.
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

    /// An instance is dead: what it ran is sent to others.
    pub fn lost(&mut self, now: Time, instance: InstanceId) {
        self.begin(now);
        if !self.instances.contains(instance) {
            self.counters.ignored += 1;
            return;
        }
        self.withdraw(instance);
        let Some(held) = self.instances.remove(instance) else { return };
        for call in held.running {
            // One that is settled with another of its group may be gone.
            if self.works.contains(call) {
                let work = self.unlink(call);
                self.retry(work);
                self.settle(work.owner);
            }
        }
    }

    /// The driver found an instance to be slow or failing: it is taken out of rotation like one
    /// whose calls show it, if not too many are out.
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

    /// Takes an instance out of its pools, and gives its share of work to others.
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
            // Fewer are left: perhaps too many are out now, and what avoided some may go there.
            if self.pools[pool].ejected > self.may_be_out(pool) {
                self.heal_pool(pool);
            }
            self.offer(pool);
        }
    }

    /// Offers the work of a pool to all of its instances that have room.
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
            // Calls that were under way together were slow for one reason, which counts once.
            if now - time < held.slow_at {
                return;
            }
            held.slow_at = now;
        }
        // One call says no more than that it was slow, however slow it was.
        held.slowness += (ratio.min(2.0 * bound) - held.slowness) * LAST_CALL;
        if held.slowness > bound {
            self.eject(instance);
        } else if held.status == Status::In && held.slowness < 1.5 {
            held.ejections = 0;
        }
    }

    /// A call that was sent then has failed.
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
        // Those that are left may take even what they failed at.
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

    /// An ejected instance is to be probed, or its probe took too long.
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

    /// Puts an instance back into rotation.
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

    /// Too many of a pool are out: better a bad instance than none.
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
