//! Advice on the policy, the code and k: candidates within a budget of instances, and the choice among them.

use parm_config::{CodeChoice, Coded, Ejection, Hedge, Instances, Model, Placement, Redundancy, When};

/// A code with known accuracies.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownCode {
    /// Its name.
    pub name: String,
    /// The code.
    pub choice: CodeChoice,
    /// The number of queries of a group.
    pub k: usize,
    /// The number of parity queries of a group.
    pub r: usize,
    /// A_a, the accuracy of predictions.
    pub available: f64,
    /// A_d, the accuracy of reconstructions.
    pub degraded: f64,
}

/// A policy with a placement of the instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// The cluster.
    pub model: Model,
    /// The accuracies A_a and A_d.
    pub accuracy: [f64; 2],
}

/// A request for advice that is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AdviceError {
    /// The model has several entries of instances.
    #[error("instances: found {0} entries, expected one: those that serve the load without redundancy")]
    Several(usize),
    /// The budget is below the present number of instances.
    #[error("found a budget of {0}, expected at least 1, what there is without redundancy")]
    Budget(f64),
    /// No codes are given.
    #[error("found no codes, expected at least one")]
    Codes,
}

/// Ejects instances whose calls take 1.5 times as long as others, and probes them after half a second.
const EJECTION: Ejection =
    Ejection { failures: 3, slowness: 1.5, base: 500_000_000, max_share: 0.3, min_calls: 0, slow_start: 0 };

/// The candidates with `budget` times the model's instances: no redundancy, hedging, two replicas, and each
/// code in both placements (apart only if there are enough instances); with answers at once and with grace,
/// and with the model's ejection and an eager one.
///
/// # Errors
/// Several entries of instances, a budget below 1, or no codes.
pub fn candidates(base: &Model, budget: f64, codes: &[KnownCode]) -> Result<Vec<Candidate>, AdviceError> {
    let [instances] = &base.instances[..] else { return Err(AdviceError::Several(base.instances.len())) };
    if !(budget.is_finite() && budget >= 1.0) {
        return Err(AdviceError::Budget(budget));
    }
    let needed = base.synthetic_count();
    of_size(base, instances, most(base, budget), codes, |_| needed)
}

/// The number of instances within a budget, a multiple of the model's. Rounds, so that a budget of 1.33 adds a third.
#[must_use]
pub fn most(base: &Model, budget: f64) -> usize {
    let needed = base.synthetic_count();
    ((needed as f64 * budget).round() as usize).max(needed)
}

/// As [`candidates`], with this number of instances in all. Apart, they are divided as the code loads them.
///
/// # Errors
/// Several entries of instances, or no codes.
pub fn fleet(base: &Model, all: usize, codes: &[KnownCode]) -> Result<Vec<Candidate>, AdviceError> {
    let [instances] = &base.instances[..] else { return Err(AdviceError::Several(base.instances.len())) };
    let deployed = |code: &KnownCode| {
        let parities = all as f64 * code.r as f64 / (code.k + code.r) as f64;
        all.saturating_sub((parities.round() as usize).max(code.r))
    };
    of_size(base, instances, all, codes, deployed)
}

