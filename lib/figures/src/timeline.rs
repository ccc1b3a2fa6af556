//! Reads the history of one coding group from a journal of the serving core.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use parm_engine::journal::{Entry, Event, Given, Work};

use crate::fields::{blank, malformed};

/// The history of one coding group. Times are in ms since the arrival of its first query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// The number of the group.
    pub group: u64,
    pub(crate) queries: Vec<Query>,
    pub(crate) instances: Vec<Instance>,
    /// What was rebuilt, with times.
    pub(crate) notes: Vec<String>,
    /// The end of the image.
    pub(crate) end: f64,
}

/// A query of the group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) number: u64,
    pub(crate) arrived: f64,
    pub(crate) answer: Option<(f64, Answer)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Prediction,
    Reconstructed,
    Approximate,
    Default,
}

/// An instance that got calls of the group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instance {
    pub(crate) number: u64,
    pub(crate) calls: Vec<Bar>,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) kind: Kind,
    pub(crate) end: End,
    pub(crate) label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Deployed,
    Copy,
    Approximate,
    Parity,
    Coded,
    /// For queries of other groups.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Answered,
    Failed,
    Cancelled,
    /// Outside of the image.
    Later,
}

impl Kind {
    /// What a legend calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deployed => "deployed model",
            Self::Copy => "deployed model, again",
            Self::Approximate => "approximate model",
            Self::Parity => "parity model",
            Self::Coded => "coded query",
            Self::Other => "for other queries",
        }
    }
}

impl Answer {
    /// What a legend calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prediction => "its prediction",
            Self::Reconstructed => "rebuilt",
            Self::Approximate => "approximated",
            Self::Default => "default answer",
        }
    }
}

impl End {
    /// What a legend calls it; nothing if it is the usual end.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "call failed",
            Self::Cancelled => "call cancelled",
            Self::Answered | Self::Later => "",
        }
    }
}

/// A call of the journal, with times in ns.
struct Call {
    instance: u64,
    work: Work,
    from: u64,
    to: Option<u64>,
    end: End,
}

/// The content of a journal, by numbers.
#[derive(Default)]
struct Journal {
    arrivals: BTreeMap<u64, u64>,
    answers: BTreeMap<u64, (u64, Given)>,
    calls: BTreeMap<u64, Call>,
    /// The queries of each group.
    groups: BTreeMap<u64, Vec<u64>>,
    last: u64,
}

/// The history of a group: the chosen one, otherwise the first one with a reconstruction, otherwise the
/// first.
///
/// # Errors
/// An invalid journal, or one without this group.
pub fn timeline((input, text): &(String, Vec<u8>), group: Option<u64>) -> Result<Timeline> {
    let journal = Journal::read(input, text)?;
    let rebuilt = journal.answers.values().filter_map(|(at, given)| match given {
        Given::Reconstructed { group, .. } => Some((*at, *group)),
        _ => None,
    });
    let rebuilt =
        rebuilt.filter(|(_, group)| journal.groups.contains_key(group)).min().map(|(_, group)| group);
    let Some((&first, &last)) = journal.groups.keys().next().zip(journal.groups.keys().last()) else {
        bail!("{input}: found no coding group: nothing that was encoded was sent");
    };
    let group = group.or(rebuilt).unwrap_or(first);
    let Some(members) = journal.groups.get(&group) else {
        bail!("{input}: found no group {group}, expected one from {first} to {last}");
    };
    // Known queries, which complete a group, belong to an earlier group.
    let before: BTreeSet<u64> =
        journal.groups.range(..group).flat_map(|(_, queries)| queries).copied().collect();
    let own = |query: &&u64| !before.contains(query) && journal.arrivals.contains_key(query);
    let members: BTreeSet<u64> = members.iter().filter(own).copied().collect();
    let Some(&begin) = members.iter().filter_map(|query| journal.arrivals.get(query)).min() else {
        bail!("{input}: found no arrival of a query of group {group}, expected one");
    };
    Ok(journal.story(group, &members, begin))
}

