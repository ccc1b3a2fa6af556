//! Drills: faults that are committed during a measurement, and what they cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Outcome, Record, Time};

/// Faults, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Drill(pub Vec<Fault>);

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Its name in reports.
    pub name: String,
    /// When it is committed, in seconds after the warm-up.
    pub at_s: f64,
    /// What is done.
    pub action: Action,
}

/// What a drill does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL to a process.
    Kill(u32),
    /// SIGSTOP to a process.
    Stop(u32),
    /// SIGCONT to a process.
    Continue(u32),
    /// Runs a command.
    Run(Vec<String>),
}

/// A drill that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// It is not the JSON of a drill.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It has no faults.
    #[error("found no faults, expected at least one")]
    Empty,
    /// A fault that does nothing, or several things.
    #[error("faults[{place}]: found {found} of kill, stop, continue and run, expected one")]
    Actions {
        /// Its index, from 0.
        place: usize,
        /// How many there are.
        found: usize,
    },
    /// A process that must not be killed.
    #[error("faults[{place}]: found process {pid}, expected a number from 2 to 2147483647")]
    Process {
        /// Its index, from 0.
        place: usize,
        /// The number.
        pid: u64,
    },
    /// A command without a program.
    #[error("faults[{0}]: found an empty command, expected a program and its arguments")]
    Command(usize),
    /// A time that is not one, or earlier than that of the fault before.
    #[error("faults[{place}]: found at_s {at_s}, expected a number from {least}")]
    Time {
        /// Its index, from 0.
        place: usize,
        /// The time, in seconds.
        at_s: f64,
        /// The time of the fault before.
        least: f64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrillFile {
    faults: Vec<FaultFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFile {
    at_s: f64,
    name: Option<String>,
    kill: Option<u64>,
    stop: Option<u64>,
    r#continue: Option<u64>,
    run: Option<Vec<String>>,
}

impl std::str::FromStr for Drill {
    type Err = DrillError;

    /// Reads the JSON of parm-load(1).
    fn from_str(text: &str) -> Result<Self, DrillError> {
        let DrillFile { faults } = serde_json::from_str(text)?;
        let mut least = 0.0;
        let fault = |(place, fault): (usize, FaultFile)| {
            let FaultFile { at_s, name, kill, stop, r#continue, run } = fault;
            if !(least..=1e7).contains(&at_s) {
                return Err(DrillError::Time { place, at_s, least });
            }
            least = at_s;
            let process = |pid: u64| match u32::try_from(pid) {
                Ok(process @ 2..=0x7fff_ffff) => Ok(process),
                _ => Err(DrillError::Process { place, pid }),
            };
            let actions = [
                kill.map(|pid| Ok(Action::Kill(process(pid)?))),
                stop.map(|pid| Ok(Action::Stop(process(pid)?))),
                r#continue.map(|pid| Ok(Action::Continue(process(pid)?))),
                run.map(
                    |run| if run.is_empty() { Err(DrillError::Command(place)) } else { Ok(Action::Run(run)) },
                ),
            ];
            let mut actions: Vec<_> = actions.into_iter().flatten().collect();
            match (actions.pop(), actions.len()) {
                (Some(action), 0) => {
                    let action = action?;
                    Ok(Fault { name: name.unwrap_or_else(|| action.to_string()), at_s, action })
                }
                (action, more) => {
                    Err(DrillError::Actions { place, found: more + usize::from(action.is_some()) })
                }
            }
        };
        let faults = faults.into_iter().enumerate().map(fault).collect::<Result<Vec<_>, _>>()?;
        if faults.is_empty() { Err(DrillError::Empty) } else { Ok(Self(faults)) }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kill(pid) => write!(to, "kill {pid}"),
            Self::Stop(pid) => write!(to, "stop {pid}"),
            Self::Continue(pid) => write!(to, "continue {pid}"),
            Self::Run(command) => to.write_str(&command.join(" ")),
        }
    }
}

/// The requests of a drill.
#[derive(Clone, Debug)]
pub struct DrillLog {
    rows: usize,
    requests: Vec<Request>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    due: Time,
    ended: Time,
    is_answered: bool,
    reconstructed: usize,
    correct: Option<usize>,
}

/// What a fault cost: the requests that were open when it was committed, and those that were due until the next fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Impact {
    /// The number of these requests.
    pub requests: u64,
    /// Those without an answer.
    pub lost: u64,
    /// The longest latency of answers, in ms.
    pub worst_ms: Option<f64>,
    /// How long it took until the P99 of a second was that of before the first fault, in ms; none if it did not happen
    /// before the next fault or the end. [`DrillLog::impacts`] finds it.
    pub recovery_ms: Option<f64>,
    /// The share of rebuilt rows among the answered ones.
    pub reconstructed: Option<f64>,
    /// The share of right rows, with labels.
    pub accuracy: Option<f64>,
}

/// The time over which a P99 is taken, in ns.
const WINDOW: Time = 1_000_000_000;

/// The P99 that counts as that of before, as a multiple of it.
const LIKE_BEFORE: f64 = 1.1;

impl DrillLog {
    /// The log of a measurement with so many rows in a request.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        Self { rows, requests: Vec::new() }
    }

    /// Adds a request.
    pub fn add(&mut self, record: &Record) {
        self.requests.push(Request {
            due: record.intended_ns,
            ended: record.ended_ns,
            is_answered: record.outcome == Outcome::Answered,
            reconstructed: record.reconstructed,
            correct: record.correct,
        });
    }

    /// What faults cost that were committed at these times, in ns after the warm-up and in order.
    ///
    /// The P99 of before is the greatest P99 of a second before the first fault. It is reached again at the first
    /// moment from which on the P99 of a second is at most 1.1 times as long. A request without an answer counts as
    /// longer than all others.
    #[must_use]
    pub fn impacts(&mut self, faults: &[Time]) -> Vec<Impact> {
        self.requests.sort_by_key(|request| request.due);
        let limit = faults.first().and_then(|&first| self.before(first));
        let ends = faults.iter().skip(1).copied().chain([Time::MAX]);
        faults.iter().zip(ends).map(|(&begin, end)| self.impact(begin, end, limit)).collect()
    }

    /// The longest latency of an answer in ns that counts as fast after the fault at `first`; none without a second
    /// of answers before it.
    fn before(&self, first: Time) -> Option<Time> {
        let windows = first / WINDOW;
        let worst = (1..=windows).filter_map(|back| {
            let begin = first - back * WINDOW;
            // What was open at the fault was affected by it.
            let within =
                |request: &&Request| (begin..begin + WINDOW).contains(&request.due) && request.ended <= first;
            let mut latencies: Vec<Time> =
                self.requests.iter().filter(within).map(Request::latency).collect();
            latencies.sort_unstable();
            latencies.get(rank(latencies.len()).checked_sub(1)?).copied()
        });
        worst.max().map(|worst| (worst as f64 * LIKE_BEFORE) as Time)
    }

    fn impact(&self, begin: Time, end: Time, limit: Option<Time>) -> Impact {
        let due = |time: Time| self.requests.partition_point(|request| request.due < time);
        let (first, last) = (due(begin), due(end));
        let open = self.requests.iter().take(first).filter(|request| request.ended > begin);
        let after = self.requests.get(first..last).unwrap_or_default();
        let mut impact = Impact {
            requests: 0,
            lost: 0,
            worst_ms: None,
            recovery_ms: limit.and_then(|limit| recovery(after, begin, limit)),
            reconstructed: None,
            accuracy: None,
        };
        let (mut reconstructed, mut judged, mut correct) = (0, 0, 0);
        for request in open.chain(after) {
            impact.requests += 1;
            reconstructed += request.reconstructed;
            judged += usize::from(request.correct.is_some());
            correct += request.correct.unwrap_or(0);
            if request.is_answered {
                let ms = request.latency() as f64 / 1e6;
                impact.worst_ms = Some(impact.worst_ms.map_or(ms, |worst| worst.max(ms)));
            } else {
                impact.lost += 1;
            }
        }
        let share = |count: usize, requests: u64| {
            (requests > 0).then(|| count as f64 / (requests as f64 * self.rows as f64))
        };
        impact.reconstructed = share(reconstructed, impact.requests - impact.lost);
        impact.accuracy = share(correct, judged as u64);
        impact
    }
}

