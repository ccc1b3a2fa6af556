//! Engines at random, and what episodes showed.

use std::collections::BTreeMap;

use parm_engine::{
    Agreement, Auto, Balance, CodeRule, Completion, Config, Counters, Delay, Ejection, Groups, Hedge, Policy,
    Time, When,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

const MS: Time = 1_000_000;

/// How often things happened that an episode is to show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    pub(crate) fn of(c: &Counters) -> Self {
        Self(BTreeMap::from([
            ("queries", c.queries),
            ("rejected", c.rejected),
            ("cancelled", c.cancelled),
            ("predictions", c.predictions),
            ("copies won", c.copies_won),
            ("reconstructed", c.reconstructed),
            ("shadow", c.shadow),
            ("approximate", c.approximate),
            ("deadlines", c.default_deadline),
            ("all failed", c.default_failed),
            ("late", c.late),
            ("late after reconstruction", c.late_after_reconstruction),
            ("groups full", c.groups_full),
            ("groups completed", c.groups_completed),
            ("groups shorter", c.groups_shorter),
            ("groups unneeded", c.groups_unneeded),
            ("parity useless", c.parity_useless),
            ("work cancelled", c.work_cancelled),
            ("calls cancelled", c.calls_cancelled),
            ("shed", c.shed),
            ("dropped late", c.dropped_late),
            ("timeouts", c.timeouts),
            ("refused", c.refused),
            ("refusals", c.refusals),
            ("splits", c.splits),
            ("undecodable", c.undecodable),
            ("retries", c.retries),
            ("hedges", c.hedges),
            ("hedges unpaid", c.hedges_unpaid),
            ("state changes", c.state_changes),
            ("ejections", c.ejections),
            ("healed", c.healed),
            ("ignored", c.ignored),
            ("out of order", c.out_of_order),
        ]))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    pub(crate) fn assert_all_kinds(&self) {
        let never: Vec<_> = self.0.iter().filter(|(_, count)| **count == 0).collect();
        assert!(never.is_empty() && self.0.len() > 20, "what the episodes never showed: {never:?}");
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Facts {
    pub(crate) k: usize,
    pub(crate) max_batch: usize,
    pub(crate) of_a_request: u64,
    pub(crate) systematic: bool,
    pub(crate) parities: usize,
    pub(crate) max_queries: usize,
    pub(crate) max_attempts: usize,
    pub(crate) shadow: bool,
    pub(crate) approximate: bool,
    /// The limit of the policy `auto`.
    pub(crate) max_calls: Option<f64>,
    /// How often a query arrives, of the events that bring one without the policy `auto`.
    pub(crate) arrivals: f64,
}

fn delay(rng: &mut ChaCha8Rng, at_most: Time) -> Delay {
    let time = rng.random_range(0..=at_most) * MS;
    if rng.random_bool(0.5) {
        Delay::Fixed(time)
    } else {
        Delay::Percentile { share: rng.random_range(0.0..=1.0), until_known: time }
    }
}

pub(crate) fn config(rng: &mut ChaCha8Rng) -> (Config, Facts) {
    let (k, r) = (rng.random_range(1..=4), rng.random_range(0..=3));
    let systematic = rng.random_bool(0.75);
    let hedge = Hedge { delay: delay(rng, 40), budget: rng.random_range(0.0..0.5), burst: 5.0 };
    let kind = rng.random_range(0..16);
    let groups = |rng: &mut ChaCha8Rng| Groups {
        code: if systematic { CodeRule::parity(k, r) } else { CodeRule::coded(k, k + r, k) }.expect("a code"),
        version: 1,
        group_delay: rng.random_range(0..20) * MS,
        completion: if rng.random_bool(0.5) { Completion::Known } else { Completion::Shorter },
        agreement: rng.random_bool(0.2).then_some(Agreement { window: 20, at_least: 0.5 }),
    };
    let policy = match kind {
        0 => Policy::None,
        1 => Policy::Replicate(rng.random_range(1..=3)),
        2 => Policy::Hedge(hedge),
        3 => Policy::Approximate,
        4..8 if systematic => Policy::Auto(Auto {
            groups: rng.random_bool(0.8).then(|| groups(rng)),
            hedge,
            max_reconstructed: if rng.random_bool(0.2) { 0.0 } else { rng.random_range(0.0..=1.0) },
            max_calls: rng.random_range(1.0..3.0),
        }),
        _ => Policy::Coded { groups: groups(rng), hedge: rng.random_bool(0.3).then_some(hedge) },
    };
    let coded = matches!(policy, Policy::Coded { .. } | Policy::Auto(Auto { groups: Some(_), .. }));
    let max_calls = if let Policy::Auto(auto) = &policy { Some(auto.max_calls) } else { None };
    let config = Config {
        max_batch: rng.random_range(1..=4),
        batch_delay: rng.random_range(0..5) * MS,
        batch_target: rng.random_bool(0.3).then(|| rng.random_range(1..60) * MS),
        policy,
        when: match rng.random_range(0..3) {
            0 => When::First,
            1 => When::Grace(delay(rng, 40)),
            _ => When::Deadline,
        },
        shadow: rng.random_bool(0.1) && (systematic || !coded),
        balance: match rng.random_range(0..3) {
            0 => Balance::Pull,
            1 => Balance::RoundRobin,
            _ => Balance::LeastOutstanding,
        },
        deadline: rng.random_range(20..300) * MS,
        call_timeout: rng.random_range(30..300) * MS,
        max_attempts: rng.random_range(1..=6),
        max_queries: rng.random_range(1..=300),
        max_queue: rng.random_range(1..=100),
        cancel_running: rng.random_bool(0.3),
        ejection: rng.random_bool(0.5).then(|| Ejection {
            failures: rng.random_range(1..5),
            slowness: rng.random_range(1.5..5.0),
            base: rng.random_range(1..50) * MS,
            max_share: rng.random_range(0.0..1.0),
            min_calls: rng.random_range(0..4),
            slow_start: rng.random_range(0..3) * 20 * MS,
        }),
    };
    let facts = Facts {
        k,
        max_batch: config.max_batch,
        of_a_request: rng.random_range(1..=3),
        systematic,
        parities: if coded && systematic { r } else { 0 },
        max_queries: config.max_queries,
        max_attempts: config.max_attempts.into(),
        shadow: config.shadow,
        approximate: kind == 3,
        max_calls,
        arrivals: if max_calls.is_some() { rng.random_range(0.1..1.0) } else { 1.0 },
    };
    (config, facts)
}
