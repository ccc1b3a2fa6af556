//! The health of instances: joining, leaving, ejection, probes.

use crate::arena::InstanceId;
use crate::engine::Engine;
use crate::instance::{Due, Health, Instance};
use crate::task::{Role, Roles};
use crate::timers::Timer;
use crate::{Action, Time};

/// The least median that counts: shorter times are within the delays of schedulers and networks.
const GRAIN: Time = 100_000;

impl Engine {
    /// An instance joined, with its roles and its capacity for concurrent calls; with capacity 0 it gets no
    /// work.
    pub fn join(&mut self, now: Time, roles: Roles, capacity: usize) -> InstanceId {
        self.begin(now);
        let parities = (0..self.pools.len() - 2).filter(|parity| roles.parity >> parity & 1 == 1);
        let mut pools: Vec<usize> = parities.map(|parity| Role::Parity(parity).pool()).collect();
        if roles.approximate {
            pools.insert(0, Role::Approximate.pool());
        }
        if roles.deployed {
            pools.insert(0, Role::Deployed.pool());
        }
        for &pool in &pools {
            self.pools[pool].join();
        }
        let instance = self.instances.insert(Instance {
            pools,
            capacity,
            running: Vec::new(),
            cancels: self.config.cancel_running,
            health: Health::new(),
            ready: None,
            last_sent: 0,
        });
        self.has_room(instance);
        instance
    }

    /// Says whether calls of an instance are cancelled when their answers are no longer needed, in place of
    /// [`crate::Config::cancel_running`].
    pub fn cancels(&mut self, now: Time, instance: InstanceId, cancels: bool) {
        self.begin(now);
        match self.instances.get_mut(instance) {
            Some(held) => held.cancels = cancels,
            None => self.counters.ignored += 1,
        }
    }

    /// An instance leaves: it gets no new work, and finishes its calls.
    pub fn leave(&mut self, now: Time, instance: InstanceId) {
        self.begin(now);
        match self.instances.get(instance) {
            Some(held) if !held.health.is_leaving() => {}
            _ => {
                self.counters.ignored += 1;
                return;
            }
        }
        self.leave_pools(instance);
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
        self.leave_pools(instance);
        let Some(held) = self.instances.remove(instance) else { return };
        for call in held.running {
            // Settling a call of the same group may have removed this one.
            if self.store.contains(call) {
                let work = self.remove_running(call);
                self.retry(work);
                self.clean_up(work.owner);
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
            Some(held) if held.health.is_probing() => {}
            _ => {
                self.counters.ignored += 1;
                return;
            }
        }
        if works {
            self.heal(instance);
        } else {
            self.wait_for_probe(instance);
        }
    }

    /// Removes an instance from its pools, and gives its work to others.
    fn leave_pools(&mut self, instance: InstanceId) {
        let held = &mut self.instances[instance];
        let (was_out, was_leaving) = (held.health.is_out(), held.health.is_leaving());
        held.health.leave();
        let pools = held.pools.clone();
        self.update_ready(instance);
        if was_leaving {
            return;
        }
        for pool in pools {
            self.pools[pool].leave(was_out);
            // With fewer instances, too many may be ejected now, and work may go to instances that it
            // avoided.
            if self.pools[pool].has_too_many_out(self.share_out()) {
                self.heal_pool(pool);
            }
            self.start_waiting(pool);
        }
    }

    /// Offers the work of a pool to all of its instances with free capacity.
    fn start_waiting(&mut self, pool: usize) {
        if self.pools[pool].waiting() > 0 {
            for instance in self.pools[pool].ready().collect::<Vec<_>>() {
                self.has_room(instance);
            }
        }
    }

    /// A call of a pool was answered after so long.
    pub(crate) fn count_success(&mut self, instance: InstanceId, pool: usize, time: Time) {
        let median = self.pools[pool].record(self.now, time).max(GRAIN);
        let ratio = time as f64 / median as f64;
        let Some(held) = self.instances.get_mut(instance) else { return };
        if held.health.count_success(self.now, time, ratio, self.config.ejection) {
            self.eject(instance);
        }
    }

    /// Counts the failure of a call that was sent at a time.
    pub(crate) fn count_failure(&mut self, instance: InstanceId, sent: Time) {
        let Some(held) = self.instances.get_mut(instance) else { return };
        if held.health.count_failure(self.now, sent, self.config.ejection) {
            self.eject(instance);
            let health = &mut self.instances[instance].health;
            if health.is_out()
                && let Some(auto) = &mut self.auto
            {
                auto.forget(std::mem::take(&mut health.failing));
            }
        }
    }

    /// The share of the instances of a role that may be out of rotation.
    fn share_out(&self) -> f64 {
        self.config.ejection.map_or(0.0, |ejection| ejection.max_share)
    }

    fn eject(&mut self, instance: InstanceId) {
        let share = self.share_out();
        let held = &self.instances[instance];
        let allowed = held.pools.iter().all(|&pool| self.pools[pool].may_eject(share));
        if !held.health.is_in() || !allowed {
            return;
        }
        for &pool in &held.pools {
            self.pools[pool].eject();
        }
        self.instances[instance].health.eject();
        self.counters.ejections += 1;
        self.actions.push_back(Action::Ejected { instance });
        self.wait_for_probe(instance);
        self.update_ready(instance);
        // The remaining instances may get even work that they failed.
        for pool in self.instances[instance].pools.clone() {
            self.start_waiting(pool);
        }
    }

    /// An instance is out of rotation until it is probed.
    fn wait_for_probe(&mut self, instance: InstanceId) {
        let Some(ejection) = self.config.ejection else { return };
        let at = self.instances[instance].health.wait_for_probe(self.now, ejection.base);
        self.set_timer(at, Timer::Heal(instance));
    }

    /// An ejected instance is due for a probe, or its probe timed out.
    pub(crate) fn heal_due(&mut self, instance: InstanceId, at: Time) {
        let health = &mut self.instances[instance].health;
        match health.due(at) {
            Due::Probe => {
                let over = health.probe(self.now, self.config.call_timeout);
                self.actions.push_back(Action::Probe { instance });
                self.set_timer(over, Timer::Heal(instance));
            }
            Due::Overdue => self.wait_for_probe(instance),
            Due::Nothing => {}
        }
    }

    /// Gives work to an ejected instance again.
    fn heal(&mut self, instance: InstanceId) {
        let held = &mut self.instances[instance];
        let until = self.now.saturating_add(self.config.ejection.map_or(0, |ejection| ejection.slow_start));
        held.health.heal(until);
        for &pool in &held.pools {
            self.pools[pool].heal();
        }
        self.counters.healed += 1;
        self.actions.push_back(Action::Healed { instance });
        self.has_room(instance);
    }

    /// Heals instances of a pool if too many are ejected: a bad instance is better than none.
    fn heal_pool(&mut self, pool: usize) {
        let ids = self.instances.ids().filter(|&id| {
            let held = &self.instances[id];
            held.health.is_out() && held.pools.contains(&pool)
        });
        for instance in ids.collect::<Vec<_>>() {
            self.heal(instance);
        }
    }
}