fn of_size(
    base: &Model,
    instances: &Instances,
    all: usize,
    codes: &[KnownCode],
    deployed: impl Fn(&KnownCode) -> usize,
) -> Result<Vec<Candidate>, AdviceError> {
    let first = codes.first().ok_or(AdviceError::Codes)?;
    let pooled = |name: &str, redundancy: Redundancy, answer: When, accuracy| Candidate {
        name: name.to_owned(),
        model: Model {
            redundancy,
            answer,
            placement: Placement::Pooled,
            instances: vec![part(instances, all, None)],
            ..base.clone()
        },
        accuracy,
    };
    let eager = |of: &Candidate| Candidate {
        name: format!("{}, ejection", of.name),
        model: Model { ejection: Some(EJECTION), ..of.model.clone() },
        accuracy: of.accuracy,
    };
    let (grace, own) = (When::default(), [first.available; 2]);
    let mut found = vec![
        pooled("equal", Redundancy::None, grace, own),
        pooled("hedge", Redundancy::Hedge(Hedge::default()), grace, own),
        pooled("replicate", Redundancy::Replicate { copies: 2 }, grace, own),
    ];
    let hedge_eager = eager(&found[1]);
    found.insert(2, hedge_eager);
    for code in codes {
        let accuracy = [code.available, code.degraded];
        let redundancy = Redundancy::Coded(Box::new(Coded { code: code.choice.clone(), ..Coded::default() }));
        let name = |how: &str| format!("{}, {how}", code.name);
        let needed = deployed(code);
        let parities = all - needed;
        if code.r > 0 && needed > 0 && parities >= code.r {
            let role = |role: String, count| part(instances, count, Some(role));
            // If the instances do not divide evenly, the first parities get one more.
            let parity = |index| role(format!("parity-{index}"), (parities + code.r - 1 - index) / code.r);
            let mut apart = vec![role("deployed".to_owned(), needed)];
            apart.extend((0..code.r).map(parity));
            for (how, answer) in [("apart, first", When::First), ("apart, grace", grace)] {
                let mut candidate = pooled(&name(how), redundancy.clone(), answer, accuracy);
                candidate.model.placement = Placement::Apart;
                candidate.model.instances.clone_from(&apart);
                found.push(candidate);
            }
        }
        let candidate = pooled(&name("pooled, grace"), redundancy, grace, accuracy);
        let eager = eager(&candidate);
        found.extend([candidate, eager]);
    }
    Ok(found)
}

/// A number of these instances, with one role or with all.
fn part(instances: &Instances, count: usize, role: Option<String>) -> Instances {
    let mut part = Instances { roles: role.into_iter().collect(), ..instances.clone() };
    if let Some(synthetic) = &mut part.synthetic {
        synthetic.count = count;
    }
    part
}

/// The result of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// The P99.9 of latencies, in ms; none without answers.
    pub p999_ms: Option<f64>,
    /// The overall accuracy A_o = (1 − f)·A_a + f·A_d at a share f of reconstructions. Queries without an
    /// answer count as wrong.
    pub accuracy: f64,
}

impl Verdict {
    /// The result of a candidate. `rebuilt` is the share of reconstructions among answers, `lost` that of
    /// queries with a default answer or none.
    #[must_use]
    pub fn new(candidate: &Candidate, p999_ms: Option<f64>, rebuilt: f64, lost: f64) -> Self {
        let [available, degraded] = candidate.accuracy;
        let accuracy = (1.0 - lost) * ((1.0 - rebuilt) * available + rebuilt * degraded);
        Self { name: candidate.name.clone(), p999_ms, accuracy }
    }
}

/// The fewest instances with which one of these policies holds, if it holds with more instances wherever it holds with
/// fewer: each policy is tried with one instance fewer than the best one so far, and by bisection if it holds; at the end
/// all are tried with one instance fewer. None if none holds with `most`.
///
/// # Errors
/// The errors of `holds`, which says whether a policy holds with a number of instances.
pub fn smallest<E>(
    policies: &[String],
    most: usize,
    mut holds: impl FnMut(&str, usize) -> Result<bool, E>,
) -> Result<Option<usize>, E> {
    let mut best = None;
    for policy in policies {
        let mut held = best.map_or(most, |best: usize| best - 1);
        if held == 0 || !holds(policy, held)? {
            continue;
        }
        let mut missed = 0;
        while held - missed > 1 {
            let between = usize::midpoint(held, missed);
            *(if holds(policy, between)? { &mut held } else { &mut missed }) = between;
        }
        best = Some(held);
    }
    // By chance a policy that has missed with more instances may hold with fewer.
    while let Some(fewer) = best.and_then(|best| best.checked_sub(1)).filter(|fewer| *fewer > 0) {
        let mut holding = None;
        for policy in policies {
            if holding.is_none() && holds(policy, fewer)? {
                holding = Some(fewer);
            }
        }
        if holding.is_none() {
            break;
        }
        best = holding;
    }
    Ok(best)
}