impl Journal {
    fn read(input: &str, text: &[u8]) -> Result<Self> {
        let mut journal = Self::default();
        let mut found = false;
        for (line, text) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            if blank(text) {
                continue;
            }
            let entry: Entry = serde_json::from_slice(text)
                .map_err(|error| malformed(&error, line))
                .with_context(|| input.to_owned())?;
            journal.add(entry).with_context(|| format!("{input}: line {line}"))?;
            found = true;
        }
        if !found {
            bail!("{input}: found no entries, expected a line of JSON for each event");
        }
        Ok(journal)
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        let now = entry.t_ns;
        if now < self.last {
            bail!("found t_ns {now} after {}, expected entries in order", self.last);
        }
        self.last = now;
        match entry.event {
            Event::Arrive { query } => {
                if self.arrivals.insert(query, now).is_some() {
                    bail!("found query {query} to arrive again, expected it once");
                }
            }
            Event::Dispatch { call, instance, work } => {
                if let Work::Parity { group, slots, .. } | Work::Coded { group, slots, .. } = &work {
                    self.groups.entry(*group).or_insert_with(|| slots.concat());
                }
                let sent = Call { instance, work, from: now, to: None, end: End::Later };
                if self.calls.insert(call, sent).is_some() {
                    bail!("found call {call} to be sent again, expected it once");
                }
            }
            Event::Answered { call } => self.end(call, now, End::Answered)?,
            Event::Failed { call } => self.end(call, now, End::Failed)?,
            Event::Cancelled { call } => self.end(call, now, End::Cancelled)?,
            Event::State { .. } => {}
            Event::Answer { query, given } => {
                if self.answers.insert(query, (now, given)).is_some() {
                    bail!("found a second answer to query {query}, expected one");
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, number: u64, now: u64, end: End) -> Result<()> {
        match self.calls.get_mut(&number) {
            Some(call) if matches!(call.end, End::Later | End::Cancelled) && call.end != end => {
                call.to = Some(now);
                // A cancelled call stays cancelled, unless it is answered.
                if call.end == End::Later || end == End::Answered {
                    call.end = end;
                }
                Ok(())
            }
            _ => bail!("found an end of call {number}, expected one that runs"),
        }
    }

    fn story(&self, group: u64, members: &BTreeSet<u64>, begin: u64) -> Timeline {
        let ms = |at: u64| (at as f64 - begin as f64) / 1e6;
        let query = |&query: &u64| Query {
            number: query,
            arrived: self.arrivals.get(&query).map_or(0.0, |&at| ms(at)),
            answer: self.answers.get(&query).map(|(at, given)| (ms(*at), answer(given))),
        };
        let queries: Vec<Query> = members.iter().map(query).collect();
        let own = |call: &&Call| kind(&call.work, group, members) != Kind::Other;
        let ends = self.calls.values().filter(own).map(|call| ms(call.to.unwrap_or(self.last)));
        let answered = queries.iter().filter_map(|query| query.answer).map(|(at, _)| at).reduce(f64::max);
        let most = answered.map_or(f64::INFINITY, |at| at * 3.0);
        // Calls that take much longer than all answers are cut.
        let end = ends.chain(answered).fold(0.0, f64::max).min(most);
        let end = if end > 0.0 { end } else { 1.0 };

        let mut instances: Vec<Instance> = Vec::new();
        let asked: BTreeSet<u64> = self.calls.values().filter(own).map(|call| call.instance).collect();
        for instance in asked {
            let calls = self.calls.values().filter(|call| call.instance == instance);
            let bars = calls.map(|call| bar(call, ms, end, kind(&call.work, group, members)));
            let calls = bars.filter(|bar| bar.from <= end && bar.to >= 0.0).collect();
            instances.push(Instance { number: instance, calls });
        }
        let notes = members.iter().filter_map(|&query| self.note(query, ms)).collect();
        Timeline { group, queries, instances, notes, end }
    }

    /// The note on a query that did not get its own prediction.
    fn note(&self, query: u64, ms: impl Fn(u64) -> f64) -> Option<String> {
        let (at, given) = self.answers.get(&query)?;
        let when = ms(*at);
        let what = match given {
            Given::Prediction => return None,
            Given::Reconstructed { queries, parities, workers, .. } => {
                let parts = [("query", queries), ("parity", parities), ("worker", workers)];
                let parts = parts
                    .iter()
                    .flat_map(|(what, numbers)| numbers.iter().map(move |n| format!("{what} {n}")));
                format!("rebuilt at {when:.1} ms from {}", listed(&parts.collect::<Vec<_>>()))
            }
            Given::Approximate => format!("answered by the approximate model at {when:.1} ms"),
            Given::Deadline => format!("a default answer at {when:.1} ms, its deadline"),
            Given::Failed => format!("a default answer at {when:.1} ms, when all calls had failed"),
        };
        let own = |call: &&Call| match &call.work {
            Work::Deployed { queries } | Work::Copy { queries } => queries.contains(&query),
            _ => false,
        };
        let came = self.calls.values().filter(own).filter(|call| call.end == End::Answered);
        let came = match came.filter_map(|call| call.to).min() {
            Some(at) => format!("its own prediction came at {:.1} ms", ms(at)),
            None => "its own prediction never came".to_owned(),
        };
        Some(format!("Query {query}: {what}; {came}."))
    }
}

fn answer(given: &Given) -> Answer {
    match given {
        Given::Prediction => Answer::Prediction,
        Given::Reconstructed { .. } => Answer::Reconstructed,
        Given::Approximate => Answer::Approximate,
        Given::Deadline | Given::Failed => Answer::Default,
    }
}

fn kind(work: &Work, group: u64, members: &BTreeSet<u64>) -> Kind {
    let of = |queries: &[u64]| queries.iter().any(|query| members.contains(query));
    match work {
        Work::Deployed { queries } if of(queries) => Kind::Deployed,
        Work::Copy { queries } if of(queries) => Kind::Copy,
        Work::Approximate { queries } if of(queries) => Kind::Approximate,
        Work::Parity { group: other, .. } if *other == group => Kind::Parity,
        Work::Coded { group: other, .. } if *other == group => Kind::Coded,
        _ => Kind::Other,
    }
}

fn bar(call: &Call, ms: impl Fn(u64) -> f64, until: f64, kind: Kind) -> Bar {
    let (from, to) = (ms(call.from), call.to.map(ms).filter(|&to| to <= until));
    let label = match &call.work {
        _ if kind == Kind::Other => String::new(),
        Work::Deployed { queries } | Work::Copy { queries } | Work::Approximate { queries } => {
            queries.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        }
        Work::Parity { parity, .. } => format!("parity {parity}"),
        Work::Coded { worker, .. } => format!("worker {worker}"),
    };
    let end = if to.is_some() { call.end } else { End::Later };
    Bar { from: from.max(0.0), to: to.unwrap_or(until), kind, end, label }
}

/// "a, b and c"
fn listed(items: &[String]) -> String {
    match items {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
