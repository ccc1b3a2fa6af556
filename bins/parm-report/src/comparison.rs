//! Compares the quantities of two folders.

use parm::score::Interval;
use parm::statistics::Estimate;

use crate::folder::Folder;
use crate::result::{Quantity, quantities};

/// What the difference of a quantity shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// The interval of the difference contains 0.
    Open,
    /// There is no interval.
    Unknown,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Open => "no difference shown",
            Self::Unknown => "no interval",
        }
    }
}

/// A quantity in both folders, over all pairs of files with the same name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// The name of the files, without their folders if there are several.
    pub(crate) file: String,
    pub(crate) name: String,
    /// The number of pairs of files.
    pub(crate) pairs: usize,
    /// The means in the folder, and in the one that it is compared with.
    pub(crate) value: f64,
    pub(crate) other: f64,
    /// The 95 % interval of the difference.
    pub(crate) interval: Option<Interval>,
    pub(crate) verdict: Verdict,
}

impl Difference {
    /// The difference of the means.
    pub(crate) fn difference(&self) -> f64 {
        self.value - self.other
    }
}

/// The differences between two folders.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// By verdict, and then in the order of the files.
    pub(crate) differences: Vec<Difference>,
}

/// Two values of one quantity.
struct Pair {
    here: Quantity,
    there: Quantity,
}

/// The pairs of a quantity, in files of one name.
struct Pairs {
    /// The path of the only file, or the file name of several.
    file: String,
    pairs: Vec<Pair>,
}

impl Comparison {
    /// Compares the quantities of files that have the same path in both folders. Files of the same name in several
    /// subfolders, such as those of seeds, are repetitions of one comparison.
    pub(crate) fn new(folder: &Folder, other: &Folder) -> Self {
        let mut all: Vec<Pairs> = Vec::new();
        for (kind, entry) in folder.results() {
            let Some((_, twin)) = other.results().find(|(its, twin)| *its == kind && twin.name == entry.name)
            else {
                continue;
            };
            let there = quantities(kind, &twin.value);
            for here in quantities(kind, &entry.value) {
                let Some(there) = there.iter().find(|there| there.name == here.name).cloned() else {
                    continue;
                };
                let same = |pairs: &&mut Pairs| {
                    file_name(&pairs.file) == file_name(&entry.name) && pairs.pairs[0].here.name == here.name
                };
                match all.iter_mut().find(same) {
                    Some(pairs) => {
                        file_name(&entry.name).clone_into(&mut pairs.file);
                        pairs.pairs.push(Pair { here, there });
                    }
                    None => all.push(Pairs { file: entry.name.clone(), pairs: vec![Pair { here, there }] }),
                }
            }
        }
        let mut differences: Vec<Difference> = all.iter().filter_map(Pairs::difference).collect();
        differences.sort_by_key(|difference| difference.verdict);
        Self { differences }
    }

    /// How many quantities have a verdict.
    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.differences.iter().filter(|difference| difference.verdict == verdict).count()
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Pairs {
    fn difference(&self) -> Option<Difference> {
        let first = self.pairs.first()?;
        let values = |of: fn(&Pair) -> f64| self.pairs.iter().map(of).collect::<Vec<f64>>();
        let differences = Estimate::of(&values(|pair| pair.here.value - pair.there.value))?;
        let interval = if self.pairs.len() > 1 { differences.interval() } else { apart(first) };
        let verdict = match interval {
            None => Verdict::Unknown,
            Some(Interval { low, high }) if low <= 0.0 && high >= 0.0 => Verdict::Open,
            Some(Interval { low, .. }) if (low > 0.0) == first.here.larger_is_better => Verdict::Better,
            Some(_) => Verdict::Worse,
        };
        Some(Difference {
            file: self.file.clone(),
            name: first.here.name.clone(),
            pairs: self.pairs.len(),
            value: Estimate::of(&values(|pair| pair.here.value))?.mean,
            other: Estimate::of(&values(|pair| pair.there.value))?.mean,
            interval,
            verdict,
        })
    }
}

/// The interval of the difference of two independent values, from their own intervals.
fn apart(pair: &Pair) -> Option<Interval> {
    let (here, there) = pair.here.interval.zip(pair.there.interval)?;
    let difference = pair.here.value - pair.there.value;
    // The distances of the ends from the values add up as those of independent errors do.
    let down = (pair.here.value - here.low).hypot(there.high - pair.there.value);
    let up = (here.high - pair.here.value).hypot(pair.there.value - there.low);
    Some(Interval { low: difference - down, high: difference + up })
}