impl Request {
    /// The latency; of a request without an answer the longest time.
    fn latency(&self) -> Time {
        if self.is_answered { self.ended.saturating_sub(self.due) } else { Time::MAX }
    }
}

/// The rank of the P99 among so many, from 1.
fn rank(count: usize) -> usize {
    (count * 99).div_ceil(100)
}

/// The time from `begin`, in ms, to the first moment from which on the P99 of a second of these requests, which are in
/// order of time, is within the limit.
fn recovery(requests: &[Request], begin: Time, limit: Time) -> Option<f64> {
    let end = requests.last()?.due;
    let mut slow = vec![0_usize];
    for request in requests {
        slow.push(slow.last().copied().unwrap_or(0) + usize::from(request.latency() > limit));
    }
    let mut moments = std::iter::once(begin).chain(requests.iter().map(|request| request.due));
    let is_like_before = |&moment: &Time| {
        let due = |time: Time| requests.partition_point(|request| request.due < time);
        let (first, last) = (due(moment), due(moment + WINDOW));
        let slow = slow.get(last).zip(slow.get(first)).map_or(0, |(last, first)| last - first);
        let count = last - first;
        moment + WINDOW <= end && count > 0 && slow <= count - rank(count)
    };
    moments.find(is_like_before).map(|moment| (moment - begin) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Time = 1_000_000;

    #[test]
    fn a_drill_is_read() {
        let text = r#"{"faults": [{"at_s": 1, "kill": 77}, {"at_s": 2.5, "stop": 78, "name": "silence"},
            {"at_s": 2.5, "continue": 78}, {"at_s": 4, "run": ["sh", "-c", "true"]}]}"#;
        let Drill(faults) = text.parse().unwrap();
        let names: Vec<(&str, f64)> = faults.iter().map(|fault| (fault.name.as_str(), fault.at_s)).collect();
        assert_eq!(names, [("kill 77", 1.0), ("silence", 2.5), ("continue 78", 2.5), ("sh -c true", 4.0)]);
        assert_eq!((&faults[0].action, &faults[1].action), (&Action::Kill(77), &Action::Stop(78)));
    }

    #[test]
    fn what_is_no_drill_is_refused() {
        for (faults, expected) in [
            ("", "found no faults, expected at least one"),
            (r#"{"at_s": 1}"#, "faults[0]: found 0 of kill, stop, continue and run, expected one"),
            (r#"{"at_s": 1, "kill": 5, "stop": 5}"#, "faults[0]: found 2 of kill, stop,"),
            (r#"{"at_s": 1, "kill": 1}"#, "faults[0]: found process 1, expected a number from 2"),
            (r#"{"at_s": 1, "stop": 4294967297}"#, "faults[0]: found process 4294967297"),
            (r#"{"at_s": 1, "run": []}"#, "faults[0]: found an empty command"),
            (
                r#"{"at_s": 2, "kill": 5}, {"at_s": 1, "kill": 5}"#,
                "faults[1]: found at_s 1, expected a number from 2",
            ),
            (r#"{"at_s": -1, "kill": 5}"#, "faults[0]: found at_s -1, expected a number from 0"),
            (r#"{"at_s": 1, "kill": -5}"#, "invalid value: integer `-5`, expected u64 at line 1"),
            (r#"{"at_s": 1, "burn": 5}"#, "unknown field `burn`, expected one of"),
        ] {
            let error = format!(r#"{{"faults": [{faults}]}}"#).parse::<Drill>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{faults}: {error}");
        }
    }

    /// A request every 5 ms for 12 s, of 10 ms, with faults at 3 s and 8 s.
    fn log(mut each: impl FnMut(Time, &mut Record)) -> DrillLog {
        let mut log = DrillLog::new(1);
        for number in 0..2400 {
            let due = number * 5 * MS;
            let mut record = Record::new(200.0, number, due, Outcome::Answered);
            record.ended_ns = due + 10 * MS;
            record.correct = Some(1);
            each(due / MS, &mut record);
            log.add(&record);
        }
        log
    }

    const FAULTS: [Time; 2] = [3000 * MS, 8000 * MS];

    #[test]
    fn a_fault_without_effect_costs_nothing() {
        let impacts = log(|_, _| {}).impacts(&FAULTS);
        // One request is open at each fault: that of 5 ms before it.
        let nothing = Impact {
            requests: 1001,
            lost: 0,
            worst_ms: Some(10.0),
            recovery_ms: Some(0.0),
            reconstructed: Some(0.0),
            accuracy: Some(1.0),
        };
        assert_eq!(impacts, [nothing, Impact { requests: 801, ..nothing }]);
    }

    #[test]
    fn lost_and_slow_requests_are_those_of_the_fault_that_they_follow() {
        let impacts = log(|due, record| match due {
            // Open at the first fault, and lost by it.
            2995 => {
                record.outcome = Outcome::Unreachable;
                record.correct = None;
                record.ended_ns = 3001 * MS;
            }
            3000..3175 => record.ended_ns += 30 * MS,
            3500..3600 => (record.reconstructed, record.correct) = (1, Some(0)),
            8000..8500 => record.outcome = Outcome::Timeout,
            _ => {}
        })
        .impacts(&FAULTS);
        let [first, second] = [impacts[0], impacts[1]];
        assert_eq!((first.requests, first.lost, first.worst_ms), (1001, 1, Some(40.0)));
        // Of the 200 requests of a second two may be slow.
        assert_eq!(first.recovery_ms, Some(165.0));
        assert_eq!((first.reconstructed, first.accuracy), (Some(20.0 / 1000.0), Some(980.0 / 1000.0)));
        assert_eq!((second.lost, second.worst_ms, second.recovery_ms), (100, Some(10.0), Some(490.0)));
    }

    #[test]
    fn without_a_before_or_an_after_there_is_no_recovery() {
        let slow = |due: Time, record: &mut Record| {
            if due >= 3000 {
                record.ended_ns += 2 * MS;
            }
        };
        let recovery =
            |impacts: Vec<Impact>| impacts.iter().map(|impact| impact.recovery_ms).collect::<Vec<_>>();
        assert_eq!(recovery(log(slow).impacts(&FAULTS)), [None, None]);
        // The first second has no second before it, and the last one is not complete.
        assert_eq!(recovery(log(|_, _| {}).impacts(&[500 * MS])), [None]);
        assert_eq!(recovery(log(|_, _| {}).impacts(&[11_500 * MS])), [None]);
        assert_eq!(recovery(DrillLog::new(1).impacts(&FAULTS)), [None, None]);
    }
}
