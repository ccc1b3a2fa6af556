//! Requests: their rows, their answers, and their responses.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parm_engine::{Arrival, Outcome, Reason, Rejection, Time};
use tokio::sync::oneshot;

use super::checks::Facts;
use super::driver::{Driver, Input, Open, Row};
use super::rows::Rebuilt;
use super::{Ask, How, Payload, RowAnswer, Values};
use parm_config::Fallback;
use parm_oip::{Error, Status};

impl Driver {
    pub(super) fn ask(
        &mut self,
        now: Time,
        id: u64,
        ask: Ask,
        facts: &[Facts],
        reply: oneshot::Sender<Result<Vec<RowAnswer>, Error>>,
    ) {
        let longest = self.longest;
        let wait = ask.deadline.map(|wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).min(longest));
        let inputs = match ask.payload {
            Payload::Rows { inputs, rows } => self.cut(&inputs, rows),
            Payload::Whole(request) => vec![Input::Whole(request)],
        };
        let count = inputs.len();
        let class = self.classes.of(ask.parameters);
        let open = Open {
            reply,
            arrived: now,
            answers: vec![None; count],
            left: count,
            queries: Vec::with_capacity(count),
            headers: ask.headers,
        };
        self.requests.insert(id, open);
        for (place, input) in inputs.into_iter().enumerate() {
            let Facts { finite, norm } = facts.get(place).copied().unwrap_or_default();
            self.last_row += 1;
            let row = self.rows.insert(Row {
                number: self.last_row,
                request: id,
                place,
                arrived: now,
                sent: false,
                input,
                class: class.clone(),
                prediction: None,
                approximate: None,
                rebuilt: None,
                norm,
                failure: None,
            });
            let arrival = Arrival {
                row: row as u64,
                deadline: wait.map(|wait| now.saturating_add(wait)),
                priority: ask.priority,
                allow_reconstructed: ask.allow_reconstructed,
                coded: finite && self.scale.fits(norm),
                redundancy: ask.redundancy,
                request: id,
                class: class.as_ref().map_or(0, |class| class.number),
            };
            match self.engine.arrive(now, arrival) {
                Ok(query) => {
                    let number = self.last_row;
                    self.note(|journal, _| Some(journal.arrived(now, row as u64, number - 1)));
                    if let Some(open) = self.requests.get_mut(&id) {
                        open.queries.push(query);
                    }
                }
                Err(rejection) => {
                    self.rows.remove(row);
                    let text = rejection.to_string();
                    let error = match rejection {
                        Rejection::Expired { .. } => Error::new(Status::DeadlineExceeded, text),
                        Rejection::Queries { retry, .. } | Rejection::Queue { retry, .. } => {
                            Error::unavailable(text, Duration::from_nanos(retry))
                        }
                    };
                    self.fail_request(now, id, error);
                    return;
                }
            }
        }
    }

    /// The rows of a request, as slices of its inputs.
    fn cut(&self, inputs: &[Bytes], rows: usize) -> Vec<Input> {
        let sizes: Vec<usize> =
            self.options.spec.iter().flat_map(|spec| &spec.inputs).map(|input| input.bytes).collect();
        let row = |row: usize| {
            let slices =
                inputs.iter().zip(&sizes).map(|(input, size)| input.slice(row * size..(row + 1) * size));
            Input::Row(slices.collect())
        };
        (0..rows).map(row).collect()
    }

    pub(super) fn give_up(&mut self, now: Time, id: u64) {
        if let Some(open) = self.requests.remove(&id) {
            for query in open.queries {
                self.engine.cancel(now, query);
            }
        }
    }

    /// Answers a request with an error, and cancels its other rows.
    fn fail_request(&mut self, now: Time, id: u64, error: Error) {
        let Some(open) = self.requests.remove(&id) else { return };
        self.stats.failed_requests += 1;
        for query in open.queries {
            self.engine.cancel(now, query);
        }
        // The client may have stopped waiting.
        let _ = open.reply.send(Err(error));
    }

    /// Answers a query as the engine decided.
    pub(super) fn answer(&mut self, now: Time, row: u64, outcome: Outcome) {
        let Some(held) = self.rows.get(row as usize) else { return };
        let (id, place) = (held.request, held.place);
        let gone = || Error::new(Status::Internal, "the answer is missing");
        let (nothing, lost) = (|| Err(gone()), || Err(gone()));
        let answer = match outcome {
            Outcome::Prediction { .. } => {
                let values = held.prediction.clone().map_or_else(nothing, Ok);
                values.map(|values| RowAnswer { values, how: How::Prediction })
            }
            Outcome::Approximate { .. } => {
                let values = held.approximate.clone().map_or_else(nothing, Ok);
                values.map(|values| RowAnswer { values, how: How::Approximate })
            }
            Outcome::Reconstructed(_) => {
                let how = |rebuilt: &Rebuilt| How::Reconstructed { confidence: rebuilt.confidence };
                let rebuilt = held.rebuilt.clone();
                rebuilt.map_or_else(lost, |rebuilt| {
                    Ok(RowAnswer { how: how(&rebuilt), values: Values::Row(rebuilt.outputs) })
                })
            }
            Outcome::Default(reason) => self.fallback(reason, held),
            Outcome::Refused => Err(held.failure.clone().unwrap_or_else(gone)),
        };
        if let Some(held) = self.rows.get(row as usize) {
            let time = Duration::from_nanos(now.saturating_sub(held.arrived));
            self.stats.answered(Duration::from_nanos(now), time);
        }
        match answer {
            Ok(answer) => self.answered_row(id, place, answer),
            Err(error) => self.fail_request(now, id, error),
        }
    }

    fn answered_row(&mut self, id: u64, place: usize, answer: RowAnswer) {
        let Some(open) = self.requests.get_mut(&id) else { return };
        if let Some(slot) = open.answers.get_mut(place)
            && slot.replace(answer).is_none()
        {
            open.left -= 1;
        }
        if open.left == 0
            && let Some(open) = self.requests.remove(&id)
        {
            self.stats.requests.record(Duration::from_nanos(self.now().saturating_sub(open.arrived)));
            self.stats.last_answer = Some(SystemTime::now());
            // The client may have stopped waiting.
            let _ = open.reply.send(Ok(open.answers.into_iter().flatten().collect()));
        }
    }

    fn fallback(&self, reason: Reason, row: &Row) -> Result<RowAnswer, Error> {
        let why = row.failure.as_ref().map_or(String::new(), |failure| format!(": {failure}"));
        match (self.options.fallback, &self.options.spec) {
            (Fallback::Zeros, Some(spec)) => {
                let zeros = spec.outputs.iter().map(|output| Bytes::from(vec![0; output.bytes])).collect();
                Ok(RowAnswer { values: Values::Row(zeros), how: How::Default(reason) })
            }
            _ => Err(match reason {
                Reason::Deadline => Error::new(
                    Status::DeadlineExceeded,
                    format!("the deadline passed without an answer{why}"),
                ),
                Reason::Failed => {
                    let retry = Duration::from_nanos(self.engine.backlog());
                    Error::unavailable(format!("no instance gave an answer{why}"), retry)
                }
            }),
        }
    }
}
