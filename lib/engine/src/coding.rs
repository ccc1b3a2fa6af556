//! The code, and whether queries are coded now.

use std::collections::VecDeque;

use crate::Time;
use crate::action::CodingOff;
use crate::code::CodeRule;
use crate::config::{Agreement, Completion, Groups};
use crate::mask::Mask;

/// The code of all groups, and whether it is used now.
#[derive(Debug)]
pub(crate) struct Coding {
    rule: CodeRule,
    /// The version of the deployed model that the code was made for.
    version: u64,
    /// How long a batch waits for others to fill its group.
    pub(crate) group_delay: Time,
    completion: Completion,
    comparisons: Option<Comparisons>,
    off: Option<CodingOff>,
}

impl Coding {
    pub(crate) fn new(groups: Groups) -> Self {
        let Groups { code, version, group_delay, completion, agreement } = groups;
        let comparisons = agreement.map(Comparisons::new);
        Self { rule: code, version, group_delay, completion, comparisons, off: None }
    }

    pub(crate) fn rule(&self) -> &CodeRule {
        &self.rule
    }

    /// The slots that the answers of these workers give or rebuild.
    pub(crate) fn rebuilds(&mut self, available: Mask) -> Mask {
        self.rule.rebuilds(available)
    }

    /// Why coding is off; none if it is on.
    pub(crate) fn off(&self) -> Option<CodingOff> {
        self.off
    }

    pub(crate) fn is_on(&self) -> bool {
        self.off.is_none()
    }

    /// True if queries are answered by decoding alone.
    pub(crate) fn answers_by_decoding(&self) -> bool {
        self.is_on() && !self.rule.is_systematic()
    }

    /// True if known queries complete groups.
    pub(crate) fn completes(&self) -> bool {
        self.completion == Completion::Known
    }

    pub(crate) fn switch_off(&mut self, reason: CodingOff) {
        self.off = Some(reason);
    }

    /// A reconstruction was compared with the prediction; true if coding must be switched off.
    pub(crate) fn compared(&mut self, agree: bool) -> bool {
        self.comparisons.as_mut().is_some_and(|comparisons| comparisons.add(agree)) && self.is_on()
    }

    /// The deployed model has this version now; true if coding must be switched off.
    pub(crate) fn version(&mut self, version: u64) -> bool {
        let is_off = self.off == Some(CodingOff::Version);
        if self.version == version && is_off {
            self.off = None;
        }
        self.version != version && !is_off
    }

    /// Coding is on again after it was switched off for its agreement, which is counted anew.
    pub(crate) fn resume(&mut self) {
        if self.off == Some(CodingOff::Agreement) {
            self.off = None;
            if let Some(comparisons) = &mut self.comparisons {
                *comparisons = Comparisons::new(comparisons.agreement);
            }
        }
    }
}

/// The last comparisons of reconstructions with predictions, at most a window of them.
#[derive(Debug)]
struct Comparisons {
    agreement: Agreement,
    last: VecDeque<bool>,
    /// How many of the last ones agree.
    agreeing: usize,
}

impl Comparisons {
    fn new(agreement: Agreement) -> Self {
        Self { agreement, last: VecDeque::new(), agreeing: 0 }
    }

    /// Adds one; true if the window is full and too few agree.
    fn add(&mut self, agrees: bool) -> bool {
        let Agreement { window, at_least } = self.agreement;
        if self.last.len() == window && self.last.pop_front() == Some(true) {
            self.agreeing -= 1;
        }
        self.last.push_back(agrees);
        self.agreeing += usize::from(agrees);
        self.last.len() == window && (self.agreeing as f64) < at_least * window as f64
    }
}