/// The difference below which accuracies count as equal.
const SAME: f64 = 5e-5;

/// The index of the best candidate and the reason. With a target, this is the most accurate one whose P99.9
/// is within it, and among equally accurate ones the fastest; without a target, or if none is within it, the
/// fastest of all. None if there are no candidates.
#[must_use]
pub fn choose(verdicts: &[Verdict], target_ms: Option<f64>) -> Option<(usize, String)> {
    let time = |of: &Verdict| of.p999_ms.unwrap_or(f64::INFINITY);
    let fastest = |among: &[usize]| {
        among.iter().copied().min_by(|&a, &b| time(&verdicts[a]).total_cmp(&time(&verdicts[b])))
    };
    let all: Vec<usize> = (0..verdicts.len()).collect();
    let Some(target) = target_ms else {
        return Some((fastest(&all)?, "the least P99.9; accuracy counts only with --target-p999".to_owned()));
    };
    let within: Vec<usize> = all.iter().copied().filter(|&at| time(&verdicts[at]) <= target).collect();
    if within.is_empty() {
        return Some((fastest(&all)?, format!("none has a P99.9 within {target} ms; this is the least")));
    }
    let best = within.iter().map(|&at| verdicts[at].accuracy).fold(0.0, f64::max);
    let equal: Vec<usize> =
        within.iter().copied().filter(|&at| verdicts[at].accuracy > best - SAME).collect();
    let why = match (equal.len(), within.len()) {
        (1, 1) => format!("the only one with a P99.9 within {target} ms"),
        (1, count) => format!("the best overall accuracy of the {count} with a P99.9 within {target} ms"),
        (equal, count) => format!(
            "the least P99.9 of the {equal} with the best overall accuracy, of {count} with a P99.9 within \
             {target} ms"
        ),
    };
    Some((fastest(&equal)?, why))
}

#[cfg(test)]
mod tests {
    use parm::codes::{CodeName, CodeSpec};
    use parm_config::Config;

    use super::*;

    fn base(instances: &str) -> Model {
        let text =
            format!(r#"{{"models": [{{"name": "m", "placement": "pooled", "instances": [{instances}]}}]}}"#);
        Config::parse(&text).unwrap().models.swap_remove(0)
    }

    fn code(k: usize, r: usize) -> KnownCode {
        let choice = CodeChoice::Named(CodeSpec { r: Some(r), ..CodeSpec::new(CodeName::Sum, k) });
        KnownCode { name: format!("k={k}"), choice, k, r, available: 0.98, degraded: 0.9 }
    }

    #[test]
    fn all_candidates_use_the_budget_and_are_valid() {
        let found =
            candidates(&base(r#"{"synthetic": {"count": 12}}"#), 1.33, &[code(2, 1), code(4, 2)]).unwrap();
        assert_eq!(found.len(), 4 + 2 * 4);
        for candidate in found {
            assert_eq!(candidate.model.synthetic_count(), 16, "{}", candidate.name);
            let config = Config { models: vec![candidate.model], ..Config::default() };
            config.check().unwrap();
        }
        // Without spare instances the parity models cannot be placed apart.
        let found = candidates(&base(r#"{"synthetic": {"count": 12}}"#), 1.0, &[code(2, 1)]).unwrap();
        assert!(found.iter().all(|candidate| candidate.model.placement == Placement::Pooled));
    }

    #[test]
    fn a_fleet_is_divided_as_its_code_loads_it() {
        let base = base(r#"{"synthetic": {"count": 12}}"#);
        for all in 1..20 {
            for candidate in fleet(&base, all, &[code(2, 1), code(4, 2)]).unwrap() {
                assert_eq!(candidate.model.synthetic_count(), all, "{}", candidate.name);
                let config = Config { models: vec![candidate.model], ..Config::default() };
                config.check().unwrap();
            }
        }
        let apart = |all: usize| {
            let found = fleet(&base, all, &[code(4, 2)]).unwrap();
            let apart = found.into_iter().find(|candidate| candidate.name == "k=4, apart, grace")?;
            let count = |instances: &Instances| instances.synthetic.as_ref().unwrap().count;
            Some(apart.model.instances.iter().map(count).collect::<Vec<_>>())
        };
        assert_eq!((apart(12), apart(3), apart(2)), (Some(vec![8, 2, 2]), Some(vec![1, 1, 1]), None));
        assert_eq!(most(&base, 1.33), 16);
        assert_eq!(fleet(&base, 2, &[]), Err(AdviceError::Codes));
    }

    #[test]
    fn the_smallest_fleet_is_found_with_few_trials() {
        let policies = ["a", "b", "c"].map(str::to_owned);
        for needs in [[90, 40, 41], [90, 95, 1], [100, 101, 101], [7, 7, 7]] {
            let mut tried = 0;
            let mut holds = |policy: &str, instances: usize| {
                tried += 1;
                let place = policies.iter().position(|name| name == policy).unwrap();
                Ok::<_, ()>(instances >= needs[place])
            };
            let found = smallest(&policies, 100, &mut holds).unwrap();
            assert_eq!(found, needs.into_iter().min(), "{needs:?}");
            assert!(tried < 25, "{needs:?}: {tried}");
        }
        assert_eq!(smallest(&policies, 100, |_, _| Ok::<_, ()>(false)), Ok(None));
        assert_eq!(smallest(&policies, 100, |_, _| Err(())), Err(()));
    }

    #[test]
    fn models_budgets_and_codes_that_do_not_fit_are_refused() {
        let one = base(r#"{"synthetic": {}}"#);
        assert_eq!(candidates(&one, 0.9, &[code(2, 1)]), Err(AdviceError::Budget(0.9)));
        assert!(candidates(&one, f64::NAN, &[code(2, 1)]).is_err());
        assert_eq!(candidates(&one, 2.0, &[]), Err(AdviceError::Codes));
        let two = base(r#"{"synthetic": {}}, {"synthetic": {}}"#);
        assert_eq!(candidates(&two, 2.0, &[code(2, 1)]), Err(AdviceError::Several(2)));
    }

    #[test]
    fn the_overall_accuracy_is_the_papers_formula_and_lost_queries_are_wrong() {
        let candidate = &candidates(&base(r#"{"synthetic": {}}"#), 2.0, &[code(2, 1)]).unwrap()[4];
        assert!((Verdict::new(candidate, None, 0.1, 0.0).accuracy - (0.9 * 0.98 + 0.1 * 0.9)).abs() < 1e-12);
        assert!((Verdict::new(candidate, None, 0.0, 0.5).accuracy - 0.49).abs() < 1e-12);
    }

    #[test]
    fn the_choice_is_the_most_accurate_within_the_target() {
        let verdict = |p999: f64, accuracy| Verdict { name: String::new(), p999_ms: Some(p999), accuracy };
        let all = [verdict(90.0, 0.99), verdict(50.0, 0.97), verdict(40.0, 0.97), verdict(20.0, 0.9)];
        let chosen = |target| {
            choose(&all, target).map(|(at, why)| (at, why.split(' ').take(2).collect::<Vec<_>>().join(" ")))
        };
        assert_eq!(chosen(Some(100.0)), Some((0, "the best".to_owned())));
        assert_eq!(chosen(Some(60.0)), Some((2, "the least".to_owned())));
        assert_eq!(chosen(Some(30.0)), Some((3, "the only".to_owned())));
        assert_eq!(chosen(Some(10.0)), Some((3, "none has".to_owned())));
        assert_eq!(chosen(None), Some((3, "the least".to_owned())));
        assert_eq!(choose(&[], None), None);
    }
}
